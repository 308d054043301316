"""Demo: the whole link on one machine, a server, a channel emulator and four devices, six processes."""

import asyncio
import contextlib
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import typer
from rich.console import Console

from channel_emulator.settings import Settings as ChannelSettings
from channel_emulator.settings import channel_fields
from cli.demo_policy import NAMES, device_flags, policy_flags, server_flags, why
from cli.demo_table import show
from cli.from_settings import Settings, WeightsFolder, explained, fail, refuse_without_effect, takes
from cli.processes import ProcessError, Processes, when_interrupted
from device.encoding import PLANNING, source_fields
from device.policy import PolicySettings
from semlink.access.planner import PlanMethod
from semlink.channel.base import channels
from semlink.decision.calibration import CalibrationError
from semlink.parameters import Only, parameters
from semlink.vision.photos import PhotosError, find_photos

VIEWS = 4
START_SECONDS = 120.0
ANSWER_SECONDS = 300.0
POLL_SECONDS = 0.1

ENCODER = Settings(PolicySettings, (*source_fields(), "plan", *NAMES), "Encoder")
CHANNEL = Settings(
    ChannelSettings,
    (*channel_fields(), "pace", "seed"),
    "Channel",
    fixed={"upstream": "unused:1"},
)

PLANNED = tuple(name.replace("_", "-") for name, kind in channels().items() if kind.takes_plan)
CODED = tuple(
    name.replace("_", "-")
    for name, kind in channels().items()
    if name != "none" and any(each.name == "access" and "ldpc" in each.choices for each in parameters(kind))
)
"""Channels with errors that code a whole frame, if they are told to."""
WITH_CHANNEL = {"pace": Only("channel", PLANNED)}
"""An emulator may get another channel at run time; that of a demo stays."""
BESIDE_PLAN = dict.fromkeys(("method", "gamma", "design_ber", "threshold"), Only("plan", (None,)))
"""A device falls back on these where no channel takes its plans; that of a demo then has no plan."""


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


@dataclass(frozen=True)
class Demo:
    """What the demo is to do.

    Attributes:
        images: one photo, or four.
        encoder: settings of the devices, and of a server that asks.
        channel: settings of the channel emulator.
        weights: folder with the models' weights, if it is not one of those searched anyway.
        out: folder for everything that it writes.
    """

    images: list[str]
    encoder: PolicySettings
    channel: ChannelSettings
    weights: Path | None
    out: Path

    @property
    def encoder_settings(self) -> dict[str, Any]:
        """Those settings of source coder and plan that decide about bits."""
        return {name: value for name, value in self.encoder.effective(BESIDE_PLAN).items() if name not in NAMES}

    @property
    def channel_settings(self) -> dict[str, Any]:
        """Those settings that the channel goes by."""
        found = self.channel.effective(WITH_CHANNEL)
        return {name: found[name] for name in CHANNEL.names if name in found and name not in ("channel", "seed")}


@takes(encoder=ENCODER, channel=CHANNEL)
def demo(
    *,
    images: Annotated[
        list[str] | None,
        typer.Option(
            help="One photo, to be seen four ways, or four (the first, of more): files, a folder, or names of "
            "scikit-image's photographs (chelsea, coffee, ...).  [default: chelsea]"
        ),
    ] = None,
    encoder: PolicySettings,
    channel: ChannelSettings,
    weights: WeightsFolder = None,
    out: Annotated[Path, typer.Option(help="Where summary.json, pictures and logs go.")] = Path("runs/demo"),
) -> None:
    """Send four views of one object through the whole link: six processes, real sockets.

    Starts the server, the channel emulator and four devices, prints what each view became and the vote, writes
    summary.json and a picture of every view, and stops all it started. With --policy ask or alone, it says whose
    picture was sent, and why the others were not; errors make nonsense of such pictures, so that --access is ldpc
    by default where the channel has it. For a channel that takes plans, --plan is ia-qsmpa by default, and exact
    for frames whose bits it does not choose.
    """
    takes_plans = channel.channel in PLANNED
    if encoder.plan and not takes_plans:
        fail(f"--plan is for --channel {' and '.join(PLANNED)}", status=2)
    if takes_plans and not encoder.plan:
        given = {name: getattr(encoder, name) for name in encoder.model_fields_set}
        method = PlanMethod.IA_QSMPA if encoder.source in PLANNING else PlanMethod.EXACT
        encoder = ENCODER.checked({**given, "plan": method})
    if encoder.policy != "all" and channel.channel in CODED and "access" not in channel.model_fields_set:
        given = {name: getattr(channel, name) for name in channel.model_fields_set - CHANNEL.fixed.keys()}
        channel = CHANNEL.checked({**given, "access": "ldpc"})
    refuse_without_effect(encoder, encoder.model_fields_set, BESIDE_PLAN)
    refuse_without_effect(channel, channel.model_fields_set, WITH_CHANNEL)
    console = Console()
    try:
        with explained(CalibrationError, DemoError, PhotosError, ProcessError, OSError):
            summary = asyncio.run(run(Demo(images or ["chelsea"], encoder, channel, weights, out), console))
    except (KeyboardInterrupt, asyncio.CancelledError):
        fail("interrupted; everything it started is stopped", status=130)
    show(summary, console)
    console.print(f"Written: {out}/summary.json, {out}/view-1.png to view-4.png, logs in {out}/logs")


async def run(demo: Demo, console: Console) -> dict[str, Any]:
    """Sends four views through the link; returns the summary, also written to `out`/summary.json.

    Raises:
        PhotosError: no such photos.
        ProcessError: a process failed.
        DemoError: a view stayed without picture or vote.
        TimeoutError: the server does not get ready.
    """
    photos, viewpoints = _four_views(demo.images)
    demo.out.mkdir(parents=True, exist_ok=True)
    (demo.out / "summary.json").unlink(missing_ok=True)  # nobody shall take the last run's for this one's
    task = asyncio.current_task()
    assert task is not None
    when_interrupted(task.cancel)
    async with AsyncExitStack() as stack:
        processes = await stack.enter_async_context(Processes(demo.out / "logs"))
        stack.enter_context(console.status("starting six processes: server, channel, four devices"))
        common = flags({"grpc_port": 0, "http_port": 0})
        weights = flags({"weights": demo.weights})
        asking = server_flags(demo.encoder)
        await processes.start("server", "server", *common, *flags({"threads": 1, **asking}), *weights)
        server = await processes.line("server", START_SECONDS)
        settings = {"upstream": server["grpc"], "channel": demo.channel.channel, **demo.channel_settings}
        await processes.start(
            "channel", "channel_emulator", *common, *flags({**settings, "seed": demo.channel.seed})
        )
        channel = await processes.line("channel", START_SECONDS)
        # A frame that met no model would be sent again, and its bits counted again.
        await processes.through(("server", "channel"), _until_ready(server["http"]))
        names = [f"device-{number}" for number in range(1, VIEWS + 1)]
        for name, photo, view in zip(names, photos, viewpoints, strict=True):
            settings = {
                "to": channel["grpc"], "images": str(photo).replace(",", r"\,"), "view": view,
                "object_id": "demo", "device_id": name, "expected_views": VIEWS, **demo.encoder_settings,
                **device_flags(demo.encoder), "threads": 1, "retry_seconds": START_SECONDS, "pictures": demo.out,
            }  # fmt: skip
            await processes.start(name, "device", *flags(settings), *weights)

        async def answers() -> list[dict[str, Any]]:
            return await asyncio.gather(*(processes.line(name, ANSWER_SECONDS) for name in names))

        views = await processes.through(("server", "channel"), answers())
        undamaged = await _undamaged(server["http"], photos, viewpoints)
    return _summarise(demo, [view | {"undamaged": answer} for view, answer in zip(views, undamaged, strict=True)])


def flags(settings: dict[str, Any]) -> list[str]:
    """Settings as a process's flags; those that are None, or switched off, are left to it."""
    found = []
    for name, value in settings.items():
        if value is not None and value is not False:
            found += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    return found


def _four_views(images: list[str]) -> tuple[list[Path], list[int | None]]:
    """Four photos, and the viewpoint of each device."""
    photos = find_photos(images)
    if len(photos) == 1:
        return photos * VIEWS, list(range(1, VIEWS + 1))
    if len(photos) < VIEWS:
        raise PhotosError(f"--images must be one photo, to be seen four ways, or four; not {len(photos)}")
    return photos[:VIEWS], [None] * VIEWS


async def _until_ready(server: str) -> None:
    """Returns once the server has loaded its model."""
    async with asyncio.timeout(START_SECONDS), httpx.AsyncClient(trust_env=False) as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get(f"http://{server}/v2/health/ready", timeout=START_SECONDS)).is_success:
                    return
            await asyncio.sleep(POLL_SECONDS)


async def _undamaged(server: str, photos: list[Path], viewpoints: list[int | None]) -> list[dict[str, Any]]:
    """The server's answers to what the cameras saw, in frames of 8 bits a value that cross no channel."""
    from device.camera import VIEWPOINTS, take_view
    from semlink.source.iaq.coder import MAX_BITS, encode_with
    from server.rest import FRAME_TYPE

    async def answer(client: httpx.AsyncClient, photo: Path, viewpoint: int | None) -> dict[str, Any]:
        pixels = take_view(photo, None if viewpoint is None else VIEWPOINTS[viewpoint - 1])
        frame = encode_with(pixels, np.full(196, MAX_BITS))
        answered = await client.post(
            "/v1/classify", content=frame.to_bytes(), headers={"Content-Type": FRAME_TYPE}
        )
        top = answered.raise_for_status().json()["predictions"][0]
        return {name: top[name] for name in ("label", "name", "confidence")}

    try:
        async with httpx.AsyncClient(
            base_url=f"http://{server}", timeout=START_SECONDS, trust_env=False
        ) as client:
            return [await answer(client, *each) for each in zip(photos, viewpoints, strict=True)]
    except httpx.HTTPError as error:
        raise DemoError(f"the server did not answer for the undamaged views: {error!r}") from None


def _summarise(demo: Demo, views: list[dict[str, Any]]) -> dict[str, Any]:
    from experiments.provenance import provenance

    for number, view in enumerate(views, start=1):
        if view["picture"] is None:
            raise DemoError(f"no picture of view {number} could be drawn; see {demo.out}/logs")
        view["picture"] = str(Path(view["picture"]).replace(demo.out / f"view-{number}.png"))
        view["why"] = why(view, demo.encoder)
    votes = [view["vote"] for view in views]
    if votes[0] is None or votes != votes[:1] * VIEWS:
        raise DemoError(f"the views did not come to one vote: {votes}")
    summary = {
        "views": views,
        "vote": votes[0],
        "channel": {
            "impairment": demo.channel.channel, **demo.channel_settings, "seed": demo.channel.seed
        },
        "encoder": {name: value for name, value in demo.encoder_settings.items() if name != "plan"},
        "plan": demo.encoder.plan,
        "policy": policy_flags(demo.encoder),
        "bits_on_air": {
            way: sum(view["bits_on_air"][way] for view in views) for way in ("uplink", "downlink")
        },
        **provenance(),
    }  # fmt: skip
    (demo.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary
