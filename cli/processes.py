"""Processes under supervision: started with their logs in files, watched while they work, stopped in order."""

import asyncio
import contextlib
import json
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

STOP_SECONDS = 10.0
LOG_LINES_SHOWN = 12
MAX_LINE_BYTES = 16 << 20
"""Of a process's standard output."""

T = TypeVar("T")


class ProcessError(Exception):
    """A process ended or said nothing; the message says which one and what its log says."""


@dataclass
class Processes:
    """Processes that live as long as this context; their logs go to files."""

    logs: Path
    started: dict[str, Process] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        """Makes the folder of the logs."""
        self.logs.mkdir(parents=True, exist_ok=True)
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
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                for process in running:
                    await process.wait()
        for process in running:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def start(self, name: str, module: str, *arguments: object, is_told: bool = False) -> Process:
        """Starts `python -m MODULE ARGUMENTS`; not what the working directory may hold by the same name.

        Args:
            name: of the process and its log; one that has ended may be started again under its name.
            module: to run.
            arguments: of the module.
            is_told: its standard input is a pipe, and not closed.
        """
        with (self.logs / f"{name}.log").open("wb") as log:
            # Its own process group, so that Ctrl-C reaches the demo alone, which then stops all in order.
            self.started[name] = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", module, *map(str, arguments),
                stdin=PIPE if is_told else DEVNULL, stdout=PIPE, stderr=log, start_new_session=True,
                limit=MAX_LINE_BYTES,
            )  # fmt: skip
        return self.started[name]

    async def line(self, name: str, seconds: float) -> dict:
        """The next JSON line on a process's standard output.

        Raises:
            ProcessError: it ended, or said nothing for so long.
        """
        output = self.started[name].stdout
        assert output is not None
        try:
            async with asyncio.timeout(seconds):
                line = await output.readline()
        except TimeoutError:
            raise ProcessError(f"{name} said nothing for {seconds:.0f} s; {self._log_of(name)}") from None
        if not line:
            raise ProcessError(f"{name} ended early; {self._log_of(name)}")
        return json.loads(line)

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
            raise ProcessError(f"{name} ended early; {self._log_of(name)}")
        finally:
            for task in (working, *ends):
                task.cancel()

    def _log_of(self, name: str) -> str:
        path = self.logs / f"{name}.log"
        last = path.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n  ".join([f"its log ({path}) ends with:", *last])


def when_interrupted(call: Callable[[], object]) -> None:
    """Calls it on Ctrl-C, on being told to end, and when the terminal is closed; not on what nohup ignores."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, call)
