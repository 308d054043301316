"""What a bit buys: expected squared error of one uniformly quantized value, with and without bit errors."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_CONVEX_BIT_ERROR_RATE = 3 / 13
"""Up to here the one-error bound is convex and decreasing in the number of bits (IAQ, Proposition 1)."""


def one_error_bound(bits: ArrayLike, bit_error_rate: float, *, value_range: float = 1.0) -> NDArray[np.float64]:
    """Upper bound D(2^M; μ) on the squared error of one value, at most one of its bits flipped.

    IAQ, Theorem 2, equation (21), as printed, per value: D0 is R²/4 here, not P²C·R²/4. At μ = 0 it is the
    quantizer's worst case R²/4·4^-M of equations (7)-(8). It defines the paper's modified methods, although
    it is not what its own derivation gives: the sum over t in (49c) leaves a term M·μ that the paper drops,
    and at M = 0 it equals D0/(1-μ) rather than D0.

    Args:
        bits: number of bits M, any shape, real values ≥ 0.
        bit_error_rate: μ, in [0, 1).
        value_range: R = u_max - u_min.

    Returns:
        The bound, in squared units of `value_range`, in the shape of `bits`.
    """
    bits, rate = _checked(bits, bit_error_rate)
    levels = np.exp2(bits)
    bracket = 4 / 3 * rate * levels**2 + 4 * rate * levels + 1 - 16 / 3 * rate
    return value_range**2 / 4 / (1 - rate) * ((1 - rate) / 4) ** bits * bracket


def expected_distortion(
    bits: ArrayLike, bit_error_rate: float, *, value_range: float = 1.0
) -> NDArray[np.float64]:
    """Exact mean squared error of one value sent in natural binary over a binary symmetric channel.

    R²·[4^-M·(1/12 - μ/3) + μ/3] for a value uniform over the range, whose M bits are then equiprobable and
    independent, its quantization error uniform in the cell and uncorrelated with the bit flips; any number
    of flips. The paper has no such formula: it bounds the error instead, see `one_error_bound`.

    Args:
        bits: number of bits M, any shape, values ≥ 0.
        bit_error_rate: μ, in [0, 1).
        value_range: R = u_max - u_min.

    Returns:
        The expectation, in squared units of `value_range`, in the shape of `bits`.
    """
    bits, rate = _checked(bits, bit_error_rate)
    return value_range**2 * (0.25**bits * (1 / 12 - rate / 3) + rate / 3)


def _checked(bits: ArrayLike, bit_error_rate: float) -> tuple[NDArray[np.float64], float]:
    bits = np.asarray(bits, dtype=np.float64)
    if not (bits >= 0).all():
        raise ValueError("bits must be 0 or more")
    if not 0 <= bit_error_rate < 1:
        raise ValueError(f"bit_error_rate must be within [0, 1), not {bit_error_rate}")
    return bits, float(bit_error_rate)
