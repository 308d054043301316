"""Link as it runs: server, channel and cameras, started and kept running, or attached to."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from cli.processes import Processes
from semlink.service.keys import own_key
from semlink.service.tls import channel_credentials
from studio.control_plane import ControlPlane
from studio.link_settings import LinkSettings
from studio.processes import CameraProcess, Listener, Watched
from studio.rounds import Round
from studio.settings import StudioSettings

POLL_SECONDS, START_POLL_SECONDS = 0.5, 0.05
DEVICE = {"call_seconds": 8.0, "retry_seconds": 1.0, "vote_seconds": 6.0}
"""Of every camera: a round is soon over, whatever fails."""
SERVER_FLAGS = ["--threads", "1", "--vote-after-seconds", "3", "--object-ttl-seconds", "60"]
"""A vote is taken without a camera that fell silent; what a round was about is soon forgotten."""


@dataclass
class RunningLink:
    """The processes.

    Attributes:
        told: settings of the studio.
        watch: called whenever a process stands otherwise.
        hear: called with what a camera says.
        channel_changed: called when the channel was changed, by whomever.
        channel_is_back: called when an emulator that was started anew has got back what was set.
        cameras: by device id.
        steady: is held while the channel is to be left alone.
        channel_is_set: while the channel is what it is said to be.
        is_elsewhere: while the channel is another one than it was set to.
    """

    told: StudioSettings
    watch: Callable[[Watched], None]
    hear: Callable[[str, dict[str, Any]], None]
    channel_changed: Callable[[], None]
    channel_is_back: Callable[[], None]
    cameras: dict[str, CameraProcess] = field(default_factory=dict)
    steady: asyncio.Lock = field(default_factory=asyncio.Lock)
    channel_is_set: asyncio.Event = field(default_factory=asyncio.Event)
    is_elsewhere: bool = False
    _kept: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Prepares what is told in the settings.

        Raises:
            StartupError: a file of a key, or one for TLS, is unfit.
        """
        told, credentials = self.told, channel_credentials(self.told)
        self.server = Listener(Watched("server", self.watch), credentials=credentials)
        self.channel = Listener(Watched("channel", self._watch_channel), credentials=credentials)
        if told.server:
            self.server.grpc, self.server.http = told.server.split(",")
        else:
            weights = ["--weights", str(told.weights)] if told.weights else []
            self.server.module, self.server.arguments = "server", [*SERVER_FLAGS, *weights]
        if told.channel:
            self.channel.grpc, self.channel.http = told.channel.split(",")
        else:
            self.channel.module = "channel_emulator"
        self.control = ControlPlane(
            lambda: self.channel.http,
            self.channel_changed,
            key=own_key(told.api_key_file) if told.channel else None,
        )

    @property
    def listeners(self) -> list[Listener]:
        """Server and channel; no server where the channel, and so what is behind it, runs already."""
        return [self.channel] if self.told.channel else [self.server, self.channel]

    @property
    def watched(self) -> list[Watched]:
        """What is known of each process."""
        return [each.watched for each in self.listeners] + [each.watched for each in self.cameras.values()]

    async def run(self, names: Iterable[str], work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Keeps everything running, and works with it, until cancelled."""
        try:
            async with Processes(self.told.out / "logs") as processes, asyncio.TaskGroup() as tasks:
                self._processes, self._tasks = processes, tasks
                self.keep(names)
                for listener in self.listeners:
                    tasks.create_task(self._start(listener))
                tasks.create_task(self._follow_channel())
                tasks.create_task(work())
        finally:
            await self.control.close()

    def keep(self, names: Iterable[str]) -> bool:
        """Starts the cameras that are to be, and ends the others; says whether there were any such."""
        names = list(names)
        gone, new = [name for name in self._kept if name not in names], [n for n in names if n not in self._kept]
        for name in gone:
            self._kept.pop(name).cancel()
            del self.cameras[name]
        for name in new:
            self.cameras[name] = CameraProcess(Watched(name, self.watch), self.hear)
            self._kept[name] = self._tasks.create_task(self.cameras[name].run(self._processes))
        return bool(gone or new)

    async def until_started(self) -> None:
        """Returns once every process is ready, or has ended."""
        while any(each.standing == "starting" and each.starts <= 1 for each in self.watched):
            await asyncio.sleep(START_POLL_SECONDS)

    def is_ready(self, name: str) -> bool:
        """Whether a camera is."""
        return name in self.cameras and self.cameras[name].watched.standing == "ready"

    def tell(
        self,
        name: str,
        begun: Round,
        link: LinkSettings,
        *,
        object_id: str,
        expected: int,
        picture: dict[str, str],
        held: list[str],
    ) -> None:
        """Has a camera send its view of a round.

        Args:
            name: of the camera.
            begun: the round.
            link: the knobs.
            object_id: what is looked at.
            expected: how many cameras look at it.
            picture: what tells a camera of its picture, which it is told once.
            held: digests of images that need not be sent again.
        """
        camera, seen = self.cameras[name], begun.pictures[name]
        if seen["picture"] not in camera.pictures:
            camera.tell(op="picture", **picture)
            camera.pictures.add(seen["picture"])
        settings = link.of_device(takes_plans=self.control.takes_plans(name)) | DEVICE
        settings |= self.told.calling() if self.told.channel else {}
        settings |= {"weights": str(self.told.weights)} if self.told.weights else {}
        settings |= {
            "to": self.channel.grpc,
            "object_id": object_id,
            "expected_views": expected,
            "view": seen["view"],
        }
        frame_id = link.frame_id(begun.noise)
        camera.tell(
            op="view",
            round=begun.number,
            frame_id=frame_id,
            picture=seen["picture"],
            held=held,
            settings=settings,
        )

    @asynccontextmanager
    async def over(self, impairments: dict[str, Any]) -> AsyncIterator[None]:
        """Within the context, `steady` being held, the channel is another one; then it is again as it was.

        What others told the emulator meanwhile stays.
        """
        now, self.is_elsewhere = self.control.impairments, True
        try:
            if now != impairments:
                await self.control.put_back(impairments)
            yield
        finally:
            taken = self.control.impairments
            await self.control.refresh()
            if now is not None and now != taken == self.control.impairments:
                await self.control.put_back(now)
            self.is_elsewhere = False
            self.channel_changed()

    def _watch_channel(self, watched: Watched) -> None:
        if watched.standing == "ended":
            self.channel_is_set.clear()
        self.watch(watched)

    async def _start(self, listener: Listener) -> None:
        if listener is self.channel and listener.module:
            await self.server.listens.wait()
            calling = self.told.calling() if self.told.server else {}
            flags = [part for name, value in calling.items() for part in (f"--{name.replace('_', '-')}", value)]
            listener.arguments = ["--upstream", self.server.grpc, *flags]
        await listener.run(self._processes)

    async def _follow_channel(self) -> None:
        """Asks the emulator how it is set; one that was started anew gets back what was set."""
        await self.channel.listens.wait()
        starts = 0
        while True:
            await self.channel.watched.until_ready()
            known, begun = self.control.impairments, self.channel.watched.starts
            is_anew = starts not in (0, begun) and known is not None
            if not is_anew or (known is not None and await self.control.put_back(known)):
                starts = begun
                await self.control.refresh()
                if not self.channel_is_set.is_set() and self.control.impairments is not None:
                    self.channel_is_set.set()
                    if is_anew:
                        self.channel_is_back()
            await asyncio.sleep(POLL_SECONDS)
