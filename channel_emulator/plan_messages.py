"""Transmission plan off the wire: the message checked, and why a plan is refused."""

import numpy as np

from semlink.channel.ofdm import Numerology
from semlink.channel.plan import PLAN_RULES, Plan, PlanError
from semlink.frame import Frame
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


def read_plan(message: TransmissionPlan | None, frame: Frame, numerology: Numerology, state_id: bytes) -> Plan:
    """The plan of a frame, as a device says it; nothing in it is trusted.

    Args:
        message: what came with the frame, if anything.
        frame: the frame; block i carries its segment i.
        numerology: dimensions of the channel.
        state_id: of the channel's state that the frame meets.

    Raises:
        PlanRefused: there is no plan, it was made for another channel, or it breaks a rule.
    """
    if message is None:
        raise PlanRefused(MISSING, "this channel takes frames with a plan (of a device: --plan ia-qsmpa)")
    if message.state_id and message.state_id != state_id:
        raise PlanRefused(STALE, "it was made for another state of the channel: ask for the state, plan anew")
    segments = frame.segment_bits.size
    planned = numerology.repeated(segments)
    # Before anything is made of them.
    if len(message.power) != segments:
        raise PlanRefused("sizes", f"power must have {segments} entries, not {len(message.power)}")
    if (entries := len(message.block_of_subchannel)) != planned.subchannels:
        symbols = planned.subcarriers // numerology.subcarriers
        grid = f"{numerology.subcarriers} subcarriers × {numerology.streams} streams"
        raise PlanRefused(
            "sizes",
            f"block_of_subchannel must have {planned.subchannels} entries, not {entries}: the channel has {grid}"
            + (f", and {segments} blocks take {symbols} OFDM symbols of it" if symbols > 1 else ""),
        )
    values = frame.values // segments
    bits, rest = np.divmod(frame.segment_bits, values)
    if rest.any():
        raise PlanRefused("bits", f"every segment must have as many bits for each of its {values} values")
    blocks = np.array(message.block_of_subchannel, np.int64)
    try:
        return Plan(
            numerology=planned,
            rho=message.rho,
            bits=bits,
            block_of_subchannel=blocks.reshape(planned.subcarriers, planned.streams),
            power=np.array(message.power, np.float64),
            values_per_segment=values,
        )
    except PlanError as error:
        raise PlanRefused(error.rule, str(error).partition(": ")[2]) from None
