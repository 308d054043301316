"""Forks: server, emulator and cameras as the fork server makes them, supervised as other processes are."""

import asyncio
import contextlib
import json
import os
import signal
import socket
from asyncio import StreamReader, WriteTransport
from asyncio.subprocess import Process
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from cli.processes import MAX_LINE_BYTES, ProcessError, Processes, json_line

NAME = "forks"
"""Of the fork server and its log."""


@dataclass
class Fork:
    """A fork.

    Attributes:
        stdin, stdout: pipes to it, and from it.
        pid: its process id, once it began.
        returncode: once it has ended; None also where the fork server ended before, and none is known.
    """

    stdin: WriteTransport
    stdout: StreamReader
    pid: int = 0
    returncode: int | None = None
    _waited_for: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self) -> int | None:
        """Returns once it has ended: as is said, or, where nobody is left who would, as its output shows."""
        await self._waited_for.wait()
        while self.returncode is None and await self.stdout.read(MAX_LINE_BYTES):
            pass
        return self.returncode

    def terminate(self) -> None:
        """Asks it to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it."""
        self._signal(signal.SIGKILL)

    def ended(self, returncode: int | None) -> None:
        """Takes down that it has ended, or that nobody is left who would say so."""
        self.returncode = returncode
        self._waited_for.set()

    def _signal(self, number: int) -> None:
        # While its standard output is open it is there, and the process id is not yet another's.
        if self.returncode is None and not self.stdout.at_eof():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


@dataclass
class ForkServer:
    """The process of `studio.fork_server`, which is started with the first fork, and again where it has ended.

    It is a context that ends before `processes` does: what is being forked then is given up.

    Attributes:
        processes: it is one of them, and its forks are.
        seconds: longest that it takes to start and to fork.
        modules: that it imports before it forks.
    """

    processes: Processes
    seconds: float
    modules: Sequence[str] = ()
    _control: socket.socket | None = None
    _process: Process | None = None
    _forks: dict[int, Fork] = field(default_factory=dict)
    _told: asyncio.Task[None] | None = None
    _next: tuple[Fork, asyncio.Future[None]] | None = None
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    _starting: set[asyncio.Task[Fork]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        """Starts nothing yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Gives up what is being forked: none of it may start a process once all are to end."""
        for starting in self._starting:
            starting.cancel()
        if self._starting:
            await asyncio.wait(self._starting)

    async def start(self, name: str, module: str, *arguments: object) -> Fork:
        """A new fork.

        Args:
            name: of the process and its log; one that has ended may be started again under its name.
            module: whose `main` it runs.
            arguments: of the module.

        Raises:
            ProcessError: the fork server ended, or took too long and was ended; the next fork is another one's.
        """
        starting = asyncio.create_task(self._start(name, module, *arguments))
        self._starting.add(starting)
        starting.add_done_callback(self._starting.discard)
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(_kill)  # nobody waits for it any longer
            raise

    async def _start(self, name: str, module: str, *arguments: object) -> Fork:
        async with self._one_at_a_time:
            if self._process is None or self._process.returncode is not None:
                await self._start_server()
            assert self._process is not None
            fork, theirs = await _with_pipes()
            began = asyncio.get_running_loop().create_future()
            self._next = fork, began
            try:
                self._send(name, {"name": name, "module": module, "arguments": [*map(str, arguments)]}, theirs)
                async with asyncio.timeout(self.seconds):
                    await began
            except BaseException as error:
                # A late answer would be taken for that to the next one. At the end there is none, and what was
                # just forked ends with it.
                is_the_end = isinstance(error, asyncio.CancelledError)
                with contextlib.suppress(ProcessLookupError):
                    self._process.terminate() if is_the_end else self._process.kill()
                self._process = None
                fork.stdin.close()
                if isinstance(error, OSError):  # TimeoutError is one
                    raise ProcessError(f"{NAME} did not fork {name}: {error!r}") from None
                raise
            finally:
                self._next = None
            self.processes.started[name] = fork
            return fork

    async def _start_server(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._told is not None:
            await asyncio.wait([self._told])  # nothing that the last one has said is left
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = await self.processes.start(
                NAME, "studio.fork_server", *self.modules, stdin=theirs.fileno()
            )
        self._told = asyncio.create_task(self._hear(self._process))

    def _send(self, name: str, message: dict[str, Any], pipes: list[int]) -> None:
        assert self._control is not None
        try:
            with self.processes.new_log(name) as log:
                socket.send_fds(self._control, [json.dumps(message).encode()], [*pipes, log.fileno()])
        finally:
            for pipe in pipes:
                os.close(pipe)

    async def _hear(self, process: Process) -> None:
        """Takes in what the fork server says of its forks, until it ends."""
        assert process.stdout is not None
        try:
            while line := await process.stdout.readline():
                match json_line(line):  # or what something that it imports prints
                    case {"event": "began", "pid": pid} if self._next is not None and not self._next[1].done():
                        self._forks[pid], began = self._next
                        self._forks[pid].pid = pid
                        began.set_result(None)
                    case {"event": "ended", "pid": pid, "status": status} if pid in self._forks:
                        self._forks.pop(pid).ended(status)
            await process.wait()
        finally:
            for fork in self._forks.values():
                fork.ended(None)
            self._forks.clear()
            if self._next is not None and not self._next[1].done():
                why = f"{NAME} ended early; {self.processes.end_of_log(NAME)}"
                self._next[1].set_exception(ProcessError(why))


def _kill(starting: asyncio.Task[Fork]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        starting.result().kill()


async def _with_pipes() -> tuple[Fork, list[int]]:
    """What is to become a fork, and its own ends of the pipes."""
    loop, stdout = asyncio.get_running_loop(), StreamReader(limit=MAX_LINE_BYTES)
    (their_input, our_output), (our_input, their_output) = os.pipe(), os.pipe()
    stdin, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(our_output, "wb"))
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdout), os.fdopen(our_input, "rb"))
    return Fork(stdin, stdout), [their_input, their_output]
