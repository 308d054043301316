"""Hard decisions: the code rate that a binary symmetric channel leaves a block of finite length, and its LLRs.

A use of the channel tells I = 1 - H₂(μ) bits in the mean (its capacity), with the dispersion
V = μ(1 - μ)·log₂²((1 - μ)/μ) (Polyanskiy, Poor and Verdú, 2010, Theorem 52). Codes of 5G, decoded within 30
iterations, fail as the normal approximation says of a channel of less capacity and more dispersion: `LOSS` and
`SPREAD`, fitted to some 100 measured block error rates.
"""

import math

import numpy as np
from numpy.typing import NDArray

from semlink.access.bicm import HIGHEST_RATE, LOWEST_RATE, uses_needed

LOSS, LOSS_EXPONENT = 0.11, 0.28
"""The share of the capacity that is lost is `LOSS`·μ^`LOSS_EXPONENT`: 3 % at μ = 0.01, 5 % at 0.05."""
SPREAD = 2.0
"""The dispersion is so many times that of the channel."""
LEAST_BER = 1e-6
"""Bit error rate below which rates no longer rise."""


def capacity(ber: float) -> float:
    """Bits that a use of the binary symmetric channel carries at best, 1 - H₂(μ) (Shannon, 1948).

    Raises:
        ValueError: μ is outside (0, 1).
    """
    if not 0 < ber < 1:
        raise ValueError(f"ber must be within (0, 1), not {ber}")
    return 1 + ber * math.log2(ber) + (1 - ber) * math.log2(1 - ber)


def code_rate(k: int, *, error: float, ber: float, lowest: float = LOWEST_RATE) -> float:
    """The highest rate at which a block of k bits fails with probability ε at most.

    >>> [round(code_rate(4000, error=error, ber=0.05), 2) for error in (1e-4, 1e-2)]
    [0.62, 0.64]

    Args:
        k: information bits, at least 1.
        error: ε, within (0, 0.5].
        ber: μ of the hard decisions, within [0, 0.5).
        lowest: rate that is not gone below, also where it fails more often.

    Returns:
        R within [`lowest`, `HIGHEST_RATE`].
    """
    ber = max(ber, LEAST_BER)
    dispersion = ber * (1 - ber) * math.log2((1 - ber) / ber) ** 2
    mean = capacity(ber) * (1 - LOSS * ber**LOSS_EXPONENT)
    uses = uses_needed(k, error, mean, SPREAD * dispersion)
    return min(max(k / uses, lowest), HIGHEST_RATE)


def likelihood_ratios(bits: NDArray[np.uint8], ber: float) -> NDArray[np.float32]:
    """log P(0)/P(1) of bits as they were decided, each wrong with probability μ in (0, 1)."""
    reliability = np.float32(math.log1p(-ber) - math.log(ber))
    return reliability * (1 - 2 * bits.astype(np.float32))
