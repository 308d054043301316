"""The whole link on one machine: a server, a channel emulator and four devices, each its own process."""

import asyncio
import contextlib
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from rich.console import Console
from rich.table import Table

from experiments.provenance import provenance
from semlink.vision.photos import PhotosError, find_photos

VIEWS = 4
START_SECONDS = 120.0
ANSWER_SECONDS = 300.0
STOP_SECONDS = 10.0
LOG_LINES_SHOWN = 12

T = TypeVar("T")


class DemoError(Exception):
    """The demo can't go on; the message says which process failed and what its log says."""


@dataclass(frozen=True)
class DemoOptions:
    """What the demo can be told; see `semlink demo --help`."""

    images: list[str]
    allocation: dict[str, Any]
    plan: str | None
    channel: str
    channel_settings: dict[str, Any]
    seed: int
    weights: Path | None
    out: Path


@dataclass
class _Processes:
    """Processes that live as long as this context; their logs go to files."""

    logs: Path
    started: dict[str, Process] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        self.logs.mkdir(parents=True, exist_ok=True)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stops all that still runs, the last started first; whoever does not stop in time is killed."""
        _when_interrupted(lambda: None)  # a second Ctrl-C must not cut this short
        running = [process for process in reversed(self.started.values()) if process.returncode is None]
        for process in running:
            process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                for process in running:
                    await process.wait()
        for process in running:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def start(self, name: str, module: str, *arguments: object) -> Process:
        """Starts `python -m MODULE ARGUMENTS`; not what the working directory may hold by the same name."""
        with (self.logs / f"{name}.log").open("wb") as log:
            # Its own process group, so that Ctrl-C reaches the demo alone, which then stops all in order.
            self.started[name] = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", module, *map(str, arguments),
                stdout=PIPE, stderr=log, start_new_session=True,
            )  # fmt: skip
        return self.started[name]

    async def line(self, name: str, seconds: float) -> dict:
        """The next JSON line on a process's standard output.

        Raises:
            DemoError: it ended, or said nothing for so long.
        """
        output = self.started[name].stdout
        assert output is not None
        try:
            async with asyncio.timeout(seconds):
                line = await output.readline()
        except TimeoutError:
            raise DemoError(f"{name} said nothing for {seconds:.0f} s; {self._log_of(name)}") from None
        if not line:
            raise DemoError(f"{name} ended early; {self._log_of(name)}")
        return json.loads(line)

    async def through(self, names: tuple[str, ...], work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which needs processes that never end by themselves.

        Raises:
            DemoError: one of them ended.
        """
        working = asyncio.create_task(work)
        ends = {asyncio.create_task(self.started[name].wait()): name for name in names}
        try:
            done, _ = await asyncio.wait({working, *ends}, return_when=asyncio.FIRST_COMPLETED)
            if working in done:
                return working.result()
            name = next(ends[end] for end in ends if end in done)
            raise DemoError(f"{name} ended early; {self._log_of(name)}")
        finally:
            for task in (working, *ends):
                task.cancel()

    def _log_of(self, name: str) -> str:
        path = self.logs / f"{name}.log"
        last = path.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n  ".join([f"its log ({path}) ends with:", *last])


async def run_demo(options: DemoOptions, console: Console) -> dict:
    """Sends four views through the link; returns the summary, also written to `out`/summary.json.

    Raises:
        PhotosError: no such photos.
        DemoError: a process failed, or a view stayed without answer or vote.
    """
    photos, viewpoints = _four_views(options.images)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "summary.json").unlink(missing_ok=True)  # nobody shall take the last run's for this one's
    task = asyncio.current_task()
    assert task is not None
    _when_interrupted(task.cancel)
    async with AsyncExitStack() as stack:
        processes = await stack.enter_async_context(_Processes(options.out / "logs"))
        stack.enter_context(console.status("starting six processes: server, channel, four devices"))
        weights = ("--weights", options.weights) if options.weights else ()
        listen = ("--grpc-port", 0, "--http-port", 0)
        await processes.start("server", "server", *listen, "--threads", 1, *weights)
        server = await processes.line("server", START_SECONDS)
        await processes.start(
            "channel", "channel_emulator", *listen, "--upstream", server["grpc"],
            "--channel", options.channel, *_flags(options.channel_settings), "--seed", options.seed,
        )  # fmt: skip
        channel = await processes.line("channel", START_SECONDS)
        names = [f"device-{number}" for number in range(1, VIEWS + 1)]
        for name, photo, viewpoint in zip(names, photos, viewpoints, strict=True):
            await processes.start(
                name, "device", "--to", channel["grpc"], "--images", str(photo).replace(",", r"\,"), *viewpoint,
                "--object-id", "demo", "--device-id", name, "--expected-views", VIEWS,
                *_flags(options.allocation | {"plan": options.plan}), "--threads", 1,
                "--retry-seconds", START_SECONDS, "--pictures", options.out, *weights,
            )  # fmt: skip

        async def answers() -> list[dict]:
            return await asyncio.gather(*(processes.line(name, ANSWER_SECONDS) for name in names))

        views = await processes.through(("server", "channel"), answers())
    return _summarise(options, views)


def _flags(settings: dict[str, Any]) -> list[str]:
    """Settings as a process's flags; those that are None, or switched off, are left to it."""
    flags = []
    for name, value in settings.items():
        if value is not None and value is not False:
            flags += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    return flags


def _when_interrupted(call: Callable[[], object]) -> None:
    """Calls it on Ctrl-C, on being told to end, and when the terminal is closed; not on what nohup ignores."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, call)


def _four_views(images: list[str]) -> tuple[list[Path], list[tuple[str, ...]]]:
    """Four photos, and what each device must be told of its viewpoint."""
    photos = find_photos(images)
    if len(photos) == 1:
        return photos * VIEWS, [("--view", str(number)) for number in range(1, VIEWS + 1)]
    if len(photos) < VIEWS:
        raise PhotosError(f"--images must be one photo, to be seen four ways, or four; not {len(photos)}")
    return photos[:VIEWS], [()] * VIEWS


def _summarise(options: DemoOptions, views: list[dict]) -> dict:
    for number, view in enumerate(views, start=1):
        if view["picture"] is None:
            raise DemoError(f"no picture of view {number} could be drawn; see {options.out}/logs")
        view["picture"] = str(Path(view["picture"]).replace(options.out / f"view-{number}.png"))
    votes = [view["vote"] for view in views]
    if votes[0] is None or votes != votes[:1] * VIEWS:
        raise DemoError(f"the views did not come to one vote: {votes}")
    summary = {
        "views": views,
        "vote": votes[0],
        "channel": {"impairment": options.channel, **options.channel_settings, "seed": options.seed},
        "allocation": options.allocation,
        "plan": options.plan,
        **provenance(),
    }
    (options.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def show(summary: dict, console: Console) -> None:
    """Prints a demo's summary as a table, a column for each device so that it fits a terminal; then the vote."""
    views = summary["views"]
    table = Table(title="Four views through the link", caption=f"server: {views[0]['model']}")
    table.add_column()
    for view in views:
        table.add_column(view["device_id"], justify="right", overflow="fold")

    def row(name: str, value: Callable[[dict], str]) -> None:
        table.add_row(name, *(value(view) for view in views))

    row("photo", lambda view: Path(view["photo"]).name)
    if views[0]["view"]:
        row("viewpoint", lambda view: str(view["view"]))
    row("header bits", lambda view: f"{view['header_bits']:,}")
    row("payload bits", lambda view: f"{view['payload_bits']:,}")
    row("ρ", lambda view: f"{view['rho']:.4f}")
    row("true ratio", lambda view: f"{view['true_ratio']:.4f}")
    row("bits flipped", lambda view: f"{view['bits_flipped']:,}")
    if all(view["transmission"] for view in views):
        _show_transmission([view["transmission"] for view in views], table)
    table.add_section()
    row("top-1", lambda view: view["top1"]["name"])
    row("confidence", lambda view: f"{view['top1']['confidence']:.3f}")
    table.add_section()
    for step in ("attention", "encode", "channel", "server"):
        table.add_row(f"{step} ms", *(f"{view['timings_ms'][step]:.1f}" for view in views))
    console.print(table)
    vote = summary["vote"]
    counted = f"{vote['votes']} of {vote['views']} views"
    console.print(f"Vote: [bold]{vote['name']}[/] (class {vote['label']}), {counted}")


def _show_transmission(sent: list[dict], table: Table) -> None:
    """Rows of what the plan spent, and when the blocks were done."""

    def row(name: str, key: str, form: str) -> None:
        values = (each[key] for each in sent)
        table.add_row(name, *("∞" if value is None else format(value, form) for value in values))

    table.add_section()
    row("plan", "plan", "")
    row("power", "power", ",.1f")
    row("T_d ms", "t_d_ms", ".3f")
    row("on air ms", "air_ms", ".3f")
    row("blocks lost", "blocks_lost", "d")
