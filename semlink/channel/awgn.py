"""AWGN channel: complex symbols over additive white Gaussian noise."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semlink.access.symbol_link import Received
from semlink.channel.base import register
from semlink.channel.over_symbols import OverSymbols
from semlink.channel.qam import complex_normal


@register
@dataclass(frozen=True, kw_only=True)
class Awgn(OverSymbols):
    """Symbols over additive white Gaussian noise; by default Gray-labelled QAM, hard decisions, no code."""

    name = "awgn"

    def use(self, symbols: NDArray[np.complex128], snr_db: float, generator: np.random.Generator) -> Received:
        """See `OverSymbols.use` and `awgn`."""
        return awgn(symbols, snr_db, generator)


def awgn(symbols: NDArray[np.complex128], snr_db: float, generator: np.random.Generator) -> Received:
    """Symbols as they arrive: y = x + n, n ~ CN(0, σ²), σ² = 10^(-SNR/10).

    Args:
        symbols: (Q,) of unit mean energy.
        snr_db: E_s/N0, energy of a symbol over complex noise variance, in dB.
        generator: the source of all randomness: two normal draws for a symbol.

    Raises:
        ValueError: the SNR is not finite.
    """
    return Received(symbols + complex_normal(symbols.size, generator) * noise_deviation(snr_db))


def noise_deviation(snr_db: float) -> float:
    """Standard deviation of the complex noise at unit mean energy of a symbol."""
    if not math.isfinite(snr_db):
        raise ValueError(f"snr_db must be finite, not {snr_db}")
    return float(10 ** (-snr_db / 20))
