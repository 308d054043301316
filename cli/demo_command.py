"""`semlink demo`: the whole link on one machine."""

import asyncio
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cli.options import Allocation, WeightsFolder, fail, takes_allocation
from semlink.access.planner import TARGET_BLOCK_ERROR_RATE, PlanMethod
from semlink.channel.plan import MIN_BITS
from semlink.channel.qam import ORDERS


class Channel(StrEnum):
    """Impairments that the demo's channel knows."""

    NONE = "none"
    BSC = "bsc"
    AWGN = "awgn"
    RAYLEIGH = "rayleigh"
    MIMO_OFDM = "mimo-ofdm"
    FINITE_BLOCKLENGTH = "finite-blocklength"


class Coding(StrEnum):
    """What protects bits on mimo-ofdm."""

    IDEAL = "ideal"
    UNCODED = "uncoded"


class Errors(StrEnum):
    """What goes wrong on finite-blocklength."""

    BLOCK_LOSS = "block-loss"
    BER_RULE = "ber-rule"


_PLANNED = ("snr", "streams", "csi_error", "redraw_every_coherence", "pace")
SETTINGS_OF = {
    Channel.NONE: (),
    Channel.BSC: ("ber",),
    Channel.AWGN: ("snr", "order"),
    Channel.RAYLEIGH: ("snr", "order"),
    Channel.MIMO_OFDM: (*_PLANNED, "coding", "order"),
    Channel.FINITE_BLOCKLENGTH: (*_PLANNED, "target_bler", "errors"),
}
"""What each channel is told of all that can be set."""


@takes_allocation
def demo_command(
    *,
    images: Annotated[
        list[str] | None,
        typer.Option(
            help="One photo, to be seen four ways, or four (the first, of more): files, a folder, or names of "
            "scikit-image's photographs (chelsea, coffee, ...).  [default: chelsea]"
        ),
    ] = None,
    allocation: Allocation,
    channel: Annotated[Channel, typer.Option(help="What the channel does to the payload.")] = Channel.BSC,
    ber: Annotated[float, typer.Option(min=0, max=1, help="Bit error rate μ of bsc.")] = 0.01,
    snr: Annotated[
        float, typer.Option(min=-50, max=100, help="SNR in dB of all channels but none and bsc.")
    ] = 20.0,
    plan: Annotated[
        PlanMethod | None,
        typer.Option(
            help="How frames are planned for mimo-ofdm and finite-blocklength: bits (instead of --method's), "
            "subchannels, power; see semlink plan --help.  [default: ia-qsmpa]"
        ),
    ] = None,
    streams: Annotated[int, typer.Option(min=1, max=16, help="Their spatial streams N_s.")] = 4,
    coding: Annotated[
        Coding, typer.Option(help="Of mimo-ofdm. ideal: no errors; uncoded: QAM, bit by bit.")
    ] = Coding.IDEAL,
    order: Annotated[
        int, typer.Option(help="Points of the QAM of awgn, rayleigh, uncoded mimo-ofdm: 4, 16, 64, 256.")
    ] = 64,
    target_bler: Annotated[
        float, typer.Option(min=0, max=0.5, help="Block error rate of finite-blocklength, above 0.")
    ] = TARGET_BLOCK_ERROR_RATE,
    errors: Annotated[
        Errors, typer.Option(help="Of finite-blocklength: whole blocks are lost, or bits flip by rule (41).")
    ] = Errors.BLOCK_LOSS,
    csi_error: Annotated[
        float, typer.Option(min=0, max=100, help="Variance of the errors with which both ends know the channel.")
    ] = 0.0,
    redraw_every_coherence: Annotated[
        bool, typer.Option("--redraw-every-coherence", help="Redraw the channel every 50 OFDM symbols too.")
    ] = False,
    pace: Annotated[bool, typer.Option("--pace", help="Take the time that a frame is on the air.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the channel: the same seed, the same flips.")] = 0,
    weights: WeightsFolder = None,
    out: Annotated[Path, typer.Option(help="Where summary.json, pictures and logs go.")] = Path("runs/demo"),
) -> None:
    """Send four views of one object through the whole link: six processes, real sockets.

    Starts the server, the channel emulator and four devices, prints what each view became and the vote, writes
    summary.json and a picture of every view, and stops all it started.
    """
    from cli.demo import DemoError, DemoOptions, run_demo, show
    from semlink.vision.photos import PhotosError

    console = Console()
    given: dict[str, Any] = {
        "ber": ber,
        "snr": snr,
        "streams": streams,
        "coding": coding,
        "order": order,
        "target_bler": target_bler,
        "errors": errors,
        "csi_error": csi_error,
        "redraw_every_coherence": redraw_every_coherence,
        "pace": pace,
    }
    if order not in ORDERS:
        fail(f"--order must be one of {', '.join(map(str, ORDERS))}, not {order}", status=2)
    if not target_bler:
        fail("--target-bler must be above 0", status=2)
    told = {name: given[name] for name in SETTINGS_OF[channel]}
    options = DemoOptions(
        images or ["chelsea"],
        asdict(allocation),
        _plan(plan, channel, allocation),
        channel.value,
        told,
        seed,
        weights,
        out,
    )
    try:
        summary = asyncio.run(run_demo(options, console))
    except (DemoError, PhotosError, OSError) as error:
        fail(error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        fail("interrupted; everything it started is stopped", status=130)
    show(summary, console)
    console.print(f"Written: {out}/summary.json, {out}/view-1.png to view-4.png, logs in {out}/logs")


def _plan(plan: PlanMethod | None, channel: Channel, allocation: Allocation) -> PlanMethod | None:
    """How frames are planned; None for a channel that takes no plans."""
    if "streams" not in SETTINGS_OF[channel]:
        if plan is not None:
            fail("--plan is for --channel mimo-ofdm and finite-blocklength", status=2)
        return None
    if allocation.total_bits is not None:
        fail("a plan keeps to --rho: leave --total-bits out", status=2)
    if allocation.rho < MIN_BITS / 8:
        fail(f"a plan needs --rho of {MIN_BITS / 8} or more, not {allocation.rho}", status=2)
    return plan or PlanMethod.IA_QSMPA
