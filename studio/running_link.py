"""Link as it runs: server, channel and cameras, started and kept running, or attached to."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import structlog

from cli.processes import Processes
from semlink.parameters import flag_of
from semlink.service.keys import own_key
from semlink.service.tls import channel_credentials, client_context
from studio.control_plane import ControlPlane
from studio.forks import ForkServer
from studio.link_settings import KNOBS, LinkSettings
from studio.processes import CAMERA, PLAIN, START_SECONDS, CameraProcess, Listener, Standing, Tls, Watched
from studio.rounds import Round
from studio.settings import StudioSettings

log = structlog.get_logger(__name__)

POLL_SECONDS, START_POLL_SECONDS = 0.5, 0.05
MODEL = ("semlink.vision.vit", "semlink.vision.openvino_graph", "openvino.frontend.pytorch")
"""Modules of the model of a camera, and of the server, that are imported where it is loaded."""
DEVICE = {"call_seconds": 8.0, "retry_seconds": 1.0, "vote_seconds": 6.0}
"""Of every camera: a round is soon over, whatever fails."""
SERVER_FLAGS = ["--threads", "1", "--max-batch", "4", "--vote-after-seconds", "3", "--object-ttl-seconds", "60"]
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
        told = self.told
        tls = Tls(channel_credentials(told), client_context(told))
        self.server = Listener(Watched("server", self.watch), tls=tls if told.server else PLAIN)
        of_channel = tls if told.has_tls_channel else PLAIN
        self.channel = Listener(Watched("channel", self._watch_channel), tls=of_channel)
        if told.server:
            self.server.grpc, self.server.http = told.server.split(",")
        elif told.channel:
            self.server.watched.standing = "unwatched"
            self.server.watched.why = "behind the channel; --server names it"
        else:
            self.server.module, self.server.arguments = "server.__main__", SERVER_FLAGS
        if told.channel:
            self.channel.grpc, self.channel.http = told.channel.split(",")
        else:
            self.channel.module = "channel_emulator.__main__"
        key = own_key(told.api_key_file) if told.channel else None
        if key and not self.channel.tls.http:
            log.warning("the API key travels unencrypted: --tls-server-authority turns TLS on")
        self.control = ControlPlane(
            lambda: self.channel.http, self.channel_changed, tls=self.channel.tls.http, key=key
        )

    @property
    def listeners(self) -> list[Listener]:
        """Server and channel, as far as they are started here or named."""
        return [each for each in (self.server, self.channel) if each.watched.standing != "unwatched"]

    @property
    def watched(self) -> list[Watched]:
        """What is known of each process."""
        cameras = [each.watched for each in self.cameras.values()]
        return [self.server.watched, self.channel.watched, *cameras]

    async def run(self, names: Iterable[str], work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Keeps everything running, and works with it, until cancelled."""
        try:
            started = Processes(self.told.out / "logs", environment=self.told.environment(KNOBS))
            started_here = [each.module for each in self.listeners if each.module]
            forks = ForkServer(started, START_SECONDS, [*started_here, CAMERA, *MODEL])
            async with started, forks, asyncio.TaskGroup() as tasks:
                self._tasks, self._forks = tasks, forks
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
            self._kept[name] = self._tasks.create_task(self.cameras[name].run(self._forks))
        return bool(gone or new)

    @property
    def is_channel_away(self) -> bool:
        """Whether the emulator is not there, but for one that starts for the first time."""
        watched = self.channel.watched
        is_first_start = watched.starts <= 1 and watched.standing == "starting"
        is_first_start |= watched.starts == 1 and watched.standing == "silent"  # it answers late while all start
        return not self.channel_is_set.is_set() and watched.standing != "ready" and not is_first_start

    async def until_started(self) -> None:
        """Returns once every process is ready, or has ended."""
        while any(each.standing == "starting" and each.starts <= 1 for each in self.watched):
            await asyncio.sleep(START_POLL_SECONDS)

    def standing_of(self, name: str) -> Standing:
        """How a camera is; one that is not to be has ended."""
        return self.cameras[name].watched.standing if name in self.cameras else "ended"

    def tell(
        self,
        name: str,
        begun: Round,
        link: LinkSettings,
        *,
        object_id: str,
        expected: int,
        picture: dict[str, Any],
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
        camera.see(picture)
        settings = link.of_device(takes_plans=self.control.takes_plans(name)) | DEVICE
        settings |= self.told.of_camera() | {
            "to": self.channel.grpc,
            "object_id": object_id,
            "expected_views": expected,
            "view": seen["view"],
        }
        camera.tell(
            op="view",
            round=begun.number,
            frame_id=link.frame_id,
            picture=seen["picture"],
            held=held,
            settings=settings,
        )

    @asynccontextmanager
    async def over(self, impairments: dict[str, Any]) -> AsyncIterator[bool]:
        """Within the context, `steady` being held, the channel is another one; says whether it could be set.

        Then it is again as it was, and a scenario that played goes on. What others told the emulator meanwhile
        stays.
        """
        await self.refresh()  # with what others told it a moment ago
        now, scenario, self.is_elsewhere = self.control.impairments, self.control.scenario, True
        is_as_it_is = now == impairments and not (scenario and scenario["playing"])
        taken: dict[str, Any] | None = impairments  # also where a call was heard and not answered in time
        try:
            is_over = is_as_it_is or await self.control.put(impairments)
            taken = self.control.impairments if is_over else impairments
            yield is_over
        finally:
            as_it_was = asyncio.create_task(self._as_it_was(None if is_as_it_is else now, scenario, taken))
            try:
                await asyncio.shield(as_it_was)
            finally:
                await asyncio.wait([as_it_was])  # also where this is cancelled: the emulator may be another's

    async def _as_it_was(
        self, now: dict[str, Any] | None, scenario: dict[str, Any] | None, taken: dict[str, Any] | None
    ) -> None:
        """Ends `over`: sets the channel again, unless others have."""
        try:
            await self.refresh()
            if now is not None and taken == self.control.impairments:
                await self._set_again(now, scenario)
        finally:
            self.is_elsewhere = False
            self.channel_changed()

    async def refresh(self) -> None:
        """Takes in what the emulator is set to; of one started anew, once it has got back what was."""
        if self.channel_is_set.is_set():
            await self.control.refresh()

    async def catch_up(self) -> None:
        """Takes in what has happened to the channel since it was last asked, of an emulator that answers."""
        if self.channel_is_set.is_set() and self.channel.watched.standing == "ready":
            await self.control.catch_up()

    async def _set_again(self, impairments: dict[str, Any], scenario: dict[str, Any] | None) -> None:
        if not await self.control.put(impairments):
            self.control.impairments = impairments  # for the emulator that is started in place of this one
            return
        if scenario is not None and scenario["playing"]:
            with suppress(httpx.HTTPError):
                await self.control.play()
        await self.refresh()  # so that these events are not taken for others'

    def _watch_channel(self, watched: Watched) -> None:
        if watched.standing == "ended":
            self.channel_is_set.clear()
        self.watch(watched)

    async def _start(self, listener: Listener) -> None:
        if listener is self.channel and listener.module:
            await self.server.listens.wait()
            flags = [part for name, value in self.told.of_emulator().items() for part in (flag_of(name), value)]
            listener.arguments = ["--upstream", self.server.grpc, *flags]
        await listener.run(self._forks)

    async def _follow_channel(self) -> None:
        """Asks the emulator how it is set; one that was started anew gets back what was set."""
        await self.channel.listens.wait()
        starts = 0
        while True:
            await self.channel.watched.until_ready()
            begun = self.channel.watched.starts
            is_anew = starts not in (0, begun)
            try:
                if is_anew:
                    await self.control.give_back()
            except httpx.HTTPError as error:
                log.warning("the channel could not be set", reason=repr(error))
            else:
                starts = begun
                await self.control.refresh()
                self.channel.problem = self.control.problem
                is_this_one = not self.control.problem and self.channel.watched.starts == begun
                if not self.channel_is_set.is_set() and is_this_one and self.channel.watched.standing == "ready":
                    self.channel_is_set.set()
                    if is_anew:
                        self.channel_is_back()
            await asyncio.sleep(POLL_SECONDS)
