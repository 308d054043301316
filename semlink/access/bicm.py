"""Bit-interleaved coded modulation (BICM): the code rate that Gray-labelled QAM leaves a block of finite length.

What a symbol tells a decoder that treats its bits apart is I (Caire, Taricco and Biglieri, Bit-Interleaved Coded
Modulation, 1998, equation 12, here as the mean information density of the bits), and the density's variance is the
dispersion V. A block of k bits that may fail with probability ε then takes N symbols,

    k = N·I - √(N·V)·Q⁻¹(ε),

the normal approximation of Polyanskiy, Poor and Verdú (2010). Codes of 5G need some more power than that; I and V
are taken at an SNR that is lower by `GAP_DB`.
"""

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from semlink.channel.qam import amplitude_ratios, bits_per_symbol, part_of_constellation

GAP_DB = 1.5
"""Gap of the LDPC codes of 5G, with 30 iterations, to the normal approximation, at most, in dB: with it,
blocks of 100 to 8000 bits meet a target of 1e-2 over every QAM, with fading and without."""
LOWEST_RATE, HIGHEST_RATE = 0.2, 0.92
"""Rates that 5G's codes have without repetition, and that its modulations come with."""
_NODES = 48
"""Of the quadratures over noise and fading: the third digit of a rate stands."""


def code_rate(
    k: int, error: float, *, order: int, snr_db: float, fading: bool, lowest: float = LOWEST_RATE
) -> float:
    """The highest rate at which a block of k bits fails with probability ε at most, by the normal approximation.

    >>> [round(code_rate(4000, error, order=16, snr_db=10, fading=False), 2) for error in (1e-4, 1e-2)]
    [0.67, 0.68]

    Args:
        k: information bits, at least 1.
        error: ε, within (0, 0.5].
        order: of the QAM, one of 4, 16, 64, 256.
        snr_db: mean E_s/N0 in dB.
        fading: Rayleigh fading that the receiver knows, another for every symbol.
        lowest: rate that is not gone below, also where it fails more often.

    Returns:
        R within [`lowest`, `HIGHEST_RATE`].
    """
    mean, variance = information_density(order, round(snr_db - GAP_DB, 6), fading)
    if mean <= 0:
        return lowest
    uses = uses_needed(k, error, mean, variance)
    return min(max(k / (uses * bits_per_symbol(order)), lowest), HIGHEST_RATE)


def uses_needed(k: int, error: float, mean: float, variance: float) -> float:
    """Channel uses N of a block of k bits that fails with probability ε, by the normal approximation.

    Args:
        k: information bits.
        error: ε, within (0, 0.5].
        mean: I > 0 of what a use tells, in bits.
        variance: V of it, in squared bits.
    """
    spread = math.sqrt(variance) * NormalDist().inv_cdf(1 - error)
    root = (spread + math.sqrt(spread**2 + 4 * mean * k)) / (2 * mean)  # √N of the quadratic equation
    return root**2


@lru_cache(maxsize=256)
def information_density(order: int, snr_db: float, fading: bool) -> tuple[float, float]:
    """Mean I and variance V of what the bits of a symbol tell, in bits and squared bits.

    Args:
        order: of the QAM, one of 4, 16, 64, 256.
        snr_db: mean E_s/N0 in dB.
        fading: Rayleigh fading that the receiver knows.
    """
    snr = 10 ** (snr_db / 10)
    if not fading:
        mean, square = _of_part(order, snr)
        return 2 * mean, 2 * max(square - mean**2, 0.0)  # of faint noise, rounding may leave less
    powers, weights = np.polynomial.laguerre.laggauss(_NODES)
    seen = weights > 1e-15
    moments = np.array([_of_part(order, snr * power) for power in powers[seen]])
    means, squares = moments.T
    weights = weights[seen]
    # The two parts of a symbol share its fading and nothing else.
    mean = float(2 * weights @ means)
    return mean, max(float(weights @ (2 * (squares - means**2) + 4 * means**2)) - mean**2, 0.0)


def _of_part(order: int, snr: float) -> tuple[float, float]:
    """Mean and mean square of the information density of one part, by Gauss-Hermite quadrature."""
    amplitudes, labels = part_of_constellation(order)
    nodes, weights = np.polynomial.hermite.hermgauss(_NODES)
    noise = 1 / snr
    received = (amplitudes[:, None] + nodes * math.sqrt(noise)).ravel()
    ratios = amplitude_ratios(received, order, np.full(received.size, noise))
    signs = 1 - 2.0 * np.repeat(labels, nodes.size, axis=0)
    density: NDArray[np.float64] = (1 - np.logaddexp(0, -signs * ratios) / math.log(2)).sum(axis=1)
    likely = np.tile(weights, amplitudes.size) / (math.sqrt(math.pi) * amplitudes.size)
    return float(likely @ density), float(likely @ density**2)
