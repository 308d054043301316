"""Device: rounds of a camera, each of which captures a view and sends it at once or, through a spool, in time."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from pydantic import SecretBytes

from device.camera import VIEWPOINTS, take_view
from device.capture import Capture, Encoded
from device.encoder import Encoder
from device.planning import PlanningError
from device.sender import Sender
from device.settings import DeviceSettings
from device.uplink import Credentials, Uplink, UplinkError, UplinkStopped
from semlink.service import tracing
from semlink.service.correlation import begin_request
from semlink.vision.images import ImageError

log = structlog.get_logger(__name__)


@dataclass(eq=False)
class Device:
    """One process, one model, one connection. What it sends is lost if nobody answers; see `StoreAndForward`.

    Attributes:
        settings: of the device.
        credentials: what every call goes out with.
        encoder: makes frames of views.
        photos: one each round, the first again after the last.
        stop: ends it after the frame under way.
        key: makes the tags of headers, if there is one.
        failures: how many frames were given up.
    """

    settings: DeviceSettings
    credentials: Credentials
    encoder: Encoder
    photos: list[Path]
    stop: asyncio.Event
    key: SecretBytes | None = None
    failures: int = field(default=0, init=False)

    async def run(self) -> None:
        """Goes all rounds, and encodes each view while the last one is still on the air.

        A frame that is given up is logged and counted in `failures`; the next one follows.
        """
        # Leaving the group waits for the last frame and for all votes.
        async with self.sender() as sender, asyncio.TaskGroup() as tasks:
            sending: asyncio.Task[None] | None = None
            async for capture in self.captures():
                if sending is not None:
                    await sending
                sending = tasks.create_task(self._send(capture, sender, tasks))

    @asynccontextmanager
    async def sender(self) -> AsyncIterator[Sender]:
        """What sends captures over the device's connection, which is open within the context."""
        told = self.settings
        async with Uplink(told.to, told.call_seconds, told.retry_seconds, self.stop, self.credentials) as uplink:
            yield Sender(told, uplink, self.key)

    async def captures(self, first: int = 0) -> AsyncIterator[Capture]:
        """The capture of each round, when its time has come; a view that cannot be taken is given up.

        Begins the capture's request and its trace.

        Args:
            first: frame id of the first.
        """
        async for number in self._numbers(first):
            photo, object_id = self.photos[number % len(self.photos)], self.settings.object_of(number)
            ids = {"object_id": object_id, "device_id": self.settings.device_id, "frame_id": number}
            request_id = begin_request(None, **ids)
            tracing.begin("frame", **ids)
            try:
                view = await asyncio.to_thread(self._encode, photo)
            except ImageError as error:
                self.give_up("no view", error, photo=str(photo))
                continue
            yield Capture(
                number=number,
                object_id=object_id,
                device_id=self.settings.device_id,
                expected_views=self.settings.expected_views,
                request_id=request_id,
                photo=str(photo),
                viewpoint=self.settings.view,
                view=view,
            )

    def give_up(self, event: str, error: Exception, **details: object) -> None:
        """Counts and logs a frame that is given up, and ends its trace."""
        self.failures += 1
        log.error(event, reason=str(error), **details)
        tracing.end(str(error))

    async def _numbers(self, first: int) -> AsyncIterator[int]:
        """Frame ids of the rounds, each when its time has come."""
        settings, started, gone = self.settings, time.monotonic(), 0
        while not self.stop.is_set() and (settings.rounds == 0 or gone < settings.rounds):
            yield first + gone
            gone += 1
            if gone == settings.rounds:
                return
            pause = started + gone * (settings.every or 0) - time.monotonic()
            try:
                async with asyncio.timeout(max(pause, 0)):
                    await self.stop.wait()
            except TimeoutError:
                continue

    def _encode(self, photo: Path) -> Encoded:
        viewpoint = VIEWPOINTS[self.settings.view - 1] if self.settings.view else None
        with tracing.span("capture"):
            pixels = take_view(photo, viewpoint)
        return self.encoder.encode(pixels)

    async def _send(self, capture: Capture, sender: Sender, tasks: asyncio.TaskGroup) -> None:
        try:
            sent = await sender.send(capture)
        except UplinkStopped as error:
            log.warning("frame given up", reason=str(error))
            tracing.end(str(error))
        except (UplinkError, PlanningError) as error:
            self.give_up("frame given up", error)
        else:
            tasks.create_task(sender.report(capture, sent))
