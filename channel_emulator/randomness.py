"""Randomness of a frame: streams that follow from the emulator's seed, the device and the frame's number alone."""

import json
from dataclasses import asdict, dataclass
from hashlib import sha256

import numpy as np

from semlink.channel.base import Channel, Noisy


@dataclass(frozen=True)
class FrameRandomness:
    """The randomness that one frame meets.

    It depends on nothing else: not on which device came first, nor on what was sent before. A frame that is
    sent again meets the same damage.
    """

    seed: int
    """Of the emulator."""
    device_id: str
    """Who sends."""
    frame_id: int
    """Which of its frames."""
    layer: int = 0
    """Which layer of the view."""
    attempt: int = 0
    """Which try of the layer."""

    def stream(self, *of: int) -> np.random.Generator:
        """The stream of flips and noise; with numbers another, independent of it, as for the channel's state.

        Layers and tries of a view meet errors of their own, but one state: that which its device asks for.
        """
        entropy = [self.seed, int.from_bytes(sha256(self.device_id.encode()).digest()), self.frame_id]
        if not of and (self.layer or self.attempt):
            entropy += [self.layer, self.attempt]
        return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=of))

    @property
    def start(self) -> int:
        """Which matrices of a measured channel the device's frame 0 meets; its others count on from there."""
        return int.from_bytes(sha256(f"{self.seed} {self.device_id}".encode()).digest()[:8])

    def state_id(self, channel: Channel) -> bytes:
        """Stands for the state of a channel that the frame meets."""
        declared = {name: value for name, value in asdict(channel).items() if name != "channel_file"}
        if isinstance(channel, Noisy) and channel.recording is not None:
            declared["channel_file"] = channel.recording.digest
        about = [channel.name, declared, self.seed, self.device_id, self.frame_id]
        return sha256(json.dumps(about).encode()).digest()[:16]
