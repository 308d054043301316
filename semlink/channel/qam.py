"""Square QAM with Gray labels: bits to points of unit mean energy, and back, by decision or by likelihood.

The labelling is that of 3GPP TS 38.211, Section 5.1. The bits of a label, most significant first, belong to the
real and the imaginary part by turns, and each part is a pulse amplitude with a reflected Gray code of its own, so
everything here is done for the two parts at once.
"""

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
    amplitudes: NDArray[np.float64]
    """(√order,) values of one part, ascending."""
    codes: NDArray[np.uint8]
    """(√order, bits/2) label bits of each amplitude."""
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
    levels = alphabet.amplitudes.size
    nearest = _parts(symbols) * (0.5 / alphabet.half_step)
    nearest += levels / 2
    np.clip(nearest, 0, levels - 1, out=nearest)
    places = nearest.astype(np.uint8)  # astype is floor here: amplitude k owns [k, k+1)
    labels = alphabet.labels[places[:, 0] * np.uint8(levels) + places[:, 1]]
    return np.unpackbits(labels[:, None] << np.uint8(8 - alphabet.bits), axis=1, count=alphabet.bits).ravel()


def demodulate_soft(symbols: NDArray[np.complex128], order: int, noise_variance: ArrayLike) -> NDArray[np.float64]:
    """Log-likelihood ratios ln P(bit = 0) - ln P(bit = 1) of equally likely points in white Gaussian noise.

    Exact, not the max-log approximation: sums over all points, which for square QAM are sums over the amplitudes
    of one part.

    Args:
        symbols: (Q,) equalised, so that the points are those of `constellation`; finite.
        order: number of points, one of 4, 16, 64, 256.
        noise_variance: of the complex noise, above 0: one number, or (Q,) one for each symbol.

    Returns:
        (Q·log2 order,) positive where 0 is likelier.

    Raises:
        ValueError: an argument is not of this form.
    """
    alphabet = _alphabet(order)
    parts = _parts(symbols)
    variance = np.asarray(noise_variance, dtype=np.float64)
    if variance.shape not in {(), (len(parts),)}:
        raise ValueError(f"noise_variance must have shape () or (Q,), not {variance.shape}")
    if not ((variance > 0) & np.isfinite(variance)).all():
        raise ValueError("noise_variance must be finite and above 0")
    exponents = -((parts[:, :, None] - alphabet.amplitudes) ** 2) / variance.reshape(-1, 1, 1)
    ratios = np.empty((len(parts), alphabet.bits // 2, 2))
    for bit, ones in enumerate(alphabet.codes.T.astype(bool)):
        ratios[:, bit] = _log_sum(exponents[:, :, ~ones]) - _log_sum(exponents[:, :, ones])
    return ratios.ravel()


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
    codes = np.empty((levels, bits // 2), np.uint8)
    codes[places[:, 0]] = of_label[:, 0::2]
    return _Alphabet(
        bits,
        half_step,
        (2 * np.arange(levels) - (levels - 1)) * half_step,
        codes,
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


def _parts(symbols: NDArray[np.complex128]) -> NDArray[np.float64]:
    """(Q, 2) real and imaginary parts."""
    symbols = np.ascontiguousarray(symbols, dtype=np.complex128)
    if symbols.ndim != 1 or not np.isfinite(symbols).all():
        raise ValueError("symbols must be a vector of finite numbers")
    return symbols.view(np.float64).reshape(-1, 2)


def _log_sum(exponents: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln Σ e^x over the last axis, without underflow."""
    largest = exponents.max(axis=-1)
    return largest + np.log(np.exp(exponents - largest[..., None]).sum(axis=-1))
