"""Rounds: when a device captures a view, of which photo, under which ids."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from device.camera import VIEWPOINTS, take_view
from device.capture import Capture, Encoded
from device.encoder import Encoder
from device.settings import DeviceSettings
from semlink.service import tracing
from semlink.service.correlation import begin_request
from semlink.vision.images import ImageError

log = structlog.get_logger(__name__)


@dataclass
class Failures:
    """Frames that were given up."""

    count: int = 0

    def add(self, event: str, error: Exception, **details: object) -> None:
        """Counts and logs one, and ends its trace."""
        self.count += 1
        log.error(event, reason=str(error), **details)
        tracing.end(str(error))


@dataclass(frozen=True, eq=False)
class Rounds:
    """The camera's side of a device: a capture each round.

    Attributes:
        settings: of the device.
        encoder: makes frames of views.
        photos: one each round, the first again after the last.
        stop: once set, there is no further round.
        failures: where a view that cannot be taken is counted.
    """

    settings: DeviceSettings
    encoder: Encoder
    photos: list[Path]
    stop: asyncio.Event
    failures: Failures

    async def numbers(self, first: int = 0) -> AsyncIterator[int]:
        """Numbers of the rounds from `first`, each when its time has come."""
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

    async def capture(self, number: int) -> Capture | None:
        """Takes the view of a round and encodes it; one that cannot be taken is counted as failed, and is None.

        Begins its request and its trace.
        """
        settings, photo = self.settings, self.photos[number % len(self.photos)]
        object_id, device_id = settings.object_of(number), settings.device_id
        request_id = begin_request(None, object_id=object_id, device_id=device_id, frame_id=number)
        tracing.begin("frame", object_id=object_id, device_id=device_id, frame_id=number)
        try:
            view = await asyncio.to_thread(self._encode, photo)
        except ImageError as error:
            self.failures.add("no view", error, photo=str(photo))
            return None
        expected = settings.expected_views
        return Capture(number, object_id, device_id, expected, request_id, str(photo), settings.view, view)

    def _encode(self, photo: Path) -> Encoded:
        viewpoint = VIEWPOINTS[self.settings.view - 1] if self.settings.view else None
        with tracing.span("capture"):
            pixels = take_view(photo, viewpoint)
        return self.encoder.encode(pixels)
