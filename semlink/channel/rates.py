"""Rate of a subchannel: Shannon's, and what a finite block length leaves of it."""

from statistics import NormalDist
from typing import SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.checks import integer_within

TARGET_BLOCK_ERROR_RATE = 1e-3
"""μ̃ where none is given; the paper's text names no value."""


def shannon_rate(snr: ArrayLike) -> NDArray[np.float64]:
    """log2(1 + γ) in bit/s/Hz (IA-QSMPA, equations 11 and 24).

    Args:
        snr: received SNR γ = Pλ²/σ², linear, ≥ 0, any shape.

    Raises:
        ValueError: an SNR is negative.
    """
    rate: NDArray[np.float64] = np.log1p(_checked(snr)) / np.log(2)
    return rate


def dispersion(snr: ArrayLike) -> NDArray[np.float64]:
    """Channel dispersion U(γ) = 1 - 1/(1 + γ)² in squared nats (IA-QSMPA, equation 27).

    Of a complex channel: twice the dispersion (1 - 1/(1 + γ)²)/2 that Polyanskiy, Poor and Verdú (Channel Coding
    Rate in the Finite Blocklength Regime, 2010) give for a real one.

    Args:
        snr: received SNR γ, linear, ≥ 0, any shape.

    Returns:
        Values in [0, 1), in the shape of `snr`.

    Raises:
        ValueError: an SNR is negative.
    """
    snr = _checked(snr)
    # Equal to the formula, without its loss of digits at low SNR.
    return snr / (1 + snr) * ((2 + snr) / (1 + snr))


@overload
def dispersion_penalty(block_error_rate: float, block_length: SupportsIndex) -> float: ...


@overload
def dispersion_penalty(
    block_error_rate: NDArray[np.float64], block_length: SupportsIndex
) -> NDArray[np.float64]: ...


def dispersion_penalty(
    block_error_rate: float | NDArray[np.float64], block_length: SupportsIndex
) -> float | NDArray[np.float64]:
    """Q⁻¹(μ̃)/√L_c, by which √U(γ) is multiplied in equation 27; 2(1 - α) in the paper's other name.

    Args:
        block_error_rate: μ̃, in (0, 1/2], or an array of them; above 1/2 the rate would exceed Shannon's.
        block_length: L_c, symbols of a block, ≥ 1.

    Raises:
        ValueError: an argument is outside these ranges.
    """
    if not ((np.asarray(block_error_rate) > 0) & (np.asarray(block_error_rate) <= 0.5)).all():
        raise ValueError(f"block_error_rate must be within (0, 0.5], not {block_error_rate}")
    block_length = integer_within("block_length", block_length, 1, 2**62)
    if isinstance(block_error_rate, np.ndarray):
        return np.array([dispersion_penalty(float(each), block_length) for each in block_error_rate])
    # Q⁻¹(x) is -Φ⁻¹(x), which keeps the digits of tiny rates; adding 0 makes the -0.0 of 1/2 a plain zero.
    return float(-NormalDist().inv_cdf(block_error_rate) / np.sqrt(block_length)) + 0.0


def finite_blocklength_rate(snr: ArrayLike, penalty: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """max(log2(1 + γ) - penalty·√U(γ)/ln 2, 0) in bit/s/Hz: the normal approximation.

    IA-QSMPA, equations 27 and 38. Where it is above 0 it rises with γ, so a rate belongs to one SNR only.

    Args:
        snr: received SNR γ, linear, ≥ 0, any shape.
        penalty: `dispersion_penalty`, ≥ 0, or an array of them that goes with `snr`; 0 gives Shannon's rate.

    Raises:
        ValueError: an argument is outside these ranges.
    """
    if not (np.isfinite(penalty) & (np.asarray(penalty) >= 0)).all():
        raise ValueError(f"penalty must be finite and at least 0, not {penalty}")
    rate: NDArray[np.float64] = shannon_rate(snr) - penalty / np.log(2) * np.sqrt(dispersion(snr))
    return np.maximum(rate, 0)


def bit_error_rate(block_error_rate: float, block_length: SupportsIndex, *, correction: float = 10.0) -> float:
    """Bit error rate that stands for a block error rate: correction·(1 - (1 - μ̃)^(1/L_c)), at most 1.

    IA-QSMPA, equation 41: a rule of thumb, whose factor of 10 the paper does not derive.

    Args:
        block_error_rate: μ̃, in [0, 1).
        block_length: L_c, symbols of a block, ≥ 1.
        correction: the paper's γ, ≥ 0.

    Raises:
        ValueError: an argument is outside these ranges.
    """
    if not 0 <= block_error_rate < 1:
        raise ValueError(f"block_error_rate must be within [0, 1), not {block_error_rate}")
    if not (np.isfinite(correction) and correction >= 0):
        raise ValueError(f"correction must be finite and at least 0, not {correction}")
    block_length = integer_within("block_length", block_length, 1, 2**62)
    return float(min(1.0, -correction * np.expm1(np.log1p(-block_error_rate) / block_length)))


def _checked(snr: ArrayLike) -> NDArray[np.float64]:
    snr = np.asarray(snr, dtype=np.float64)
    if not (snr >= 0).all():
        raise ValueError("snr must be 0 or more")
    return snr
