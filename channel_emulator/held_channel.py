"""The MIMO-OFDM channel that one frame meets: drawn from the seed, held for this frame."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from channel_emulator.randomness import CHANNEL, ESTIMATION, random_stream
from semlink.channel.ofdm import Numerology, draw_channel, estimated_channel, subchannel_gains


@dataclass(frozen=True, eq=False)
class HeldChannel:
    """What follows from the emulator's seed, the device and the number of its frame; nothing of it is stored.

    Entries are rounded to complex64, as they travel to the device: both then know the same channel.
    """

    numerology: Numerology
    """Dimensions of the link."""
    snr_db: float
    """SNR, finite."""
    csi_error: float
    """σ_e² of each entry of the estimate, ≥ 0."""
    redrawn: bool
    """The channel is another one after every coherence time."""
    seed: int
    """Of the emulator."""
    device_id: str
    """Whose frame it is."""
    frame_id: int
    """Number of the frame."""
    state_id: bytes
    """Stands for all of this."""

    def at(self, interval: int) -> NDArray[np.complex128]:
        """(F, N_s, N_s) H during a coherence time, counted from 0 at the frame's first OFDM symbol."""
        return self._draw(interval) if self.redrawn and interval else self._first

    @cached_property
    def estimate(self) -> NDArray[np.complex128]:
        """(F, N_s, N_s) H as both ends believe it to be."""
        if not self.csi_error:
            return self._first
        generator = random_stream(self.seed, self.device_id, self.frame_id, ESTIMATION)
        return _rounded(estimated_channel(self._first, self.csi_error, generator))

    @cached_property
    def gains(self) -> NDArray[np.float64]:
        """(F, N_s) singular values of H at the frame's start."""
        return subchannel_gains(self._first)

    @property
    def is_known(self) -> bool:
        """Both ends know the channel as it is, all the time."""
        return not (self.csi_error or self.redrawn)

    @property
    def noise_power(self) -> float:
        """σ²."""
        return self.numerology.noise_power(self.snr_db)

    @cached_property
    def _first(self) -> NDArray[np.complex128]:
        return self._draw(0)

    def _draw(self, interval: int) -> NDArray[np.complex128]:
        generator = random_stream(self.seed, self.device_id, self.frame_id, CHANNEL, interval)
        return _rounded(draw_channel(self.numerology, generator))


def _rounded(channel: NDArray[np.complex128]) -> NDArray[np.complex128]:
    return channel.astype(np.complex64).astype(np.complex128)
