"""A channel and importance scores drawn from a seed, for whoever has neither."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from semlink.ofdm.channel import Numerology, draw_channel, subchannel_gains

SCORES_SEED = 100
"""Added to a seed for the scores, so that channel and scores have nothing in common."""


class Draw(NamedTuple):
    """What `plan` needs."""

    scores: NDArray[np.float64]
    """(N,) importance, ascending, summing to 1."""
    gains: NDArray[np.float64]
    """(F, N_s) singular values."""


def draw(numerology: Numerology, seed: int, *, patches: int = 196) -> Draw:
    """Rayleigh fading from `seed`, and scores as uneven as attention: Dirichlet of concentration 1/2."""
    gains = subchannel_gains(draw_channel(numerology, np.random.default_rng(seed)))
    return Draw(draw_scores(seed, patches=patches), gains)


def draw_scores(seed: int, *, patches: int = 196) -> NDArray[np.float64]:
    """(N,) the scores of `draw`."""
    return np.sort(np.random.default_rng(seed + SCORES_SEED).dirichlet(np.full(patches, 0.5)))
