"""Planned source cell: frames of any registered source coder as they are, over a channel that takes plans."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from device.planning import transmission_plan
from experiments.evaluation.planned_cells import generators_of, spread, state_of
from experiments.evaluation.source_cells import Crossing, SourceCell
from semlink.access.load_planner import LOAD_METHODS, plan_loads
from semlink.access.mapping import SubcarrierMapping
from semlink.access.planner import PlanMethod
from semlink.channel.ofdm import subchannel_gains
from semlink.channel.planned import PlannedChannel
from semlink.frame import Frame
from semlink.source.registry import CodedImage

STATE_ID = bytes(16)
"""As long as an emulator's name of a state, for the length of a plan."""


@dataclass(frozen=True)
class PlannedSourceCell(SourceCell):
    """One setting of the link with a source coder whose frames travel under plans. IAQ has `PlannedCell`.

    The plan counts among the bits on the air. Where importance is in the frame itself, it is its method's name.

    Attributes:
        plan: how power serves the frame's bits, one of `LOAD_METHODS`.
        mapping: which subchannels important segments get.

    Raises:
        ValueError: there is no such method or mapping, or the channel takes no plans.
    """

    takes_plan: ClassVar[bool] = True

    channel: PlannedChannel
    plan: PlanMethod = PlanMethod.EXACT
    mapping: SubcarrierMapping = SubcarrierMapping.IMPORTANCE

    def __post_init__(self) -> None:
        """Refuses what no frame could be planned with."""
        super().__post_init__()
        if self.plan not in LOAD_METHODS:
            raise ValueError(f"plan must be one of {', '.join(LOAD_METHODS)} for {self.method}, not {self.plan}")
        object.__setattr__(self, "plan", PlanMethod(self.plan))
        object.__setattr__(self, "mapping", SubcarrierMapping(self.mapping))

    @property
    def title(self) -> str:
        """In words, for the progress bar."""
        return f"{super().title}, plan {self.plan}, {self.mapping}"

    def cross(self, coded: CodedImage[Frame], image: int, seed: int) -> Crossing:
        """See `SourceCell`; a frame without payload needs no plan.

        `Crossing.more` has T_d and the time on the air in seconds (`t_d`, `air`), and the plan's bits
        (`plan_bits`).
        """
        frame, channel, state = coded.frame, self.channel, state_of(self.channel, seed, image)
        _, of_mapping, of_errors = generators_of(seed, image)
        made, plan_bits = None, 0
        if frame.payload_bits:
            made = plan_loads(
                frame.segment_bits,
                coded.importance,
                subchannel_gains(state.estimate, channel.numerology.streams) if state.csi_error else state.gains,
                channel.snr_met(state),
                method=self.plan,
                numerology=channel.numerology,
                mapping=self.mapping,
                generator=of_mapping,
                block_error_rate=channel.block_error_rate,
            )
            by_method = self.coder.takes == "pixels" and self.mapping == SubcarrierMapping.IMPORTANCE
            plan_bits = 8 * transmission_plan(made, STATE_ID, by_method=by_method).ByteSize()
        arrival = channel.transmit(frame, made, state, of_errors)
        t_d = 0.0 if arrival.latencies is None else float(arrival.latencies.max(initial=0.0))
        more = {"t_d": t_d, "air": arrival.air_seconds, "plan_bits": float(plan_bits)}
        return Crossing(arrival, plan_bits, more)

    def fields(self, shared: None, seen: Mapping[str, NDArray]) -> dict[str, Any]:
        """Also T_d and time on the air in ms, see `spread`, and the mean bits of plans."""
        return super().fields(shared, seen) | {
            "t_d_ms": spread(seen["t_d"] * 1e3),
            "air_ms": spread(seen["air"] * 1e3),
            "plan_bits": float(np.mean(seen["plan_bits"])),
        }
