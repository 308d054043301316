"""Rayleigh channel: bits as Gray-labelled QAM symbols over noise and flat fading that the receiver knows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semlink.channel.awgn import modulate_filled, noise_deviation
from semlink.channel.base import Arrival, Carried, Modulated, Noisy, payload_values, register
from semlink.channel.fading import FadingState
from semlink.channel.plan import Plan
from semlink.channel.qam import complex_normal, demodulate_hard


@register
@dataclass(frozen=True, kw_only=True)
class Rayleigh(Modulated, Noisy):
    """Gray-labelled QAM over Rayleigh fading that the receiver knows, another for every symbol, and noise."""

    name = "rayleigh"

    def transmit(
        self,
        frame: Carried,
        plan: Plan | None,
        state: FadingState | None,
        generator: np.random.Generator,
    ) -> Arrival:
        """See `Channel.transmit`."""
        sent = payload_values(frame)
        return Arrival(np.flatnonzero(rayleigh(sent, self.order, self.snr_met(state), generator) != sent))


def rayleigh(
    bits: NDArray[np.uint8], order: int, snr_db: float, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """Bits as they arrive over flat Rayleigh fading known to the receiver, another for every symbol.

    y = h·x + n with h ~ CN(0, 1), equalised by y/h. The noise is circular, so the phase of h does not matter and
    |h|², exponential of mean 1, is all that is drawn.

    Args:
        bits: (bits,) values 0 and 1; the last symbol is filled up with zeros that nobody receives.
        order: of the QAM, one of 4, 16, 64, 256.
        snr_db: mean E_s/N0, in dB.
        generator: the source of all randomness: an exponential draw for each symbol, then two normal ones.

    Returns:
        (bits,) values 0 and 1.

    Raises:
        ValueError: an argument is outside these ranges.
    """
    symbols = modulate_filled(bits, order)
    power = generator.standard_exponential(symbols.size)
    # A draw may be 0: far below any fade that matters, the inverse stays finite.
    scale = noise_deviation(snr_db) / np.sqrt(np.maximum(power, 1e-30))
    symbols += complex_normal(symbols.size, generator) * scale
    return demodulate_hard(symbols, order)[: bits.size]
