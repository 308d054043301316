"""Supervision: processes that are started again when they end, and how each stands."""

import asyncio
import contextlib
import json
from asyncio.subprocess import Process
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import grpc
import structlog
from grpc import ChannelCredentials
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cli.processes import ProcessError, Processes
from semlink.service.tls import connect

log = structlog.get_logger(__name__)

Standing = Literal["starting", "ready", "silent", "ended"]
START_SECONDS = 120.0
PROBE_EVERY, PROBE_SECONDS = 0.5, 1.5
"""A process that answers no question within so long is silent; a page shows it within 3 s."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 5.0
"""Before a process that has ended is started again; twice as long each time, until it was ready."""


@dataclass
class Watched:
    """A process by its name.

    Attributes:
        name: as the page shows it.
        told: called whenever its standing changes.
        standing: how it is.
        why: says more about that, where there is more to say.
        starts: how often it was started here.
        changed: is set anew with every change of the standing.
    """

    name: str
    told: Callable[["Watched"], None]
    standing: Standing = "starting"
    why: str = ""
    starts: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def stands(self, standing: Standing, why: str = "") -> None:
        """Takes down how it is, and tells if that is new."""
        if (self.standing, self.why) != (standing, why):
            self.standing, self.why = standing, why
            log.info("process", name=self.name, standing=standing, why=why)
            changed, self.changed = self.changed, asyncio.Event()
            changed.set()
            self.told(self)

    async def until_ready(self) -> None:
        """Returns once it is ready."""
        while self.standing != "ready":
            await self.changed.wait()

    def as_json(self) -> dict[str, Any]:
        """As the page takes it."""
        return {"name": self.name, "standing": self.standing, "why": self.why, "starts": self.starts}


async def keep(processes: Processes, watched: Watched, start: Callable[[], Any]) -> None:
    """Starts a process, and again whenever it has ended.

    Args:
        processes: it is one of them.
        watched: what is known of it.
        start: a coroutine function that starts it, and returns when it has ended.
    """
    pause = FIRST_PAUSE_SECONDS
    while True:
        watched.starts += 1
        watched.stands("starting")
        why = ""
        try:
            await start()
        except ProcessError as error:
            why = str(error).partition(";")[0]
        was_ready = watched.standing == "ready" or watched.standing == "silent"
        code = processes.started[watched.name].returncode if watched.name in processes.started else None
        watched.stands("ended", why or (f"exit status {code}" if code is not None else ""))
        pause = FIRST_PAUSE_SECONDS if was_ready else min(2 * pause, LONGEST_PAUSE_SECONDS)
        await asyncio.sleep(pause)


@dataclass
class Listener:
    """A server or an emulator, started here, on the same ports each time, or running already.

    Attributes:
        watched: what is known of it.
        module: that is run, with `arguments`; empty for one that runs already.
        grpc, http: addresses, once they are known.
        listens: is set then.
    """

    watched: Watched
    module: str = ""
    arguments: list[str] = field(default_factory=list)
    grpc: str = ""
    http: str = ""
    credentials: ChannelCredentials | None = None
    listens: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, processes: Processes) -> None:
        """Keeps it running, and asks it how it is."""
        async with asyncio.TaskGroup() as tasks:
            if self.module:
                tasks.create_task(keep(processes, self.watched, lambda: self._start(processes)))
            else:
                self.listens.set()
            tasks.create_task(self._probe())

    async def _start(self, processes: Processes) -> None:
        name = self.watched.name
        ports = [address.rpartition(":")[2] or "0" for address in (self.grpc, self.http)]
        flags = ["--grpc-port", ports[0], "--http-port", ports[1]]
        process = await processes.start(name, self.module, *flags, *self.arguments)
        line = await processes.line(name, START_SECONDS)
        self.grpc, self.http = line["grpc"], line["http"]
        self.listens.set()
        await process.wait()

    async def _probe(self) -> None:
        await self.listens.wait()
        async with connect(self.grpc, self.credentials) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while True:
                if self.watched.standing != "ended" or not self.module:
                    await self._ask(stub)
                await asyncio.sleep(PROBE_EVERY)

    async def _ask(self, stub: health_pb2_grpc.HealthStub) -> None:
        starts = self.watched.starts
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=PROBE_SECONDS)
        except grpc.aio.AioRpcError as error:
            if self.watched.starts == starts and self.watched.standing not in ("ended", "starting"):
                late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                self.watched.stands("silent", "does not answer" if late else "cannot be reached")
            elif not self.module:
                self.watched.stands("silent", "cannot be reached")
            return
        if self.watched.standing != "ended" or not self.module:
            is_ready = answer.status == health_pb2.HealthCheckResponse.SERVING
            self.watched.stands("ready" if is_ready else "starting", "" if is_ready else "loads its model")


@dataclass
class CameraProcess:
    """A camera of the studio's: told in JSON lines, heard in JSON lines.

    Attributes:
        watched: what is known of it.
        hear: called with every line but those about its health.
        pictures: digests of those that it was given since it was started.
    """

    watched: Watched
    hear: Callable[[str, dict[str, Any]], None]
    pictures: set[str] = field(default_factory=set)
    _process: Process | None = None
    _heard: bool = False

    @property
    def name(self) -> str:
        """Its device id."""
        return self.watched.name

    async def run(self, processes: Processes) -> None:
        """Keeps it running until cancelled; then it ends."""
        try:
            await keep(processes, self.watched, lambda: self._start(processes))
        finally:
            if self._process is not None and self._process.returncode is None:
                self._process.kill()  # it holds nothing that would be lost

    def tell(self, **line: Any) -> None:
        """Sends it a line; one that has ended gets none."""
        if self._process is not None and self._process.returncode is None:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(line).encode() + b"\n")

    async def _start(self, processes: Processes) -> None:
        self.pictures.clear()
        process = self._process = await processes.start(self.name, "studio.camera", self.name, is_told=True)
        line = await processes.line(self.name, START_SECONDS)
        assert line == {"event": "ready"}
        self.watched.stands("ready")
        self._heard = True
        probing = asyncio.create_task(self._probe())
        try:
            while True:
                self._take(json.loads(await self._line(process)))
        except EOFError:
            await process.wait()
        finally:
            probing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await probing

    @staticmethod
    async def _line(process: Process) -> bytes:
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            raise EOFError
        return line

    def _take(self, line: dict[str, Any]) -> None:
        self._heard = True
        self.watched.stands("ready")
        if line["event"] != "pong":
            self.hear(self.name, line)

    async def _probe(self) -> None:
        """Asks again and again whether it is there: it answers while it encodes, too."""
        while True:
            self._heard = False
            self.tell(op="ping")
            await asyncio.sleep(PROBE_SECONDS)
            if not self._heard:
                self.watched.stands("silent", "does not answer")
