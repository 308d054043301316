"""Processes under supervision: started with their logs in files, watched while they work, stopped in order."""

import asyncio
import contextlib
import json
import signal
import sys
from asyncio import StreamReader
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self, TypeVar

STOP_SECONDS, KILL_SECONDS = 10.0, 5.0
"""Until what has not stopped is killed, and until what was killed is waited for no longer."""
LOG_LINES_SHOWN = 12
MAX_LINE_BYTES = 16 << 20
"""Of a process's standard output."""

T = TypeVar("T")


class ProcessError(Exception):
    """A process ended or said nothing; the message says which one and what its log says."""


class Running(Protocol):
    """A process that was started, as `asyncio.subprocess.Process`."""

    @property
    def stdout(self) -> StreamReader | None:
        """Pipe from its standard output."""

    @property
    def returncode(self) -> int | None:
        """None while it runs."""

    async def wait(self) -> int | None:
        """Returns once it has ended."""

    def terminate(self) -> None:
        """Sends it SIGTERM."""

    def kill(self) -> None:
        """Sends it SIGKILL."""


@dataclass
class Processes:
    """Processes that live as long as this context; their logs go to files, in this environment or in ours."""

    logs: Path
    started: dict[str, Running] = field(default_factory=dict)
    environment: Mapping[str, str] | None = None

    async def __aenter__(self) -> Self:
        """Starts nothing yet."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stops all that still runs, the last started first; whoever does not stop in time is killed."""
        when_interrupted(lambda: None)  # a second Ctrl-C must not cut this short
        running = [process for process in reversed(self.started.values()) if process.returncode is None]
        for process in running:
            process.terminate()
        await _ended(running, STOP_SECONDS)
        left = [process for process in running if process.returncode is None]
        for process in left:  # all before any is waited for: one may be told of the end of others by another
            process.kill()
        await _ended(left, KILL_SECONDS)

    async def start(self, name: str, module: str, *arguments: object, stdin: int = DEVNULL) -> Process:
        """Starts `python -m MODULE ARGUMENTS`; not what the working directory may hold by the same name.

        Args:
            name: of the process and its log; one that has ended may be started again under its name.
            module: to run.
            arguments: of the module.
            stdin: descriptor of its standard input.
        """
        with self.new_log(name) as log:
            # Its own process group, so that Ctrl-C reaches the demo alone, which then stops all in order.
            self.started[name] = process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", module, *map(str, arguments),
                stdin=stdin, stdout=PIPE, stderr=log, start_new_session=True, limit=MAX_LINE_BYTES,
                env=self.environment,
            )  # fmt: skip
        return process

    def new_log(self, name: str) -> BinaryIO:
        """The log of a process, open and empty."""
        self.logs.mkdir(parents=True, exist_ok=True)  # who cleans up may have removed it
        return (self.logs / f"{name}.log").open("wb")

    async def line(self, name: str, seconds: float) -> dict:
        """The next JSON object on a line of a process's standard output; other lines are skipped.

        Raises:
            ProcessError: it ended, or said nothing for so long.
        """
        output = self.started[name].stdout
        assert output is not None
        try:
            async with asyncio.timeout(seconds):
                while line := await output.readline():
                    if (found := json_line(line)) is not None:
                        return found
        except TimeoutError:
            raise ProcessError(f"{name} said nothing for {seconds:.0f} s; {self.end_of_log(name)}") from None
        raise ProcessError(f"{name} ended early; {self.end_of_log(name)}")

    async def through(self, names: tuple[str, ...], work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which needs processes that never end by themselves.

        Raises:
            ProcessError: one of them ended.
        """
        working = asyncio.create_task(work)
        ends = {asyncio.create_task(self.started[name].wait()): name for name in names}
        try:
            done, _ = await asyncio.wait({working, *ends}, return_when=asyncio.FIRST_COMPLETED)
            if working in done:
                return working.result()
            name = next(ends[end] for end in ends if end in done)
            raise ProcessError(f"{name} ended early; {self.end_of_log(name)}")
        finally:
            for task in (working, *ends):
                task.cancel()

    def end_of_log(self, name: str) -> str:
        """The last lines of a process's log, in words."""
        path = self.logs / f"{name}.log"
        try:
            last = path.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        except OSError:  # who cleans up may have removed it
            return f"its log ({path}) is gone"
        return "\n  ".join([f"its log ({path}) ends with:", *last])


async def _ended(processes: Iterable[Running], seconds: float) -> None:
    """Returns once all have ended, or after so long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            for process in processes:
                await process.wait()


def json_line(line: bytes) -> dict[str, Any] | None:
    """A JSON object on a line; None: it is something else, as what a plugin prints.

    >>> json_line(b'{"pid": 7}'), json_line(b"loading"), json_line(b"7")
    ({'pid': 7}, None, None)
    """
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def when_interrupted(call: Callable[[], object]) -> None:
    """Calls it on Ctrl-C, on being told to end, and when the terminal is closed; not on what nohup ignores."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, call)
