"""Checks that the methods share."""

from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.checks import finite_vector, integer_within
from semlink.source.iaq.distortion import MAX_CONVEX_BIT_ERROR_RATE


def checked_problem(
    weights: ArrayLike, steps: SupportsIndex, bit_error_rate: float, min_bits: int, max_bits: int
) -> tuple[NDArray[np.float64], int]:
    """Weights and budget of a problem P1 to P4, or ValueError with the name of what is wrong."""
    weights = finite_vector("weights", weights)
    if (weights < 0).any():
        raise ValueError("weights must be 0 or more")
    max_bits = integer_within("max_bits", max_bits, 0, 16)
    min_bits = integer_within("min_bits", min_bits, 0, max_bits)
    steps = integer_within("steps", steps, weights.size * min_bits, weights.size * max_bits)
    if not 0 <= bit_error_rate <= MAX_CONVEX_BIT_ERROR_RATE:
        raise ValueError(
            f"bit_error_rate must be within [0, 3/13], where the distortion is convex, not {bit_error_rate}"
        )
    return weights, steps
