"""Bits sent by QAM over one flat channel: additive white Gaussian noise alone, or Rayleigh fading besides."""

import math

import numpy as np
from numpy.typing import NDArray

from semlink.channel.qam import bits_per_symbol, checked_bits, demodulate_hard, modulate
from semlink.checks import integer_within


def awgn(bits: NDArray[np.uint8], order: int, snr_db: float, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Bits as they arrive over additive white Gaussian noise, by hard decision.

    Args:
        bits: (bits,) values 0 and 1; the last symbol is filled up with zeros that nobody receives.
        order: of the QAM, one of 4, 16, 64, 256.
        snr_db: E_s/N0, energy of a symbol over complex noise variance, in dB.
        generator: the source of all randomness: two normal draws for a symbol.

    Returns:
        (bits,) values 0 and 1.

    Raises:
        ValueError: an argument is outside these ranges.
    """
    symbols = _modulate_filled(bits, order)
    symbols += complex_normal(symbols.size, generator) * _deviation(snr_db)
    return demodulate_hard(symbols, order)[: bits.size]


def rayleigh(
    bits: NDArray[np.uint8],
    order: int,
    snr_db: float,
    generator: np.random.Generator,
    *,
    symbols_per_fade: int = 1,
) -> NDArray[np.uint8]:
    """Bits as they arrive over flat Rayleigh fading known to the receiver, by hard decision.

    y = h·x + n with h ~ CN(0, 1), equalised by y/h. The noise is circular, so the phase of h does not matter and
    |h|², exponential of mean 1, is all that is drawn.

    Args:
        bits: (bits,) values 0 and 1; the last symbol is filled up with zeros that nobody receives.
        order: of the QAM, one of 4, 16, 64, 256.
        snr_db: mean E_s/N0, in dB.
        generator: the source of all randomness.
        symbols_per_fade: so many successive symbols share one h, at least 1.

    Returns:
        (bits,) values 0 and 1.

    Raises:
        ValueError: an argument is outside these ranges.
    """
    symbols = _modulate_filled(bits, order)
    stay = integer_within("symbols_per_fade", symbols_per_fade, 1, 2**31)
    power = generator.standard_exponential(-(-symbols.size // stay)).repeat(stay)[: symbols.size]
    # A draw may be 0: far below any fade that matters, the inverse stays finite.
    scale = _deviation(snr_db) / np.sqrt(np.maximum(power, 1e-30))
    symbols += complex_normal(symbols.size, generator) * scale
    return demodulate_hard(symbols, order)[: bits.size]


def complex_normal(count: int, generator: np.random.Generator) -> NDArray[np.complex128]:
    """(count,) draws CN(0, 1), each two successive normal draws."""
    noise = generator.standard_normal(2 * count)
    noise *= math.sqrt(0.5)
    return noise.view(np.complex128)


def _modulate_filled(bits: NDArray[np.uint8], order: int) -> NDArray[np.complex128]:
    bits = checked_bits(bits)
    return modulate(np.pad(bits, (0, -bits.size % bits_per_symbol(order))), order)


def _deviation(snr_db: float) -> float:
    if not math.isfinite(snr_db):
        raise ValueError(f"snr_db must be finite, not {snr_db}")
    return float(10 ** (-snr_db / 20))
