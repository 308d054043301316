"""QAM with Gray labels, square: bits to points of unit mean energy and back, hard or soft; bit error rates.

The labelling is that of 3GPP TS 38.211, Section 5.1. The bits of a label, most significant first, belong to the
real and the imaginary part by turns, and each part is a pulse amplitude with a reflected Gray code of its own, so
everything here is done for the two parts at once.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

ORDERS = (4, 16, 64, 256)


class _Alphabet(NamedTuple):
    bits: int
    """log2 of the order."""
    half_step: float
    """Half the distance of neighbours, √(3/(2(order - 1))) for a mean energy of 1."""
    levels: int
    """√order, the number of amplitudes of one part."""
    points: NDArray[np.complex128]
    """(order,) the point of each label."""
    labels: NDArray[np.uint8]
    """(order,) the label at place real·√order + imaginary, counted in amplitudes."""


def constellation(order: int) -> NDArray[np.complex128]:
    """(order,) the points, the one labelled k at index k; mean energy 1.

    Args:
        order: number of points, one of 4, 16, 64, 256.

    Raises:
        ValueError: there is no such order.
    """
    return _alphabet(order).points.copy()


def bits_per_symbol(order: int) -> int:
    """log2 of the order, one of 4, 16, 64, 256; ValueError for another."""
    return _alphabet(order).bits


def modulate(bits: NDArray[np.uint8], order: int) -> NDArray[np.complex128]:
    """Points that stand for bits.

    Args:
        bits: (Q·log2 order,) values 0 and 1.
        order: number of points, one of 4, 16, 64, 256.

    Returns:
        (Q,) points.

    Raises:
        ValueError: an argument is not of this form.
    """
    alphabet = _alphabet(order)
    bits = checked_bits(bits)
    if bits.size % alphabet.bits:
        raise ValueError(f"bits must be a multiple of {alphabet.bits} in number, not {bits.size}")
    octets = np.zeros((bits.size // alphabet.bits, 8), np.uint8)
    octets[:, 8 - alphabet.bits :] = bits.reshape(-1, alphabet.bits)
    return alphabet.points[np.packbits(octets)]


def demodulate_hard(symbols: NDArray[np.complex128], order: int) -> NDArray[np.uint8]:
    """Bits of the nearest points: maximum likelihood for each symbol in white Gaussian noise.

    Args:
        symbols: (Q,) equalised, so that the points are those of `constellation`; finite.
        order: number of points, one of 4, 16, 64, 256.

    Returns:
        (Q·log2 order,) values 0 and 1.

    Raises:
        ValueError: an argument is not of this form.
    """
    alphabet = _alphabet(order)
    levels = alphabet.levels
    nearest = _parts(symbols) * (0.5 / alphabet.half_step)
    nearest += levels / 2
    np.clip(nearest, 0, levels - 1, out=nearest)
    places = nearest.astype(np.uint8)  # astype is floor here: amplitude k owns [k, k+1)
    labels = alphabet.labels[places[:, 0] * np.uint8(levels) + places[:, 1]]
    return np.unpackbits(labels[:, None] << np.uint8(8 - alphabet.bits), axis=1, count=alphabet.bits).ravel()


def demodulate_soft(symbols: NDArray[np.complex128], order: int, noise_power: ArrayLike) -> NDArray[np.float32]:
    """Log-likelihood ratios of bits in white Gaussian noise, exact for equiprobable bits: what a decoder takes.

    >>> demodulate_soft(modulate(np.array([0, 1], np.uint8), 4), 4, 0.5)
    array([ 4., -4.], dtype=float32)

    Args:
        symbols: (Q,) equalised, so that the points are those of `constellation`; finite.
        order: number of points, one of 4, 16, 64, 256.
        noise_power: variance of the complex noise after equalising, above 0; one for all, or (Q,).

    Returns:
        (Q·log2 order,) log P(0)/P(1).

    Raises:
        ValueError: an argument is not of this form.
    """
    alphabet = _alphabet(order)
    noise = np.broadcast_to(np.asarray(noise_power, np.float64), np.shape(symbols))
    if not ((noise > 0) & np.isfinite(noise)).all():
        raise ValueError("noise_power must be finite and above 0")
    parts = _parts(symbols)
    ratios = np.empty((*parts.shape, alphabet.bits // 2), np.float32)
    for part in (0, 1):
        ratios[:, part] = amplitude_ratios(parts[:, part], order, noise)
    return ratios.transpose(0, 2, 1).ravel()


def amplitude_ratios(
    received: NDArray[np.float64], order: int, noise_power: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(Q, log2(order)/2) log-likelihood ratios of the bits of one part of (Q,) symbols."""
    amplitudes, labels = part_of_constellation(order)
    metrics = -((received - amplitudes[:, None]) ** 2) / noise_power
    return np.stack(
        [
            _log_sum(metrics[labels[:, bit] == 0]) - _log_sum(metrics[labels[:, bit] == 1])
            for bit in range(labels.shape[1])
        ],
        axis=1,
    )


def part_of_constellation(order: int) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """(√order,) amplitudes of one part, real or imaginary, and (√order, log2(order)/2) the bits of each."""
    alphabet = _alphabet(order)
    bits = alphabet.bits // 2
    labels = np.unpackbits(np.arange(alphabet.levels, dtype=np.uint8)[:, None], axis=1)[:, 8 - bits :]
    amplitudes = np.asarray(_amplitude(labels.astype(np.int64)) * alphabet.half_step, np.float64)
    return amplitudes, labels


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
    from scipy.special import erfc  # a tenth of a second that the channels do not need

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


def complex_normal(count: int, generator: np.random.Generator) -> NDArray[np.complex128]:
    """(count,) draws CN(0, 1), each two successive normal draws."""
    noise = generator.standard_normal(2 * count)
    noise *= math.sqrt(0.5)
    return noise.view(np.complex128)


def checked_bits(bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`bits` as a (bits,) uint8 array of 0 and 1, or ValueError."""
    bits = np.asarray(bits)
    if bits.ndim != 1 or bits.dtype != np.uint8 or (bits.size and bits.max() > 1):
        raise ValueError("bits must be a vector of uint8 values 0 and 1")
    return bits


@lru_cache(maxsize=len(ORDERS))
def _alphabet(order: int) -> _Alphabet:
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(map(str, ORDERS))}, not {order!r}")
    bits = int(order).bit_length() - 1
    levels = 1 << bits // 2
    half_step = (1.5 / (order - 1)) ** 0.5
    labels = np.arange(order, dtype=np.uint8)
    of_label = np.unpackbits(labels[:, None], axis=1)[:, 8 - bits :].astype(np.int64)
    parts = np.stack([_amplitude(of_label[:, 0::2]), _amplitude(of_label[:, 1::2])], axis=1)
    places = (parts + levels - 1) // 2
    order_of_places = places[:, 0] * levels + places[:, 1]
    of_place = np.empty(order, np.uint8)
    of_place[order_of_places] = labels
    return _Alphabet(
        bits,
        half_step,
        levels,
        (parts[:, 0] + 1j * parts[:, 1]) * half_step,
        of_place,
    )


def _amplitude(bits: NDArray[np.int64]) -> NDArray[np.int64]:
    """(Q,) odd integers of (Q, bits) labels of one part: TS 38.211, Section 5.1, from the innermost factor out."""
    signs = 1 - 2 * bits
    amplitude = signs[:, -1]
    for bit in range(bits.shape[1] - 2, -1, -1):
        amplitude = signs[:, bit] * ((1 << bits.shape[1] - 1 - bit) - amplitude)
    return amplitude


def _log_sum(metrics: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the sum of exponentials over the first axis."""
    most = metrics.max(axis=0)
    total: NDArray[np.float64] = most + np.log(np.exp(metrics - most).sum(axis=0))
    return total


def _parts(symbols: NDArray[np.complex128]) -> NDArray[np.float64]:
    """(Q, 2) real and imaginary parts."""
    symbols = np.ascontiguousarray(symbols, dtype=np.complex128)
    if symbols.ndim != 1 or not np.isfinite(symbols).all():
        raise ValueError("symbols must be a vector of finite numbers")
    return symbols.view(np.float64).reshape(-1, 2)


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
