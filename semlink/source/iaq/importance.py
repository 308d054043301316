"""Attention scores into weights of the quantization error."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.checks import finite_vector


def importance_weights(scores: ArrayLike, *, gamma: float = 1.0, floor: float = 1e-7) -> NDArray[np.float64]:
    """Weight w(a_i) of every patch's quantization error (IAQ, equation 31).

    The scores are stretched to [0, 1], raised to `gamma`, and lifted by `floor` so that no weight is zero.
    `gamma` above 1 favours the most important patches, below 1 it evens them out.

    Args:
        scores: (N,) attention scores a_i, any real values; only their order and spacing matter.
        gamma: shape of the weight function, > 0.
        floor: smallest weight d, in [0, 1].

    Returns:
        (N,) weights in [floor, 1]; all ones when every score is the same, as then no patch stands out.

    Raises:
        ValueError: an argument is outside these ranges.

    >>> importance_weights([0.1, 0.2, 0.7]).round(3)
    array([0.   , 0.167, 1.   ])
    """
    scores = finite_vector("scores", scores)
    if not (np.isfinite(gamma) and gamma > 0):
        raise ValueError(f"gamma must be a finite number above 0, not {gamma}")
    if not 0 <= floor <= 1:
        raise ValueError(f"floor must be within [0, 1], not {floor}")
    # Below 1 by a power of two, which rounds nothing: the spread of no two doubles overflows or vanishes then.
    scaled = np.ldexp(scores, -np.frexp(np.abs(scores).max())[1])
    low, high = scaled.min(), scaled.max()
    if low == high:
        return np.ones_like(scores)
    weights: NDArray[np.float64] = (1 - floor) * ((scaled - low) / (high - low)) ** gamma + floor
    return weights
