"""Planned channel: MIMO-OFDM with Rayleigh fading or a measured H, whose frames travel with a transmission plan.

IA-QSMPA, Sections II and V: 784 subcarriers of 15 kHz, P_tot = 3136, a coherence time of T = 50 OFDM symbols
(3.3 ms). The paper assumes perfect knowledge of the channel, and frames that are sent within the coherence time.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, TypeGuard, TypeVar

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

from semlink.channel.base import Arrival, Carried, Channel, Noisy
from semlink.channel.blocks import Blocks, gains_of_blocks, latencies_over_intervals
from semlink.channel.fading import FadingState, MimoFadingState
from semlink.channel.ofdm import Beamforming, Numerology, beamforming, equivalent_gains
from semlink.channel.plan import Plan
from semlink.channel.recordings import ChannelMatrices
from semlink.parameters import Notation, Option

MAX_STREAMS = 16
"""Most spatial streams: the state of the channel then still fits a message."""
STREAMS = 4
"""Streams where nothing else is said: N_s of IA-QSMPA, Section V; fewer of a measured H that carries fewer."""
AnyT = TypeVar("AnyT", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Link:
    """One frame on the channel that it meets: blocks, powers, gains.

    Where the channel has fewer subchannels than the plan has blocks, its matrices stand there once for each of the
    OFDM symbols that the plan takes as one (`Numerology.repeated`).
    """

    frame: Carried
    plan: Plan
    state: MimoFadingState
    noise_power: float
    """σ²."""

    @property
    def is_known(self) -> bool:
        """Both ends know the channel as it is, all the time."""
        return self.state.is_known

    @property
    def gains(self) -> NDArray[np.float64]:
        """(F, N_s) singular values of H at the frame's start."""
        return self._repeated(self.state.gains)

    @property
    def estimate(self) -> NDArray[np.complex128]:
        """(F, N_r, N_t) H as both ends believe it to be."""
        return self._repeated(self.state.estimate)

    def at(self, interval: int) -> NDArray[np.complex128]:
        """(F, N_r, N_t) H during a coherence time, counted from 0."""
        return self._repeated(self.state.at(interval))

    def latencies(self, penalty: float | NDArray[np.float64] = 0.0) -> NDArray[np.float64]:
        """(N,) seconds of each block by equation (24), or (38) with a `dispersion_penalty`; possibly infinite.

        Where the channel is not the one that the beams are for, the rate of a subchannel is that of its ratio of
        signal to interference and noise.
        """
        if not self.state.redrawn:
            gains = self.gains if self.is_known else self._equivalent_gains(0)
            return self._blocks(gains, penalty).latencies(self.plan.load, self.plan.power)
        return latencies_over_intervals(
            self.plan.load,
            lambda interval: self._blocks(self._equivalent_gains(interval), penalty).rates(self.plan.power),
            self.plan.numerology.coherence_seconds,
        )

    def _equivalent_gains(self, interval: int) -> NDArray[np.float64]:
        return equivalent_gains(self.at(interval), self._beams, self.plan.power_of_subchannel, self.noise_power)

    @cached_property
    def _beams(self) -> Beamforming:
        return beamforming(self.estimate, self.plan.numerology.streams)

    def _repeated(self, values: NDArray[AnyT]) -> NDArray[AnyT]:
        times = self.plan.numerology.subcarriers // self.state.numerology.subcarriers
        return values if times == 1 else np.tile(values, (times, *[1] * (values.ndim - 1)))

    def _blocks(self, gains: NDArray[np.float64], penalty: float | NDArray[np.float64]) -> Blocks:
        numerology = self.plan.numerology
        return Blocks(
            gains_of_blocks(gains, self.plan.block_of_subchannel, self.plan.load.size),
            self.noise_power,
            numerology.total_power,
            numerology.spacing_hz,
            values_per_segment=1,
            penalty=penalty,
        )


@dataclass(frozen=True, kw_only=True)
class PlannedChannel(Noisy):
    """MIMO-OFDM, drawn anew for every frame of every device, or measured."""

    takes_plan = True

    streams: Annotated[
        int,
        Interval(ge=1, le=MAX_STREAMS),
        Option("spatial streams N_s, antennas on either side; of a measured H as many as it carries, 4 at most"),
        Notation(
            "N_s",
            "streams",
            "y_f = λ_f √(P_f) x_f + v_f\nL_c = ⌊(N_s F)/G⌋ T",
            "IA-QSMPA, equation (7), on each subchannel, F = 784 subcarriers; below: symbols of each of G "
            "blocks within the coherence time, T = 50 (Section IV)",
        ),
    ] = STREAMS
    csi_error: Annotated[
        float,
        Interval(ge=0, le=100),
        Option(
            "variance of the errors in each entry of the channel as both ends know it; 0: they know it perfectly, "
            "as in the paper"
        ),
        Notation("σ_e^2", "", "Ĥ = H + E, E_jk ∼ CN(0, σ_e^2)", "the paper assumes none (IA-QSMPA, Section II)"),
    ] = 0.0
    redraw_every_coherence: Annotated[
        bool,
        Option(
            "draw the channel anew, or go on to the next measured H, every coherence time of 50 OFDM symbols; "
            "plan and beams stay those of the frame's start; otherwise it is held for the frame, as in the paper"
        ),
    ] = False

    @property
    def numerology(self) -> Numerology:
        """Dimensions of the link.

        Of measured matrices, P_tot is N_s·F: the mean power of a subchannel is 1 at every number of streams.
        """
        if not isinstance(self.recording, ChannelMatrices):
            return Numerology(streams=self.streams)
        subcarriers, streams = self.recording.subcarriers, min(self.streams, self.recording.rank)
        return Numerology(subcarriers, streams, self.recording.spacing_hz, float(subcarriers * streams))

    @property
    def block_error_rate(self) -> float | None:
        """μ̃ for which blocks are planned; None: they are taken as long enough to arrive."""
        return None

    def check_matrices(self, recording: ChannelMatrices) -> None:
        """See `Noisy.check_matrices`."""
        if self.streams not in (STREAMS, *range(1, recording.rank + 1)):
            receive, transmit = recording.antennas
            raise ValueError(
                f"streams must be at most {recording.rank}, as H of channel file {self.channel_file} carries over "
                f"{receive} × {transmit} antennas, not {self.streams}"
            )

    def draw_state(
        self,
        random: Callable[..., np.random.Generator],
        *,
        frame: int = 0,
        start: int = 0,
        precision: type = np.complex128,
    ) -> MimoFadingState:
        """See `Channel.draw_state`."""
        return MimoFadingState(
            snr_db=self.measured_snr(frame),
            numerology=self.numerology,
            csi_error=self.csi_error,
            redrawn=self.redraw_every_coherence,
            random=random,
            precision=precision,
            matrices=self.recording if isinstance(self.recording, ChannelMatrices) else None,
            first=start + frame,
        )

    def transmit(
        self,
        frame: Carried,
        plan: Plan | None,
        state: FadingState | None,
        generator: np.random.Generator,
    ) -> Arrival:
        """See `Channel.transmit`. A frame without bits in its payload, such as an opinion, needs no plan.

        Raises:
            ValueError: there is no plan or no state, or they do not fit the frame.
        """
        loaded = np.flatnonzero(frame.segment_bits)
        if not loaded.size:
            nothing = np.zeros(frame.segment_bits.size)
            return Arrival(np.empty(0, np.int64), seconds=nothing, latencies=nothing)
        if plan is None or not isinstance(state, MimoFadingState):
            raise ValueError(f"{self.name} takes frames with a plan and a state")
        if not np.array_equal(plan.load, frame.segment_bits[loaded]):
            raise ValueError("plan must have the bits of the frame's segments")
        if plan.numerology != state.numerology.repeated(plan.load.size):
            raise ValueError(f"plan must be for the channel's {state.numerology}, not {plan.numerology}")
        link = Link(frame, plan, state, plan.numerology.noise_power(self.snr_met(state)))
        return _by_segment(self.carry(link, generator), loaded, frame.segment_bits.size)

    @abstractmethod
    def carry(self, link: Link, generator: np.random.Generator) -> Arrival:
        """Sends a payload under its plan; see `Channel.transmit`. What it says is of blocks, not of segments."""


def _by_segment(arrival: Arrival, loaded: NDArray[np.int64], segments: int) -> Arrival:
    """What arrives of blocks, told of the segments: those without bits take no time.

    Args:
        arrival: of blocks.
        loaded: (N,) the segment that each block carries.
        segments: how many there are.
    """
    if loaded.size == segments:
        return arrival

    def spread(values: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        if values is None:
            return None
        whole = np.zeros(segments)
        whole[loaded] = values
        return whole

    return replace(
        arrival,
        lost=loaded[arrival.lost],
        seconds=spread(arrival.seconds),
        latencies=spread(arrival.latencies),
    )


def is_planned(channel: Channel) -> TypeGuard[PlannedChannel]:
    """Whether a channel takes plans, for the type checker too."""
    return channel.takes_plan
