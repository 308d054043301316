"""Rayleigh channel: complex symbols over noise and flat fading that the receiver knows."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from semlink.access.symbol_link import Received
from semlink.channel.awgn import noise_deviation
from semlink.channel.base import register
from semlink.channel.over_symbols import OverSymbols
from semlink.channel.qam import complex_normal


@register
@dataclass(frozen=True, kw_only=True)
class Rayleigh(OverSymbols):
    """Symbols over noise and Rayleigh fading that the receiver knows, another for every symbol; by default QAM."""

    name = "rayleigh"
    fades: ClassVar[bool] = True

    def use(self, symbols: NDArray[np.complex128], snr_db: float, generator: np.random.Generator) -> Received:
        """See `OverSymbols.use` and `rayleigh`."""
        return rayleigh(symbols, snr_db, generator)


def rayleigh(symbols: NDArray[np.complex128], snr_db: float, generator: np.random.Generator) -> Received:
    """Symbols as they arrive over flat Rayleigh fading known to the receiver, another for every symbol.

    y = h·x + n with h ~ CN(0, 1), equalised by y/h. The noise is circular, so the phase of h does not matter and
    |h|², exponential of mean 1, is all that is drawn.

    Args:
        symbols: (Q,) of unit mean energy.
        snr_db: mean E_s/N0, in dB.
        generator: the source of all randomness: an exponential draw for each symbol, then two normal ones.

    Raises:
        ValueError: the SNR is not finite.
    """
    # A draw may be 0: far below any fade that matters, the inverse stays finite.
    power = np.maximum(generator.standard_exponential(symbols.size), 1e-30)
    scale = noise_deviation(snr_db) / np.sqrt(power)
    return Received(symbols + complex_normal(symbols.size, generator) * scale, power)
