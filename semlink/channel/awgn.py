"""AWGN channel: bits as Gray-labelled QAM symbols over additive white Gaussian noise."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semlink.channel.base import Arrival, Carried, Modulated, Noisy, payload_values, register
from semlink.channel.fading import FadingState
from semlink.channel.plan import Plan
from semlink.channel.qam import bits_per_symbol, checked_bits, complex_normal, demodulate_hard, modulate


@register
@dataclass(frozen=True, kw_only=True)
class Awgn(Modulated, Noisy):
    """Gray-labelled QAM over additive white Gaussian noise, hard decisions, no code."""

    name = "awgn"

    def transmit(
        self,
        frame: Carried,
        plan: Plan | None,
        state: FadingState | None,
        generator: np.random.Generator,
    ) -> Arrival:
        """See `Channel.transmit`."""
        sent = payload_values(frame)
        return Arrival(np.flatnonzero(awgn(sent, self.order, self.snr_met(state), generator) != sent))


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
    symbols = modulate_filled(bits, order)
    symbols += complex_normal(symbols.size, generator) * noise_deviation(snr_db)
    return demodulate_hard(symbols, order)[: bits.size]


def modulate_filled(bits: NDArray[np.uint8], order: int) -> NDArray[np.complex128]:
    """QAM symbols of bits, the last of them filled up with zeros."""
    bits = checked_bits(bits)
    return modulate(np.pad(bits, (0, -bits.size % bits_per_symbol(order))), order)


def noise_deviation(snr_db: float) -> float:
    """Standard deviation of the complex noise at unit mean energy of a symbol."""
    if not math.isfinite(snr_db):
        raise ValueError(f"snr_db must be finite, not {snr_db}")
    return float(10 ** (-snr_db / 20))
