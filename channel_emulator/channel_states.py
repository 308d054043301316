"""Channel service: the state of the channel that a device's next frame will meet."""

import asyncio

import grpc
import numpy as np

from channel_emulator.live import LiveImpairments
from channel_emulator.randomness import FrameRandomness
from channel_emulator.settings import Settings
from channel_emulator.transmission import PRECISION
from channel_emulator.upstream import pass_on
from semlink.channel.planned import PlannedChannel, is_planned
from semlink.service.correlation import served
from semlink.v1 import link_pb2, link_pb2_grpc


class ChannelStates(link_pb2_grpc.ChannelServiceServicer):
    """Tells the state of channels that take plans; where there is none here, asks the upstream."""

    def __init__(self, channel: grpc.aio.Channel, settings: Settings, impairments: LiveImpairments) -> None:
        """`impairments` may change between calls."""
        self._upstream = link_pb2_grpc.ChannelServiceStub(channel)
        self._settings = settings
        self._impairments = impairments

    @served
    async def GetChannel(
        self, request: link_pb2.GetChannelRequest, context: grpc.aio.ServicerContext
    ) -> link_pb2.ChannelState:
        """The state as it is now; the control plane may change it before the frame comes."""
        channel = self._impairments.met_by(request.device_id)
        if is_planned(channel):
            randomness = FrameRandomness(self._settings.seed, request.device_id, request.frame_id)
            return await asyncio.to_thread(_state, channel, randomness)
        state: link_pb2.ChannelState = await pass_on(
            self._upstream, "GetChannel", request, context, self._settings
        )
        return state


def _state(channel: PlannedChannel, randomness: FrameRandomness) -> link_pb2.ChannelState:
    numerology = channel.numerology
    state = channel.draw_state(
        randomness.stream, frame=randomness.frame_id, start=randomness.start, precision=PRECISION
    )
    receive, transmit = state.estimate.shape[1:]
    return link_pb2.ChannelState(
        impairment=channel.name,
        state_id=randomness.state_id(channel),
        subcarriers=numerology.subcarriers,
        streams=numerology.streams,
        spacing_hz=numerology.spacing_hz,
        total_power=numerology.total_power,
        coherence_symbols=numerology.coherence_symbols,
        snr_db=channel.snr_met(state),
        target_bler=channel.block_error_rate,
        channel=state.estimate.astype(np.dtype(PRECISION).newbyteorder("<")).tobytes(),
        receive_antennas=receive,
        transmit_antennas=transmit,
    )
