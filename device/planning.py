"""Transmission plan of a view: for the channel as the emulator reports it; and the frame that it asks for."""

import math
import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from device.capture import Encoded
from semlink.access.planner import PlanMethod, PredictedPlan, plan, unit_variance_range
from semlink.channel.ofdm import Numerology, subchannel_gains
from semlink.source.iaq import IaqFrame
from semlink.source.iaq.coder import encode_with
from semlink.source.iaq.importance import importance_weights
from semlink.v1 import link_pb2 as pb


class PlanningError(Exception):
    """No plan can be made for the channel; the message says why."""


@dataclass(frozen=True, eq=False)
class PlannedView:
    """A view that is ready to be sent over a certain state of the channel.

    Attributes:
        view: the view, its frame having the plan's bits.
        plan: which block goes where, at what power.
        message: the plan as it travels with the frame.
        plan_ms: time for the SVD of the channel and for planning.
    """

    view: Encoded
    plan: PredictedPlan
    message: pb.TransmissionPlan
    plan_ms: float


def plan_view(view: Encoded, state: pb.ChannelState, method: PlanMethod, rho: float) -> PlannedView:
    """Plans and encodes a view anew for a channel, by the attention that is known already.

    Raises:
        PlanningError: the state makes no sense, this method has no plan for it, or the view waited in a spool
            since the device had another source coder.
    """
    if view.attention is None or (view.original is None and not isinstance(view.frame, IaqFrame)):
        raise PlanningError("the view is of another source coder, whose frames take no plans; see --source")
    started = time.perf_counter()
    try:
        numerology, channel = _channel(state)
        made = plan(
            importance_weights(view.attention.astype(np.float64)),
            subchannel_gains(channel, numerology.streams),
            state.snr_db,
            method=method,
            numerology=numerology,
            rho=rho,
            block_error_rate=state.target_bler if state.HasField("target_bler") else None,
            value_range=unit_variance_range(view.pixels),
        )
        planned = time.perf_counter()
        data = encode_with(view.pixels, made.bits).to_bytes()
    except ValueError as error:
        raise PlanningError(f"{method} has no plan for the channel: {error}") from None
    message = pb.TransmissionPlan(
        state_id=state.state_id,
        rho=made.rho,
        power=made.power,
        block_of_subchannel=made.block_of_subchannel.ravel(),
    )
    encode_ms = 1e3 * (time.perf_counter() - planned)
    sent = replace(view, data=data, original=view.pixels, encode_ms=encode_ms)
    return PlannedView(sent, made, message, 1e3 * (planned - started))


def _channel(state: pb.ChannelState) -> tuple[Numerology, NDArray[np.complex128]]:
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
