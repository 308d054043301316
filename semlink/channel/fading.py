"""Fading state: the MIMO-OFDM channel that one frame meets, and what both ends believe it to be."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from semlink.channel.ofdm import Numerology, draw_channel, estimated_channel, subchannel_gains

CHANNEL, ESTIMATION = 0, 1
"""Streams of randomness: of the channel, then the number of the coherence time; of the estimation errors."""


@dataclass(frozen=True, eq=False)
class FadingState:
    """Rayleigh fading, drawn when it is asked for; the same draws whenever that is."""

    numerology: Numerology
    """Dimensions of the link."""
    csi_error: float
    """σ_e² of each entry of the estimate, ≥ 0."""
    redrawn: bool
    """The channel is another one after every coherence time."""
    random: Callable[..., np.random.Generator]
    """Numbers that name a stream, such as `CHANNEL, 0` -> its generator."""
    precision: type = np.complex128
    """NumPy type to which all entries are rounded."""

    def at(self, interval: int) -> NDArray[np.complex128]:
        """(F, N_s, N_s) H during a coherence time, counted from 0 at the frame's first OFDM symbol."""
        return self._draw(interval) if self.redrawn and interval else self._first

    @cached_property
    def estimate(self) -> NDArray[np.complex128]:
        """(F, N_s, N_s) H as both ends believe it to be."""
        if not self.csi_error:
            return self._first
        return self._rounded(estimated_channel(self._first, self.csi_error, self.random(ESTIMATION)))

    @cached_property
    def gains(self) -> NDArray[np.float64]:
        """(F, N_s) singular values of H at the frame's start. The matrices are not stored for them."""
        return subchannel_gains(self._draw(0))

    @property
    def is_known(self) -> bool:
        """Both ends know the channel as it is, all the time."""
        return not (self.csi_error or self.redrawn)

    @cached_property
    def _first(self) -> NDArray[np.complex128]:
        return self._draw(0)

    def _draw(self, interval: int) -> NDArray[np.complex128]:
        return self._rounded(draw_channel(self.numerology, self.random(CHANNEL, interval)))

    def _rounded(self, channel: NDArray[np.complex128]) -> NDArray[np.complex128]:
        return channel.astype(self.precision, copy=False).astype(np.complex128, copy=False)
