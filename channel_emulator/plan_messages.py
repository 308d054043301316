"""Transmission plan off the wire: the message checked, and why a plan is refused."""

import numpy as np
from numpy.typing import NDArray

from semlink.access.load_planner import LOAD_METHODS, plan_loads
from semlink.channel.fading import MimoFadingState
from semlink.channel.ofdm import Numerology, subchannel_gains
from semlink.channel.plan import MOST_BLOCKS_BY_METHOD, PLAN_RULES, Plan, PlanError, check_bits
from semlink.channel.planned import PlannedChannel
from semlink.frame import Frame
from semlink.v1.link_pb2 import TransmissionPlan

MISSING, STALE, METHOD = "missing", "stale", "method"
REASONS = (MISSING, STALE, *PLAN_RULES, METHOD)
"""Why a plan is refused: there is none, it is for another state of the channel, it breaks a rule, or nobody knows
the method that it names."""


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


def read_plan(
    message: TransmissionPlan | None,
    frame: Frame,
    channel: PlannedChannel,
    state: MimoFadingState,
    state_id: bytes,
) -> Plan | None:
    """The plan of a frame, as a device says it; nothing in it is trusted.

    Args:
        message: what came with the frame, if anything.
        frame: the frame; the blocks carry its segments that have bits.
        channel: the frame's.
        state: of the channel, as the frame meets it.
        state_id: of this state.

    Returns:
        The plan; None for a frame whose payload is empty, which needs none.

    Raises:
        PlanRefused: there is no plan, it was made for another channel, or it breaks a rule.
    """
    load = frame.segment_bits[frame.segment_bits > 0]
    if not load.size and message is None:
        return None
    if message is None:
        raise PlanRefused(MISSING, "this channel takes frames with a plan (of a device: --plan ia-qsmpa)")
    if message.state_id and message.state_id != state_id:
        raise PlanRefused(STALE, "it was made for another state of the channel: ask for the state, plan anew")
    if not load.size:
        raise PlanRefused("sizes", "a frame whose payload is empty is sent without a plan")
    if message.method:
        return _plan_by_method(message, frame, channel, state)
    try:
        if message.rho:
            check_bits(_bits_of_values(frame), message.rho)
        return _plan(message, load, channel.numerology, channel.block_error_rate)
    except PlanError as error:
        raise PlanRefused(error.rule, str(error).partition(": ")[2]) from None


def _plan_by_method(
    message: TransmissionPlan, frame: Frame, channel: PlannedChannel, state: MimoFadingState
) -> Plan:
    """The plan that a device has made too, of the same channel, loads and importance."""
    if message.rho or message.power or message.block_of_subchannel or message.error_rates:
        raise PlanRefused(METHOD, "a plan that names one has nothing else but the state's id")
    if message.method not in LOAD_METHODS:
        raise PlanRefused(METHOD, f"it must be one of {', '.join(LOAD_METHODS)}")
    if (blocks := np.count_nonzero(frame.segment_bits)) > MOST_BLOCKS_BY_METHOD:
        raise PlanRefused(
            METHOD, f"the frame has {blocks} blocks; at most {MOST_BLOCKS_BY_METHOD} are planned here"
        )
    try:
        return plan_loads(
            frame.segment_bits,
            frame.importance,
            subchannel_gains(state.estimate, channel.numerology.streams),
            channel.snr_met(state),
            method=message.method,
            numerology=channel.numerology,
            block_error_rate=channel.block_error_rate,
        )
    except ValueError as error:
        raise PlanRefused(METHOD, f"{message.method} has no plan for the channel: {error}") from None


def _plan(
    message: TransmissionPlan, load: NDArray[np.int64], numerology: Numerology, target_bler: float | None
) -> Plan:
    """The plan; PlanError where it breaks a rule, found before anything is made of what is too long."""
    planned = numerology.repeated(load.size)
    for name in ("power", *(("error_rates",) if message.error_rates else ())):
        if (entries := len(getattr(message, name))) != load.size:
            raise PlanError("sizes", f"{name} must have {load.size} entries, not {entries}")
    if (entries := len(message.block_of_subchannel)) != planned.subchannels:
        symbols = planned.subcarriers // numerology.subcarriers
        grid = f"{numerology.subcarriers} subcarriers × {numerology.streams} streams"
        raise PlanError(
            "sizes",
            f"block_of_subchannel must have {planned.subchannels} entries, not {entries}: the channel has {grid}"
            + (f", and {load.size} blocks take {symbols} OFDM symbols of it" if symbols > 1 else ""),
        )
    error_rates = np.array(message.error_rates, np.float64) if message.error_rates else None
    if error_rates is not None and not (target_bler is not None and error_rates.max() <= target_bler):
        most = "this channel has none" if target_bler is None else f"they must be at most {target_bler:g}"
        raise PlanError("error_rates", most)
    blocks = np.array(message.block_of_subchannel, np.int64)
    return Plan(
        numerology=planned,
        load=load,
        block_of_subchannel=blocks.reshape(planned.subcarriers, planned.streams),
        power=np.array(message.power, np.float64),
        error_rates=error_rates,
    )


def _bits_of_values(frame: Frame) -> NDArray[np.int64]:
    """(N,) bits of each value of a segment, of a frame whose bits a plan has chosen."""
    values = frame.values // frame.segment_bits.size
    bits, rest = np.divmod(frame.segment_bits, values)
    if rest.any():
        raise PlanError("bits", f"every segment must have as many bits for each of its {values} values")
    return bits
