"""Fading state: the SNR that one frame meets, its MIMO-OFDM channel, and what both ends believe that to be."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from semlink.channel.ofdm import Numerology, draw_channel, estimated_channel, subchannel_gains
from semlink.channel.recordings import ChannelMatrices

CHANNEL, ESTIMATION = 0, 1
"""Streams of randomness: of the channel, then the number of the coherence time; of the estimation errors."""


@dataclass(frozen=True, eq=False, kw_only=True)
class FadingState:
    """What one frame meets."""

    snr_db: float | None = None
    """SNR in dB of a measured trace; None: that of the channel."""


@dataclass(frozen=True, eq=False, kw_only=True)
class MimoFadingState(FadingState):
    """Rayleigh fading, drawn when it is asked for, the same draws whenever that is; or measured matrices."""

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
    matrices: ChannelMatrices | None = None
    """Measured matrices, met instead of Rayleigh fading."""
    first: int = 0
    """Which of them the frame meets; those after it follow, one a coherence time, where the channel is redrawn."""

    def at(self, interval: int) -> NDArray[np.complex128]:
        """(F, N_r, N_t) H during a coherence time, counted from 0 at the frame's first OFDM symbol."""
        return self._draw(interval) if self.redrawn and interval else self._first

    @cached_property
    def estimate(self) -> NDArray[np.complex128]:
        """(F, N_r, N_t) H as both ends believe it to be."""
        if not self.csi_error:
            return self._first
        return self._rounded(estimated_channel(self._first, self.csi_error, self.random(ESTIMATION)))

    @cached_property
    def gains(self) -> NDArray[np.float64]:
        """(F, N_s) singular values of H at the frame's start. The matrices are not stored for them."""
        return subchannel_gains(self._draw(0), self.numerology.streams)

    @property
    def is_known(self) -> bool:
        """Both ends know the channel as it is, all the time."""
        return not (self.csi_error or self.redrawn)

    @cached_property
    def _first(self) -> NDArray[np.complex128]:
        return self._draw(0)

    def _draw(self, interval: int) -> NDArray[np.complex128]:
        if self.matrices is not None:
            return self._rounded(self.matrices.at(self.first + interval))
        return self._rounded(draw_channel(self.numerology, self.random(CHANNEL, interval)))

    def _rounded(self, channel: NDArray[np.complex128]) -> NDArray[np.complex128]:
        return channel.astype(self.precision, copy=False).astype(np.complex128, copy=False)
