"""Frame file through a channel from the command line: `semlink channel`."""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from google.protobuf.json_format import MessageToDict

from channel_emulator.plan_messages import PlanRefused
from channel_emulator.randomness import FrameRandomness
from channel_emulator.transmission import PRECISION, FrameLost, transmit
from cli.channel_flags import ChannelFlags
from cli.frames import read_frame_file
from cli.from_settings import explained, fail, takes
from device.planning import transmission_plan
from semlink.access.load_planner import LOAD_METHODS, plan_loads
from semlink.access.planner import PlanMethod
from semlink.channel.base import Channel, channels
from semlink.channel.ofdm import subchannel_gains
from semlink.channel.planned import PlannedChannel, is_planned
from semlink.frame import Frame, FrameError
from semlink.source.registry import read_frame
from semlink.v1.link_pb2 import ChannelReport, TransmissionPlan

DEVICE = "device-1"
"""Device id by which the channel's randomness is drawn; the frame is the first of that device."""


@takes(channel=ChannelFlags())
def channel_command(
    *,
    frame: Annotated[Path, typer.Argument(help="A frame file, such as semlink encode writes.")],
    out: Annotated[Path, typer.Argument(help="The frame file to write: what arrives.")],
    channel: Channel,
    plan: Annotated[
        PlanMethod | None,
        typer.Option(
            help="For channels that take plans: which powers the frame's segments have, "
            f"{', '.join(LOAD_METHODS)}; their bits are as they are.",
            show_default="exact",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the channel.")] = 0,
    report: Annotated[
        bool, typer.Option("--report", help="Print all that the channel did as JSON, instead of one line.")
    ] = False,
) -> None:
    """Send a frame file through a channel, as the channel emulator does: the same flips for the same seed.

    What arrives is a frame again, such as "semlink classify" takes. Its header is taken as protected; patches that
    are known to be lost have no bits in it. A plan goes by the importance that the frame itself tells of.
    """
    if plan is not None and not is_planned(channel):
        takers = " and ".join(name.replace("_", "-") for name, kind in channels().items() if kind.takes_plan)
        fail(f"--plan is for --channel {takers}, not for {channel.name}", status=2)
    with explained(FrameError, FrameLost, PlanRefused, ValueError, OSError):
        sent = read_frame_file(frame)
        randomness = FrameRandomness(seed, DEVICE, 0)
        message = None
        if is_planned(channel):
            message = plan_message(sent, channel, randomness, plan or PlanMethod.EXACT)
        received, told = transmit(sent.to_bytes(), message, channel, randomness)
        arrived = read_frame(received).without(np.array(told.lost_blocks, np.int64))
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(arrived.to_bytes())
    typer.echo(json.dumps(document(told), allow_nan=False) if report else f"{out}: {sentence_of(told)}")


def plan_message(
    frame: Frame, channel: PlannedChannel, randomness: FrameRandomness, method: PlanMethod
) -> TransmissionPlan | None:
    """The plan of a frame as it is, by what it says of its segments' importance; None where it has no payload.

    Raises:
        ValueError: the method has no plan for bits that are given.
    """
    if not frame.payload_bits:
        return None
    state = channel.draw_state(
        randomness.stream, frame=randomness.frame_id, start=randomness.start, precision=PRECISION
    )
    made = plan_loads(
        frame.segment_bits,
        frame.importance,
        subchannel_gains(state.estimate, channel.numerology.streams),
        channel.snr_met(state),
        method=method,
        numerology=channel.numerology,
        block_error_rate=channel.block_error_rate,
    )
    return transmission_plan(made, randomness.state_id(channel), by_method=True)


def document(report: ChannelReport) -> dict[str, Any]:
    """The report for JSON, by the names that it has on the wire."""
    told: dict[str, Any] = MessageToDict(
        report, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    # 64-bit integers are text in protobuf's JSON.
    counts = ("bits_flipped", "bits_exposed", "bits_lost", "channel_uses", "air_bits")
    return told | {name: int(told[name]) for name in counts if name in told}


def sentence_of(report: ChannelReport) -> str:
    """What the channel did, in words."""
    share = 100 * report.bits_flipped / max(report.bits_exposed, 1)
    words = [
        report.impairment.replace("_", "-"),
        f"{report.bits_flipped:,} of {report.bits_exposed:,} bits flipped ({share:.3g} %)",
        f"{len(report.lost_blocks)} blocks lost",
    ]
    if report.channel_uses:
        words.append(f"{report.channel_uses:,} symbols on the air")
    if report.air_bits:
        words.append(f"{report.air_bits:,} bits on the air, coded")
    if report.air_ms:
        words.append(f"{report.air_ms:.4g} ms on the air")
    if report.exceeds_coherence:
        words.append("longer than the channel would stay as it is")
    return ", ".join(words)
