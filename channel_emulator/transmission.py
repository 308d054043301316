"""Transmission of one frame: what is exposed to the channel, what arrives of it, and the report of that."""

import time
from dataclasses import replace
from typing import Any

import numpy as np

from channel_emulator.plan_messages import PlanRefused, read_plan
from channel_emulator.randomness import FrameRandomness
from semlink.access.protection import MOST_DESIGN_BER
from semlink.access.symbol_link import AccessRefused
from semlink.channel.arrived_symbols import ArrivedSymbols, spread
from semlink.channel.base import Carried, Channel, Noisy
from semlink.channel.fading import MimoFadingState
from semlink.channel.planned import is_planned
from semlink.channel.segments import WholeFrame
from semlink.frame import MAX_FRAME_BYTES
from semlink.source.registry import read_frame
from semlink.v1.link_pb2 import ChannelReport, Constellation, Protection, TransmissionPlan

PRECISION = np.complex64
"""In which the state of a channel travels to devices: both ends then know the same channel."""
MOST_SYMBOLS = 4096
"""That a report shows: 32 kB."""


class FrameLost(Exception):
    """A coded frame of which too little could be decoded to make anything of it; stronger codes would help.

    Attributes:
        air_bits: bits that were on the air in vain.
        design_ber: bit error rate that the codes were designed for.
    """

    def __init__(self, air_bits: int, design_ber: float) -> None:
        """The message says what to do."""
        super().__init__(
            f"the frame is lost under codes for a bit error rate of {design_ber:.3g}: send it again as "
            f"the next attempt, designed for a higher one, {MOST_DESIGN_BER} at most"
        )
        self.air_bits = air_bits
        self.design_ber = design_ber


def transmit(
    data: bytes,
    message: TransmissionPlan | None,
    channel: Channel,
    randomness: FrameRandomness,
    *,
    impair_header: bool = False,
    protection: Protection | None = None,
    report_symbols: int = 0,
) -> tuple[bytes, ChannelReport]:
    """Sends a frame through a channel.

    Args:
        data: a valid frame, version 1.
        message: how it is sent, as the device says; channels that take no plans ignore it.
        channel: what the channel does.
        randomness: the source of state, noise and errors.
        impair_header: expose the header as well, where no plan says how to send it. Otherwise it is taken as
            protected, as in the papers, or where whole frames are coded it is exposed anyway. The padding of the
            payload carries nothing and is never exposed.
        protection: what the frame is coded for, as the device says; the channel's own where it says nothing.
        report_symbols: how many symbols the report is to show, at most `MOST_SYMBOLS`.

    Returns:
        The frame as it arrives, and the report, whose `lost_blocks` are the segments that the receiver knows to be
        lost. The header says what was sent, so the payload keeps its length: the bits of these are zeros.

    Raises:
        FrameError: `data` is longer than `MAX_FRAME_BYTES`, or breaks a rule of the format.
        PlanRefused: there is no plan where there must be one, or it can't be carried out.
        AccessRefused: the channel's access scheme does not take such frames, or no such protection.
        FrameLost: nothing can be made of what arrives of a coded frame, see `WholeFrame.is_lost`.
    """
    started = time.perf_counter()
    frame = read_frame(data, most_bytes=MAX_FRAME_BYTES)
    if protection is not None:
        channel = protected(channel, protection)
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
    elif impair_header or channel.codes_frames:
        exposed = WholeFrame(frame)
    arrival = channel.transmit(exposed, plan, state, randomness.stream())
    if (never := arrival.never).size:
        raise PlanRefused(
            "latency",
            f"{never.size} blocks get nothing through, the first of them block {never[0]}: more power or SNR",
        )
    if arrival.design_ber is not None and isinstance(exposed, WholeFrame) and exposed.is_lost(arrival):
        raise FrameLost(arrival.air_bits or 0, arrival.design_ber)
    received = data[: len(data) - len(exposed.payload)] + arrival.received(exposed)
    report.bits_flipped, report.bits_exposed = len(arrival.flips), exposed.payload_bits
    if arrival.lost.size:
        blocks = arrival.lost - (exposed.segment_bits.size - frame.segment_bits.size)
        report.lost_blocks.extend(blocks[blocks >= 0])
        report.bits_lost = int(exposed.segment_bits[arrival.lost].sum())
    if report_symbols and arrival.symbols is not None and isinstance(channel, Noisy):
        shown = constellation(arrival.symbols, report_symbols, channel.snr_met(state))
        report.constellation.CopyFrom(shown)
    report.channel_uses = arrival.channel_uses or 0
    report.air_bits = arrival.air_bits or 0
    if arrival.measured_ber is not None:
        report.measured_ber = arrival.measured_ber
    if arrival.seconds is not None:
        report.block_air_ms.extend(1e3 * arrival.seconds)
        report.air_ms = 1e3 * arrival.air_seconds
    if arrival.latencies is not None:
        report.t_d_ms = 1e3 * float(arrival.latencies.max(initial=0.0))
    if plan is not None:
        report.exceeds_coherence = arrival.air_seconds > plan.numerology.coherence_seconds
    report.channel_ms = 1000 * (time.perf_counter() - started)
    return received, report


def constellation(symbols: ArrivedSymbols, most: int, snr_db: float) -> Constellation:
    """Constellation of what arrived, as a report has it.

    Args:
        symbols: of the frame.
        most: how many of them to show.
        snr_db: SNR that the frame met, in dB.
    """
    places = spread(most, symbols.arrived.size)
    return Constellation(
        order=symbols.order,
        symbols=symbols.arrived[places].astype("<c8").tobytes(),
        wrong=np.flatnonzero(symbols.wrong(places)),
        total=symbols.arrived.size,
        snr_db=snr_db,
    )


def protected(channel: Channel, protection: Protection) -> Channel:
    """The channel with codes as a device wants them; nothing in the message is trusted.

    Raises:
        AccessRefused: the channel codes nothing, or there are no codes for such a bit error rate.
    """
    if not channel.codes_frames:
        raise AccessRefused("uncoded", f"{channel.name} codes nothing here: send the frame without protection")
    if not 0 <= protection.design_ber <= MOST_DESIGN_BER:
        raise AccessRefused(
            "design_ber",
            f"protection.design_ber must be within [0, {MOST_DESIGN_BER}], not {protection.design_ber:g}",
        )
    changed: Any = {"design_ber": protection.design_ber} if protection.design_ber else {}
    return replace(channel, **changed)
