"""The channel service: what a device may know of the channel that its next frame will meet."""

import asyncio

import grpc
import numpy as np

from channel_emulator.control import Impairments
from channel_emulator.impairments import Planned
from channel_emulator.settings import Settings
from channel_emulator.upstream import pass_on
from semlink.service.correlation import served
from semlink.v1 import link_pb2, link_pb2_grpc


class ChannelStates(link_pb2_grpc.ChannelServiceServicer):
    """Tells the state of channels that take plans; where there is none here, asks the upstream."""

    def __init__(self, channel: grpc.aio.Channel, settings: Settings, impairments: Impairments) -> None:
        """`impairments` may change between calls."""
        self._upstream = link_pb2_grpc.ChannelServiceStub(channel)
        self._settings = settings
        self._impairments = impairments

    @served
    async def GetChannel(
        self, request: link_pb2.GetChannelRequest, context: grpc.aio.ServicerContext
    ) -> link_pb2.ChannelState:
        """The state as it is now; the control plane may change it before the frame comes."""
        impairment = self._impairments.met_by(request.device_id)
        if isinstance(impairment, Planned):
            return await asyncio.to_thread(_state, impairment, self._settings.seed, request)
        return await pass_on(self._upstream, "GetChannel", request, context, self._settings)


def _state(impairment: Planned, seed: int, request: link_pb2.GetChannelRequest) -> link_pb2.ChannelState:
    held = impairment.hold(seed, request.device_id, request.frame_id)
    numerology = held.numerology
    return link_pb2.ChannelState(
        impairment=impairment.type,
        state_id=held.state_id,
        subcarriers=numerology.subcarriers,
        streams=numerology.streams,
        spacing_hz=numerology.spacing_hz,
        total_power=numerology.total_power,
        coherence_symbols=numerology.coherence_symbols,
        snr_db=held.snr_db,
        target_bler=impairment.block_error_rate,
        channel=held.estimate.astype(np.dtype("<c8")).tobytes(),
    )
