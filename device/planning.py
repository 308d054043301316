"""Transmission plan of a view: for the channel as the emulator reports it; and the frame that it asks for.

Of IAQ's pictures a plan chooses the bits, and they are encoded for it; other frames are planned as they are."""

import math
import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from device.capture import Encoded
from semlink.access.load_planner import plan_loads
from semlink.access.planner import PlanMethod, PredictedPlan, QuantizingPlan, plan, unit_variance_range
from semlink.channel.ofdm import Numerology, subchannel_gains
from semlink.channel.plan import MOST_BLOCKS_BY_METHOD
from semlink.source.iaq import IaqFrame
from semlink.source.iaq.coder import encode_with
from semlink.source.iaq.importance import importance_weights
from semlink.source.registry import coder_of
from semlink.v1 import link_pb2 as pb


class PlanningError(Exception):
    """No plan can be made for the channel; the message says why."""


@dataclass(frozen=True, eq=False)
class PlannedView:
    """A view that is ready to be sent over a certain state of the channel.

    Attributes:
        view: the view; its frame has the plan's bits, where it chose them.
        plan: which block goes where, at what power.
        message: the plan as it travels with the frame.
        plan_ms: time for the SVD of the channel and for planning.
    """

    view: Encoded
    plan: PredictedPlan
    message: pb.TransmissionPlan
    plan_ms: float


def plan_view(view: Encoded, state: pb.ChannelState, method: PlanMethod, rho: float | None) -> PlannedView:
    """Plans a view for a channel; an IAQ picture is encoded anew, by the attention that is known already.

    Args:
        view: its payload is not empty.
        state: of the channel.
        method: one of `semlink.access.load_planner.LOAD_METHODS` for frames as they are.
        rho: compression ratio that the bits of IAQ pictures keep to; None: every frame is planned as it is.

    Raises:
        PlanningError: the state makes no sense, or this method has no plan for it or for such a frame.
    """
    started = time.perf_counter()
    try:
        numerology, channel = channel_of(state)
        gains = subchannel_gains(channel, numerology.streams)
        error_rate = state.target_bler if state.HasField("target_bler") else None
        made: PredictedPlan
        if rho is not None and view.attention is not None and isinstance(view.frame, IaqFrame):
            made = plan(
                importance_weights(view.attention.astype(np.float64)),
                gains,
                state.snr_db,
                method=method,
                numerology=numerology,
                rho=rho,
                block_error_rate=error_rate,
                value_range=unit_variance_range(view.pixels),
            )
        else:
            attention = _attention(view)
            made = plan_loads(
                view.frame.segment_bits,
                view.frame.importance if attention is None else attention,
                gains,
                state.snr_db,
                method=method,
                numerology=numerology,
                block_error_rate=error_rate,
            )
        planned = time.perf_counter()
        if isinstance(made, QuantizingPlan):
            data = encode_with(view.pixels, made.bits).to_bytes()
            encode_ms = 1e3 * (time.perf_counter() - planned)
            view = replace(view, data=data, original=view.pixels, encode_ms=encode_ms)
    except ValueError as error:
        raise PlanningError(f"{method} has no plan for the channel: {error}") from None
    message = transmission_plan(made, state.state_id, by_method=_attention(view) is None)
    return PlannedView(view, made, message, 1e3 * (planned - started))


def transmission_plan(made: PredictedPlan, state_id: bytes, *, by_method: bool = False) -> pb.TransmissionPlan:
    """A plan as it travels with its frame.

    Args:
        made: the plan.
        state_id: of the channel's state that it was made for.
        by_method: say only the method's name, by which the other end finds the same plan: of a frame as it is,
            whose own importance has ordered the mapping. That is some 25 bytes instead of thousands.
    """
    if by_method and made.load.size <= MOST_BLOCKS_BY_METHOD and not isinstance(made, QuantizingPlan):
        return pb.TransmissionPlan(state_id=state_id, method=made.method)
    return pb.TransmissionPlan(
        state_id=state_id,
        rho=made.rho if isinstance(made, QuantizingPlan) else 0.0,
        power=made.power,
        block_of_subchannel=made.block_of_subchannel.ravel(),
        error_rates=made.error_rates,
    )


def _attention(view: Encoded) -> NDArray[np.float64] | None:
    """(M,) attention on the frame's segments, where it is on these, and not only in the frame's own importance."""
    segments, attention = view.frame.segment_bits.size, view.attention
    if attention is None or attention.size != segments or coder_of(view.frame).takes == "pixels":
        return None
    return attention.astype(np.float64)


def channel_of(state: pb.ChannelState) -> tuple[Numerology, NDArray[np.complex128]]:
    """Dimensions and (F, N_r, N_t) H of a state; ValueError if it contradicts itself."""
    numerology = Numerology(
        state.subcarriers, state.streams, state.spacing_hz, state.total_power, state.coherence_symbols
    )
    shape = (
        numerology.subcarriers,
        state.receive_antennas or numerology.streams,
        state.transmit_antennas or numerology.streams,
    )
    if len(state.channel) != 8 * math.prod(shape):
        raise ValueError(f"its state has {len(state.channel)} bytes, and should have {8 * math.prod(shape)}")
    return numerology, np.frombuffer(state.channel, "<c8").reshape(shape).astype(np.complex128)
