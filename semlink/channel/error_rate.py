"""Bit error rates of Gray-labelled square QAM in closed form: what `qam`, sent over simple channels, must show."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfc

from semlink.channel.qam import bits_per_symbol


def awgn_bit_error_rate(order: int, snr: ArrayLike) -> NDArray[np.float64]:
    """Exact bit error rate over additive white Gaussian noise, hard decisions.

    Cho and Yoon, "On the general BER expression of one- and two-dimensional amplitude modulations", IEEE
    Transactions on Communications, 50(7), 2002, equations (14) and (16), with log2(order)·E_b/N0 = E_s/N0.

    Args:
        order: number of points, one of 4, 16, 64, 256.
        snr: E_s/N0, energy of a symbol over complex noise variance, linear, ≥ 0, any shape. For a subchannel of
            gain λ and power p it is λ²p/σ².

    Returns:
        Rates within [0, 1/2], in the shape of `snr`.

    Raises:
        ValueError: an argument is outside these ranges.
    """
    return _mean_over_bits(order, snr, lambda argument: erfc(np.sqrt(argument)))


def rayleigh_bit_error_rate(order: int, snr: ArrayLike) -> NDArray[np.float64]:
    """Exact mean bit error rate over flat Rayleigh fading, hard decisions, the fading known to the receiver.

    `awgn_bit_error_rate` averaged over an exponentially distributed SNR of mean `snr`, term by term:
    E[erfc(√(aγ))] = 1 - √(am/(1 + am)) for γ of mean m (Simon and Alouini, Digital Communication over Fading
    Channels, 2005, equation 5.6).

    Args:
        order: number of points, one of 4, 16, 64, 256.
        snr: mean E_s/N0, linear, ≥ 0, any shape.

    Returns:
        Rates within [0, 1/2], in the shape of `snr`.

    Raises:
        ValueError: an argument is outside these ranges.
    """
    # 1 - √(x/(1+x)), written so that it keeps its digits where x is large.
    return _mean_over_bits(order, snr, lambda x: 1 / ((1 + x) * (1 + np.sqrt(x / (1 + x)))))


def _mean_over_bits(
    order: int, snr: ArrayLike, mean_erfc: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Cho and Yoon's double sum; `mean_erfc` gives erfc(√x) or its mean over the fading."""
    bits = bits_per_symbol(order) // 2
    levels = 1 << bits
    snr = np.asarray(snr, dtype=np.float64)
    if not ((snr >= 0) & np.isfinite(snr)).all():
        raise ValueError("snr must be finite and at least 0")
    rate = np.zeros(snr.shape)
    for bit in range(1, bits + 1):
        for term in range(levels - (levels >> bit)):
            turns, rest = divmod(term << bit - 1, levels)
            weight = (-1) ** turns * ((1 << bit - 1) - turns - (2 * rest >= levels))
            rate += weight * mean_erfc((2 * term + 1) ** 2 * snr * 1.5 / (order - 1))
    return rate / (levels * bits)
