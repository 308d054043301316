"""A channel and importance scores drawn from a seed, for whoever has neither."""

import numpy as np
from numpy.typing import NDArray

from semlink.channel.ofdm import Numerology, draw_channel, subchannel_gains

SCORES_SEED = 100
"""Added to a seed for the scores, so that channel and scores have nothing in common."""


def draw_gains(numerology: Numerology, seed: int) -> NDArray[np.float64]:
    """(F, N_s) singular values of Rayleigh fading."""
    return subchannel_gains(draw_channel(numerology, np.random.default_rng(seed)))


def draw_scores(seed: int, *, patches: int = 196) -> NDArray[np.float64]:
    """(N,) importance, ascending, summing to 1, uneven: Dirichlet of concentration 1/2."""
    return np.sort(np.random.default_rng(seed + SCORES_SEED).dirichlet(np.full(patches, 0.5)))
