"""Transmission of one frame: what is exposed to the channel, what arrives of it, and the report of that."""

import time

import numpy as np

from channel_emulator.plan_messages import PlanRefused, read_plan
from channel_emulator.randomness import FrameRandomness
from semlink.channel.base import Carried, Channel
from semlink.channel.fading import MimoFadingState
from semlink.channel.planned import is_planned
from semlink.channel.segments import WholeFrame
from semlink.frame import MAX_FRAME_BYTES
from semlink.source.registry import read_frame
from semlink.v1.link_pb2 import ChannelReport, TransmissionPlan

PRECISION = np.complex64
"""In which the state of a channel travels to devices: both ends then know the same channel."""


def transmit(
    data: bytes,
    message: TransmissionPlan | None,
    channel: Channel,
    randomness: FrameRandomness,
    *,
    impair_header: bool = False,
) -> tuple[bytes, ChannelReport]:
    """Sends a frame through a channel.

    Args:
        data: a valid frame, version 1.
        message: how it is sent, as the device says; channels that take no plans ignore it.
        channel: what the channel does.
        randomness: the source of state, noise and errors.
        impair_header: expose the header as well, where no plan says how to send it. Otherwise it is taken as
            protected, as in the papers. The padding of the payload carries nothing and is never exposed.

    Returns:
        The frame as it arrives, and the report, whose `lost_blocks` are the segments that the receiver knows to be
        lost. The header says what was sent, so the payload keeps its length: the bits of these are zeros.

    Raises:
        FrameError: `data` is longer than `MAX_FRAME_BYTES`, or breaks a rule of the format.
        PlanRefused: there is no plan where there must be one, or it can't be carried out.
        AccessRefused: the channel's access scheme does not take such frames.
    """
    started = time.perf_counter()
    frame = read_frame(data, most_bytes=MAX_FRAME_BYTES)
    exposed: Carried = frame
    plan, report = None, ChannelReport(impairment=channel.name)
    state = channel.draw_state(
        randomness.stream, frame=randomness.frame_id, start=randomness.start, precision=PRECISION
    )
    if is_planned(channel) and isinstance(state, MimoFadingState):
        plan = read_plan(message, frame, channel, state, randomness.state_id(channel))
        if plan is not None:
            symbols = plan.numerology.subcarriers // channel.numerology.subcarriers
            report.power = float(plan.power_of_subchannel.sum()) / symbols
    elif impair_header:
        exposed = WholeFrame(frame)
    arrival = channel.transmit(exposed, plan, state, randomness.stream())
    if (never := arrival.never).size:
        raise PlanRefused(
            "latency",
            f"{never.size} blocks get nothing through, the first of them block {never[0]}: more power or SNR",
        )
    received = data[: len(data) - len(exposed.payload)] + arrival.received(exposed)
    report.bits_flipped, report.bits_exposed = len(arrival.flips), exposed.payload_bits
    if arrival.lost.size:
        blocks = arrival.lost - (exposed.segment_bits.size - frame.segment_bits.size)
        report.lost_blocks.extend(blocks[blocks >= 0])
        report.bits_lost = int(exposed.segment_bits[arrival.lost].sum())
    report.channel_uses = arrival.channel_uses or 0
    if arrival.seconds is not None:
        report.block_air_ms.extend(1e3 * arrival.seconds)
        report.air_ms = 1e3 * arrival.air_seconds
    if arrival.latencies is not None:
        report.t_d_ms = 1e3 * float(arrival.latencies.max(initial=0.0))
    if plan is not None:
        report.exceeds_coherence = arrival.air_seconds > plan.numerology.coherence_seconds
    report.channel_ms = 1000 * (time.perf_counter() - started)
    return received, report
