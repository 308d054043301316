"""What the channels have in common whose frames travel with a plan."""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from channel_emulator.held_channel import HeldChannel
from channel_emulator.planned_frame import PlannedFrame, PlanRefused
from semlink.channel.ofdm import Numerology

MAX_STREAMS = 16
"""Most spatial streams: the state of the channel then still fits a message."""


@dataclass(frozen=True, eq=False)
class Arrival:
    """What becomes of a planned frame."""

    values: NDArray[np.uint8]
    """(payload bits,) 0 and 1 as they arrive; of no meaning in a lost block."""
    seconds: NDArray[np.float64]
    """(N,) how long each block is on the air, finite."""
    latencies: NDArray[np.float64]
    """(N,) by equation (24) or (38), possibly infinite; the largest is T_d."""
    lost: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Blocks that do not arrive at all, ascending."""


class PlannedChannel(BaseModel, ABC):
    """MIMO-OFDM with 784 subcarriers of 15 kHz, Rayleigh fading, drawn anew for every frame of every device.

    IA-QSMPA, Sections II and V: P_tot = 3136, a coherence time of T = 50 OFDM symbols (3.3 ms).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    snr_db: float = Field(
        20.0,
        ge=-50,
        le=100,
        allow_inf_nan=False,
        description="SNR in dB: unit mean power of a subchannel over noise",
    )
    streams: int = Field(4, ge=1, le=MAX_STREAMS, description="spatial streams N_s, antennas on either side")
    csi_error: float = Field(
        0.0,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="variance of the errors in each entry of the channel as both ends know it; 0: they know it "
        "perfectly, as in the paper",
    )
    redraw_every_coherence: bool = Field(
        False,
        description="draw the channel anew every coherence time, while plan and beams stay those of the frame's "
        "start; otherwise it is held for the frame, as in the paper",
    )

    @property
    def numerology(self) -> Numerology:
        """Dimensions of the link."""
        return Numerology(streams=self.streams)

    @property
    def block_error_rate(self) -> float | None:
        """μ̃ for which blocks are planned; None: they are taken as long enough to arrive."""
        return None

    def hold(self, seed: int, device_id: str, frame_id: int) -> HeldChannel:
        """The channel that a frame meets."""
        about = json.dumps([self.model_dump(mode="json"), seed, device_id, frame_id])
        state_id = sha256(about.encode()).digest()[:16]
        return HeldChannel(
            self.numerology,
            self.snr_db,
            self.csi_error,
            self.redraw_every_coherence,
            seed,
            device_id,
            frame_id,
            state_id,
        )

    @abstractmethod
    def arrive(self, values: NDArray[np.uint8], frame: PlannedFrame, generator: np.random.Generator) -> Arrival:
        """Sends a payload.

        Args:
            values: (payload bits,) 0 and 1.
            frame: its blocks, under a plan that keeps to the rules.
            generator: the source of noise and errors.

        Raises:
            PlanRefused: some block would never get through.
        """


def finite(latencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Latencies that are all finite, or PlanRefused."""
    never = np.flatnonzero(np.isinf(latencies))
    if never.size:
        raise PlanRefused(
            "latency",
            f"{never.size} blocks get nothing through, the first of them block {never[0]}: more power or SNR",
        )
    return latencies
