"""Planned channel: MIMO-OFDM with Rayleigh fading, whose frames travel with a transmission plan.

IA-QSMPA, Sections II and V: 784 subcarriers of 15 kHz, P_tot = 3136, a coherence time of T = 50 OFDM symbols
(3.3 ms). The paper assumes perfect knowledge of the channel, and frames that are sent within the coherence time.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, TypeGuard

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

from semlink.channel.base import Arrival, Carried, Channel, Noisy
from semlink.channel.blocks import Blocks, gains_of_blocks, latencies_over_intervals
from semlink.channel.fading import FadingState
from semlink.channel.ofdm import Beamforming, Numerology, beamforming, equivalent_gains
from semlink.channel.parameters import Option
from semlink.channel.plan import Plan

MAX_STREAMS = 16
"""Most spatial streams: the state of the channel then still fits a message."""


@dataclass(frozen=True, eq=False)
class Link:
    """One frame on the channel that it meets: blocks, powers, gains."""

    frame: Carried
    plan: Plan
    state: FadingState
    noise_power: float
    """σ²."""

    def latencies(self, penalty: float = 0.0) -> NDArray[np.float64]:
        """(N,) seconds of each block by equation (24), or (38) with a `dispersion_penalty`; possibly infinite.

        Where the channel is not the one that the beams are for, the rate of a subchannel is that of its ratio of
        signal to interference and noise.
        """
        state = self.state
        if not state.redrawn:
            gains = state.gains if state.is_known else self._equivalent_gains(0)
            return self._blocks(gains, penalty).latencies(self.plan.bits, self.plan.power)
        return latencies_over_intervals(
            self.plan.load,
            lambda interval: self._blocks(self._equivalent_gains(interval), penalty).rates(self.plan.power),
            state.numerology.coherence_seconds,
        )

    def _equivalent_gains(self, interval: int) -> NDArray[np.float64]:
        return equivalent_gains(
            self.state.at(interval), self._beams, self.plan.power_of_subchannel, self.noise_power
        )

    @cached_property
    def _beams(self) -> Beamforming:
        return beamforming(self.state.estimate)

    def _blocks(self, gains: NDArray[np.float64], penalty: float) -> Blocks:
        numerology = self.state.numerology
        return Blocks(
            gains_of_blocks(gains, self.plan.block_of_subchannel, self.plan.bits.size),
            self.noise_power,
            numerology.total_power,
            numerology.spacing_hz,
            self.plan.values_per_segment,
            penalty,
        )


@dataclass(frozen=True, kw_only=True)
class PlannedChannel(Noisy):
    """MIMO-OFDM, drawn anew for every frame of every device."""

    takes_plan = True

    streams: Annotated[
        int, Interval(ge=1, le=MAX_STREAMS), Option("spatial streams N_s, antennas on either side")
    ] = 4
    csi_error: Annotated[
        float,
        Interval(ge=0, le=100),
        Option(
            "variance of the errors in each entry of the channel as both ends know it; 0: they know it perfectly, "
            "as in the paper"
        ),
    ] = 0.0
    redraw_every_coherence: Annotated[
        bool,
        Option(
            "draw the channel anew every coherence time of 50 OFDM symbols, while plan and beams stay those of "
            "the frame's start; otherwise it is held for the frame, as in the paper"
        ),
    ] = False

    @property
    def numerology(self) -> Numerology:
        """Dimensions of the link."""
        return Numerology(streams=self.streams)

    @property
    def block_error_rate(self) -> float | None:
        """μ̃ for which blocks are planned; None: they are taken as long enough to arrive."""
        return None

    def draw_state(
        self, random: Callable[..., np.random.Generator], *, precision: type = np.complex128
    ) -> FadingState:
        """See `Channel.draw_state`."""
        return FadingState(self.numerology, self.csi_error, self.redraw_every_coherence, random, precision)

    def transmit(
        self,
        frame: Carried,
        plan: Plan | None,
        state: FadingState | None,
        generator: np.random.Generator,
    ) -> Arrival:
        """See `Channel.transmit`.

        Raises:
            ValueError: there is no plan or no state, or they do not fit the frame.
        """
        if plan is None or state is None:
            raise ValueError(f"{self.name} takes frames with a plan and a state")
        if not np.array_equal(plan.load, frame.segment_bits):
            raise ValueError("plan must have the bits of the frame's segments")
        return self.carry(Link(frame, plan, state, self.numerology.noise_power(self.snr_db)), generator)

    @abstractmethod
    def carry(self, link: Link, generator: np.random.Generator) -> Arrival:
        """Sends a payload under its plan; see `Channel.transmit`."""


def is_planned(channel: Channel) -> TypeGuard[PlannedChannel]:
    """Whether a channel takes plans, for the type checker too."""
    return channel.takes_plan
