"""Supervision: processes that are started again when they end, and how each stands."""

import asyncio
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import grpc
import httpx
import structlog
from grpc import ChannelCredentials
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cli.processes import ProcessError, Processes
from semlink.service.tls import connect, tls_hint
from studio.control_plane import MOST_DETAIL, problem_of
from studio.forks import Fork, ForkServer
from studio.pictures import MOST_HELD

log = structlog.get_logger(__name__)

CAMERA = "studio.camera"
"""Module of a camera."""
Standing = Literal["starting", "ready", "silent", "ended", "unwatched"]
START_SECONDS = 300.0
"""A machine that is busy with others takes so long, and would not get there sooner by starting anew."""
PROBE_EVERY, START_PROBE_EVERY, PROBE_SECONDS, HTTP_PROBE_SECONDS = 0.5, 0.1, 1.5, 0.7
"""A process that answers no question within so long is silent; a page shows it within 3 s."""
LOAD_SECONDS = 20.0
"""The same for a camera that has said that it loads a model: libraries then let nothing else run at times."""
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
        pid: its process id while it runs; None for one that was not started here.
        became_ready: whether the last change of its standing was that.
        changed: is set anew with every change of the standing.
    """

    name: str
    told: Callable[["Watched"], None]
    standing: Standing = "starting"
    why: str = ""
    starts: int = 0
    pid: int | None = None
    became_ready: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def stands(self, standing: Standing, why: str = "") -> None:
        """Takes down how it is, and tells if that is new."""
        if (self.standing, self.why) != (standing, why):
            self.became_ready = standing == "ready" != self.standing
            self.standing, self.why = standing, why
            log.info("process", name=self.name, standing=standing, why=why)
            changed, self.changed = self.changed, asyncio.Event()
            changed.set()
            self.told(self)

    def runs(self, pid: int) -> None:
        """Takes down the process id of what was just started, and tells."""
        self.pid = pid
        self.told(self)

    async def until_ready(self) -> None:
        """Returns once it is ready."""
        while self.standing != "ready":
            await self.changed.wait()

    def as_json(self) -> dict[str, Any]:
        """As the page takes it."""
        fields = ("name", "standing", "why", "starts", "pid")
        return {name: getattr(self, name) for name in fields}


async def keep(processes: Processes, watched: Watched, start: Callable[[], Any]) -> None:
    """Starts a process, and again whenever it has ended.

    Args:
        processes: it is one of them.
        watched: what is known of it.
        start: a coroutine function that starts it, and returns when it has ended.
    """
    pause, why = FIRST_PAUSE_SECONDS, ""
    while True:
        watched.starts += 1
        watched.stands("starting", why and f"again, after {why}")
        why = ""
        try:
            await start()
        except (ProcessError, OSError) as error:
            why = str(error).partition(";")[0]
            late = processes.started.get(watched.name)
            if late is not None and late.returncode is None:  # it would go on beside the next
                late.kill()
                await late.wait()
        was_ready = watched.standing == "ready" or watched.standing == "silent"
        code = processes.started[watched.name].returncode if watched.name in processes.started else None
        watched.pid = None
        why = why or (f"exit status {code}" if code is not None else "")
        watched.stands("ended", why)
        pause = FIRST_PAUSE_SECONDS if was_ready else min(2 * pause, LONGEST_PAUSE_SECONDS)
        await asyncio.sleep(pause)


class Tls(NamedTuple):
    """TLS of those who call a process: over gRPC, and over HTTP; None: in the clear."""

    grpc: ChannelCredentials | None = None
    http: ssl.SSLContext | None = None


PLAIN = Tls()


@dataclass
class Listener:
    """A server or an emulator, started here, on the same ports each time, or running already.

    Attributes:
        watched: what is known of it.
        module: whose `main` is run, with `arguments`; empty for one that runs already.
        grpc, http: addresses, once they are known.
        tls: with which it is called.
        problem: what is the matter, though it is ready; empty: nothing that others than its health would tell.
        listens: is set once the addresses are known.
    """

    watched: Watched
    module: str = ""
    arguments: list[str] = field(default_factory=list)
    grpc: str = ""
    http: str = ""
    tls: Tls = PLAIN
    problem: str = ""
    listens: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, forks: ForkServer) -> None:
        """Keeps it running, and asks it how it is."""
        async with asyncio.TaskGroup() as tasks:
            if self.module:
                tasks.create_task(keep(forks.processes, self.watched, lambda: self._start(forks)))
            else:
                self.listens.set()
            tasks.create_task(self._probe())

    async def _start(self, forks: ForkServer) -> None:
        name = self.watched.name
        ports = [address.rpartition(":")[2] or "0" for address in (self.grpc, self.http)]
        flags = ["--grpc-port", ports[0], "--http-port", ports[1]]
        process = await forks.start(name, self.module, *flags, *self.arguments)
        self.watched.runs(process.pid)
        line = await forks.processes.line(name, START_SECONDS)
        self.grpc, self.http = line["grpc"], line["http"]
        self.listens.set()
        await process.wait()

    async def _probe(self) -> None:
        await self.listens.wait()
        http = httpx.AsyncClient(
            base_url=f"{'https' if self.tls.http else 'http'}://{self.http}",
            timeout=HTTP_PROBE_SECONDS,
            trust_env=False,
            verify=self.tls.http or True,
        )
        async with connect(self.grpc, self.tls.grpc) as channel, http:
            stub = health_pb2_grpc.HealthStub(channel)
            while True:
                if self.watched.standing != "ended" or not self.module:
                    await self._ask(stub, http)
                await asyncio.sleep(START_PROBE_EVERY if self.watched.standing == "starting" else PROBE_EVERY)

    async def _ask(self, stub: health_pb2_grpc.HealthStub, http: httpx.AsyncClient) -> None:
        starts = self.watched.starts
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=PROBE_SECONDS)
        except grpc.aio.AioRpcError as error:
            is_known = self.watched.starts == starts and self.watched.standing not in ("ended", "starting")
            if is_known or not self.module:
                self.problem = ""  # what others find once it answers again
                late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                hint = "" if late else await tls_hint(self.grpc, error.details() or "", self.tls.grpc is not None)
                self.watched.stands("silent", "does not answer" if late else f"cannot be reached{hint}")
            return
        problem = await self._problem(http)
        if self.watched.standing != "ended" or not self.module:
            is_ready = answer.status == health_pb2.HealthCheckResponse.SERVING
            self.watched.stands("ready" if is_ready else "starting", problem if is_ready else "loads its model")

    async def _problem(self, http: httpx.AsyncClient) -> str:
        """What is the matter with one that answers over gRPC: what others found, or its health over HTTP says."""
        if self.problem:
            return self.problem
        try:
            answer = await http.get("/v2/health/ready")
            degraded = answer.json().get("degraded", []) if answer.is_success else []
            return problem_of(answer) or "; ".join(map(str, degraded))[:MOST_DETAIL]
        except httpx.ConnectError:
            return "its HTTP port cannot be reached"
        except httpx.HTTPError:
            return ""  # late, or over a connection that has just ended: it is asked again soon
        except (AttributeError, TypeError, ValueError):
            return "its HTTP port does not answer as a process of Semlink does"


@dataclass
class CameraProcess:
    """A camera of the studio's: told in JSON lines, heard in JSON lines.

    Attributes:
        watched: what is known of it.
        hear: called with every line but those about its health.
        pictures: those that it holds: it forgets first what it was given first.
    """

    watched: Watched
    hear: Callable[[str, dict[str, Any]], None]
    pictures: list[tuple[str, int | None]] = field(default_factory=list)
    _process: Fork | None = None
    _asked: float | None = None
    """When it was asked a question that it has not answered."""
    _patience: float = PROBE_SECONDS
    """How long it may take to answer."""

    @property
    def name(self) -> str:
        """Its device id."""
        return self.watched.name

    async def run(self, forks: ForkServer) -> None:
        """Keeps it running until cancelled; then it ends."""
        try:
            await keep(forks.processes, self.watched, lambda: self._start(forks))
        finally:
            if self._process is not None and self._process.returncode is None:
                self._process.kill()  # it holds nothing that would be lost

    def tell(self, **line: Any) -> None:
        """Sends it a line; one that has ended gets none."""
        if self._process is not None and self._process.returncode is None:
            self._process.stdin.write(json.dumps(line).encode() + b"\n")

    def see(self, picture: dict[str, Any]) -> None:
        """Gives it a picture, unless it holds that, as `Pictures.line` tells of it."""
        key = picture["picture"], picture["view"]
        if key not in self.pictures:
            self.tell(op="picture", **picture)
            self.pictures = [*self.pictures, key][-MOST_HELD:]

    async def _start(self, forks: ForkServer) -> None:
        self.pictures.clear()
        process = self._process = await forks.start(self.name, CAMERA, self.name)
        self.watched.runs(process.pid)
        self._asked, self._patience = None, PROBE_SECONDS
        probing = asyncio.create_task(self._probe())
        try:
            line = await forks.processes.line(self.name, START_SECONDS)
            while True:
                self._take(line)
                line = json.loads(await self._line(process))
        except EOFError:
            await process.wait()
        except (KeyError, TypeError, ValueError) as error:  # one that is too long is a ValueError, too
            log.error("a camera says what is no line of its", name=self.name, reason=repr(error))
            process.kill()
            await process.wait()
            raise ProcessError("it said what it cannot mean") from error
        finally:
            probing.cancel()
            await asyncio.wait([probing])  # not `await probing`: who cancels this must not be taken for that
            if not probing.cancelled():
                probing.result()

    @staticmethod
    async def _line(process: Fork) -> bytes:
        line = await process.stdout.readline()
        if not line.endswith(b"\n"):  # nothing, or as much of a line as it had written when it was killed
            raise EOFError
        return line

    def _take(self, line: dict[str, Any]) -> None:
        event, self._asked = line["event"], None
        self.watched.stands("ready")
        if event == "loads":
            self._patience = LOAD_SECONDS
        elif event not in ("ready", "pong"):
            self._patience = PROBE_SECONDS
            self.hear(self.name, line)

    async def _probe(self) -> None:
        """Asks again and again whether it is there: it answers while it encodes, too."""
        clock = asyncio.get_running_loop().time
        await self.watched.until_ready()
        while True:
            if self._asked is None:
                self._asked = clock()
                self.tell(op="ping")
            await asyncio.sleep(PROBE_EVERY)
            if self._asked is not None and clock() - self._asked >= self._patience:
                self.watched.stands("silent", "does not answer")
