"""Distortion: expected squared error of one uniformly quantized value, with and without bit errors."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_CONVEX_BIT_ERROR_RATE = 3 / 13
"""Up to here the one-error bound is convex and decreasing in the number of bits (IAQ, Proposition 1)."""


def one_error_bound(bits: ArrayLike, bit_error_rate: float, *, value_range: float = 1.0) -> NDArray[np.float64]:
    """Upper bound D(2^M; μ) on the squared error of one value, at most one of its bits flipped.

    IAQ, Theorem 2, equation (21), as printed, per value: D0 is R²/4 here, not P²C·R²/4. At μ = 0 it is the
    quantizer's worst case R²/4·4^-M of equations (7)-(8). It defines the paper's modified methods, although
    it is not what its own derivation gives: see `corrected_one_error_bound`.

    Args:
        bits: number of bits M, any shape, real values ≥ 0.
        bit_error_rate: μ, in [0, 1).
        value_range: R = u_max - u_min.

    Returns:
        The bound, in squared units of `value_range`, in the shape of `bits`.

    >>> one_error_bound([1, 2], 0.0)
    array([0.0625  , 0.015625])
    """
    bits, rate = _checked(bits, bit_error_rate)
    levels = np.exp2(bits)
    bracket = 4 / 3 * rate * levels**2 + 4 * rate * levels + 1 - 16 / 3 * rate
    return value_range**2 / 4 / (1 - rate) * ((1 - rate) / 4) ** bits * bracket


def corrected_one_error_bound(
    bits: ArrayLike, bit_error_rate: float, *, value_range: float = 1.0
) -> NDArray[np.float64]:
    """Upper bound on the squared error of one value, at most one of its bits flipped, as (49c) has it.

    IAQ, Appendix B, (49c), summed: the worst error of an intact value, Δ/2, and of one whose t-th bit flipped,
    2^(M-t)·Δ + Δ/2, weighed by their probabilities. Each of the M squares leaves a 1, of which the printed (21)
    keeps a single one: its braces lack (M-1)·μ. So this is above (21) from M = 2 on, and at M = 0 it is D0, where
    (21) is D0/(1-μ). Over whole numbers of bits it is convex and decreasing up to μ = (√553 - 16)/33 = 0.2278, a
    little below 3/13; over real ones it is convex up to 0.157 only.

    Args:
        bits: number of bits M, any shape, real values ≥ 0.
        bit_error_rate: μ, in [0, 1).
        value_range: R = u_max - u_min.

    Returns:
        The bound, in squared units of `value_range`, in the shape of `bits`.
    """
    bits, rate = _checked(bits, bit_error_rate)
    dropped = value_range**2 / 4 / (1 - rate) * ((1 - rate) / 4) ** bits * (bits - 1) * rate
    return one_error_bound(bits, rate, value_range=value_range) + dropped


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

    >>> expected_distortion([0, 1, 2], 0.05).round(4)
    array([0.0833, 0.0333, 0.0208])
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
