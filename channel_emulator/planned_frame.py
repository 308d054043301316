"""A frame that travels with its plan: the plan checked, and what it comes to on the channel as it is."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from channel_emulator.held_channel import HeldChannel
from semlink.channel.blocks import Blocks, gains_of_blocks
from semlink.channel.mismatch import equivalent_gains, latencies_over_intervals
from semlink.channel.ofdm import Beamforming, beamforming
from semlink.channel.plan import PLAN_RULES, Plan, PlanError
from semlink.source.iaq.frame import IaqFrame
from semlink.v1.link_pb2 import TransmissionPlan

MISSING, STALE = "missing", "stale"
REASONS = (MISSING, STALE, *PLAN_RULES)
"""Why a plan is refused: there is none, it is for another state of the channel, or it breaks a rule."""


class PlanRefused(Exception):
    """A frame whose plan can't be carried out. `rule` is one of `REASONS`, and the message begins with it."""

    def __init__(self, rule: str, message: str) -> None:
        """`message`: how the rule is broken."""
        super().__init__(f"plan: {rule}: {message}")
        self.rule = rule

    @property
    def calls_for_another(self) -> bool:
        """The frame's view may go through later, under a plan for the channel as it is then."""
        return self.rule in (MISSING, STALE, "latency")


@dataclass(frozen=True, eq=False, kw_only=True)
class PlannedFrame(Plan):
    """A plan with the channel that its frame meets. Block i is patch i."""

    held: HeldChannel

    @classmethod
    def of(cls, frame: IaqFrame, plan: TransmissionPlan | None, held: HeldChannel) -> "PlannedFrame":
        """Checks a plan that nobody vouches for.

        Raises:
            PlanRefused: there is none, it was made for another channel, or it breaks a rule.
        """
        if plan is None:
            raise PlanRefused(MISSING, "this channel takes frames with a plan (of a device: --plan ia-qsmpa)")
        if plan.state_id and plan.state_id != held.state_id:
            raise PlanRefused(STALE, "it was made for another state of the channel: ask for the state, plan anew")
        numerology, patches = held.numerology, frame.geometry.patches
        # Before anything is made of them.
        for name, entries, wanted in (
            ("power", len(plan.power), patches),
            ("block_of_subchannel", len(plan.block_of_subchannel), numerology.subchannels),
        ):
            if entries != wanted:
                raise PlanRefused("sizes", f"{name} must have {wanted} entries, not {entries}")
        blocks = np.array(plan.block_of_subchannel, np.int64)
        try:
            return cls(
                numerology=numerology,
                rho=plan.rho,
                bits=frame.bits.astype(np.int64),
                block_of_subchannel=blocks.reshape(numerology.subcarriers, numerology.streams),
                power=np.array(plan.power, np.float64),
                values_per_segment=frame.geometry.values_per_patch,
                held=held,
            )
        except PlanError as error:
            raise PlanRefused(error.rule, str(error).partition(": ")[2]) from None

    def latencies(self, penalty: float = 0.0) -> NDArray[np.float64]:
        """(N,) seconds of each block by equation (24), or (38) with a `dispersion_penalty`; possibly infinite.

        Where the channel is not the one that the beams are for, the rate of a subchannel is that of its ratio of
        signal to interference and noise.
        """
        held = self.held
        if held.is_known:
            return self._blocks(held.gains, penalty).latencies(self.bits, self.power)
        if not held.redrawn:
            return self._blocks(self._gains_at(0), penalty).latencies(self.bits, self.power)
        return latencies_over_intervals(
            self.load,
            lambda interval: self._blocks(self._gains_at(interval), penalty).rates(self.power),
            held.numerology.coherence_symbols * held.numerology.symbol_seconds,
        )

    @cached_property
    def _beams(self) -> Beamforming:
        return beamforming(self.held.estimate)

    def _gains_at(self, interval: int) -> NDArray[np.float64]:
        channel = self.held.at(interval)
        return equivalent_gains(channel, self._beams, self.power_of_subchannel, self.held.noise_power)

    def _blocks(self, gains: NDArray[np.float64], penalty: float) -> Blocks:
        numerology = self.held.numerology
        return Blocks(
            gains_of_blocks(gains, self.block_of_subchannel, self.bits.size),
            self.held.noise_power,
            numerology.total_power,
            numerology.spacing_hz,
            self.values_per_segment,
            penalty,
        )
