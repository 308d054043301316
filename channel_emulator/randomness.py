"""Where the randomness of a frame comes from."""

from hashlib import sha256

import numpy as np


def random_stream(seed: int, device_id: str, frame_id: int, *of: int) -> np.random.Generator:
    """The randomness that one frame meets.

    It depends on nothing else: not on which device came first, nor on what was sent before. A frame that is
    sent again meets the same flips.

    Args:
        seed: of the emulator.
        device_id: who sends.
        frame_id: which of its frames.
        of: numbers of a stream for something else than flips and noise, independent of all other streams, such as
            `CHANNEL` and what follows it.
    """
    digest = int.from_bytes(sha256(device_id.encode()).digest())
    return np.random.default_rng(np.random.SeedSequence([seed, digest, frame_id], spawn_key=of))


CHANNEL, ESTIMATION = 0, 1
"""Streams of the channel, followed by the number of the coherence time, and of the errors of its estimate."""
