"""One frame over the air: which bits are exposed, what arrives of them."""

import time

import numpy as np

from channel_emulator.held_channel import HeldChannel
from channel_emulator.impairments import Awgn, Planned, Rayleigh, Unplanned
from channel_emulator.planned_frame import PlannedFrame
from semlink.channel.bsc import invert_bits
from semlink.frame import MAX_FRAME_BYTES, FrameError
from semlink.source.iaq.frame import IaqFrame
from semlink.source.registry import read_frame
from semlink.v1.link_pb2 import ChannelReport, TransmissionPlan


def transmit(
    frame: bytes, impairment: Unplanned, generator: np.random.Generator, *, impair_header: bool
) -> tuple[bytes, ChannelReport]:
    """Sends a frame through a channel that takes no plan.

    Args:
        frame: a valid frame, version 1.
        impairment: what the channel does.
        generator: the source of its randomness.
        impair_header: expose the header as well. Otherwise it is taken as protected, as in the papers. The
            padding of the payload carries nothing and is never exposed.

    Returns:
        The frame as it arrives, and the report of what happened to it.

    Raises:
        FrameError: `frame` is longer than `MAX_FRAME_BYTES`, or breaks a rule of the format.
    """
    started = time.perf_counter()
    sent = read_frame(frame, most_bytes=MAX_FRAME_BYTES)
    first = 0 if impair_header else sent.header_bits
    exposed = sent.header_bits + sent.payload_bits - first
    if isinstance(impairment, Awgn | Rayleigh):
        values = np.unpackbits(np.frombuffer(frame, np.uint8))[first : first + exposed]
        positions = np.flatnonzero(impairment.arrive(values, generator) != values)
    else:
        positions = impairment.flips(exposed, generator)
    received = bytearray(frame)
    invert_bits(received, first + positions)
    report = ChannelReport(
        impairment=impairment.type,
        bits_flipped=len(positions),
        bits_exposed=exposed,
        channel_ms=1000 * (time.perf_counter() - started),
    )
    return bytes(received), report


def transmit_planned(
    frame: bytes,
    plan: TransmissionPlan | None,
    impairment: Planned,
    held: HeldChannel,
    generator: np.random.Generator,
) -> tuple[bytes, ChannelReport]:
    """Sends a frame through a channel that takes plans. The header is always taken as protected.

    Args:
        frame: a valid frame, version 1.
        plan: how it is sent, as the device says.
        impairment: what the channel does.
        held: the channel that the frame meets.
        generator: the source of noise and errors.

    Returns:
        The frame as it arrives, and the report, whose `lost_blocks` are the patches that the receiver knows to be
        lost. The header is as it was sent, so the payload keeps its length: the bits of these patches are zeros.

    Raises:
        FrameError: as `transmit`.
        PlanRefused: there is no plan, or it can't be carried out.
    """
    started = time.perf_counter()
    sent = read_frame(frame, most_bytes=MAX_FRAME_BYTES)
    if not isinstance(sent, IaqFrame):
        raise FrameError("profile", f"a plan is for frames of profile {IaqFrame.profile}, not {sent.profile}")
    planned = PlannedFrame.of(sent, plan, held)
    values = np.unpackbits(np.frombuffer(sent.payload, np.uint8), count=sent.payload_bits)
    arrival = impairment.arrive(values, planned, generator)
    flipped = int(np.count_nonzero(arrival.values != values))
    is_lost = np.zeros(planned.bits.size, bool)
    is_lost[arrival.lost] = True
    arrived = np.where(np.repeat(is_lost, planned.load), 0, arrival.values)
    received = bytearray(frame)
    invert_bits(received, sent.header_bits + np.flatnonzero(arrived != values))
    numerology = held.numerology
    air = float(arrival.seconds.max())
    report = ChannelReport(
        impairment=impairment.type,
        bits_flipped=flipped,
        bits_exposed=sent.payload_bits,
        block_air_ms=1e3 * arrival.seconds,
        air_ms=1e3 * air,
        t_d_ms=1e3 * float(arrival.latencies.max()),
        lost_blocks=arrival.lost,
        bits_lost=int(planned.load[arrival.lost].sum()),
        exceeds_coherence=air > numerology.coherence_symbols * numerology.symbol_seconds,
        power=float(planned.power_of_subchannel.sum()),
        channel_ms=1000 * (time.perf_counter() - started),
    )
    return bytes(received), report
