"""Device: rounds of a camera, each of which captures a view and sends it at once or, through a spool, in time."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import structlog
from pydantic import SecretBytes

from device.camera import VIEWPOINTS, take_view
from device.capture import Capture, Encoded
from device.dialogue import Dialogues
from device.encoder import Encoder
from device.gallery import Gallery
from device.opinion_encoder import OpinionEncoder
from device.planning import PlanningError
from device.report import answer_report
from device.rounds import Clock, ClockRounds, CountedRounds
from device.sender import Sender
from device.sent import Sent
from device.settings import DeviceSettings
from device.sources.source import Picture, Source, SourceError
from device.uplink import Credentials, Uplink, UplinkError, UplinkStopped
from semlink.service import tracing
from semlink.service.correlation import begin_request
from semlink.vision.images import ImageError

log = structlog.get_logger(__name__)

MAX_RUNS = 100
"""So many starts of a camera under one name, within the time that a server remembers, have runs of their own."""


@dataclass(eq=False)
class Device:
    """One process, one model, one connection. What it sends is lost if nobody answers; see `StoreAndForward`.

    Attributes:
        settings: of the device.
        credentials: what every call goes out with.
        encoder: makes frames of views.
        source: gives a picture each round.
        stop: ends it after the frame under way.
        key: makes the tags of headers, if there is one.
        clock: tells the time of rounds from the clock.
        failures: how many frames were given up.
    """

    settings: DeviceSettings
    credentials: Credentials
    encoder: Encoder | OpinionEncoder
    source: Source
    stop: asyncio.Event
    key: SecretBytes | None = None
    clock: Clock = field(default_factory=Clock)
    failures: int = field(default=0, init=False)
    _rounds: CountedRounds | ClockRounds | None = field(default=None, init=False)
    _run: int = field(default=1, init=False)
    _is_answered: bool = field(default=False, init=False)
    _gallery: Gallery | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Makes the gallery, if views are to be drawn."""
        told = self.settings
        if told.pictures:
            self._gallery = Gallery(told.pictures, told.object_id, told.device_id)

    async def run(self) -> None:
        """Goes all rounds, and encodes each view while the last one is still on the air.

        A frame that is given up is logged and counted in `failures`; the next one follows.
        """
        # Leaving the group waits for the last frame and for all votes.
        async with self.dialogues() as dialogues, asyncio.TaskGroup() as tasks:
            sending: asyncio.Task[None] | None = None
            async for capture in self.captures():
                if sending is not None:
                    await sending
                sending = tasks.create_task(self._send(capture, dialogues, tasks))

    @asynccontextmanager
    async def dialogues(self) -> AsyncIterator[Dialogues]:
        """Those of the device's views over its connection, which is open within the context."""
        told = self.settings
        async with Uplink(told.to, told.call_seconds, told.retry_seconds, self.stop, self.credentials) as uplink:
            yield Dialogues(Sender(told, uplink, self.key), uplink, told.vote_seconds)

    async def report(self, capture: Capture, sent: Sent, spool: dict[str, Any] | None = None) -> None:
        """Draws the picture, prints the report as one JSON line, and ends the trace.

        Args:
            capture: a view.
            sent: as it was sent and answered.
            spool: state of the spool that it waited in, if there is one.
        """
        picture = await self._gallery.draw(capture, sent) if self._gallery else None
        report = answer_report(capture, sent, picture, spool) | {"camera": self._camera_status()}
        print(json.dumps(report), flush=True)
        tracing.annotate(
            rho=report["rho"],
            bits=sent.uplink_bits,
            impairment=report["impairment"] or "",
            bits_flipped=report["bits_flipped"],
            label=report["top1"]["label"],
        )
        tracing.end()

    def _camera_status(self) -> dict[str, int]:
        """What reports say of the camera: pictures that a newer one replaced, rounds that it was too slow for."""
        skipped = self._rounds.skipped if self._rounds else 0
        return {"pictures_passed_over": self.source.passed_over, "rounds_skipped": skipped}

    async def captures(self, first: int = 0) -> AsyncIterator[Capture]:
        """The capture of each round, when its time has come; a view that cannot be taken is given up.

        Begins the capture's request and its trace. Ends after the last round, at the end of the source, or when
        the device is stopped.

        Args:
            first: frame id of the first, or a lower bound for rounds from the clock.
        """
        settings, gone = self.settings, 0
        if settings.clock_rounds:
            self._rounds = ClockRounds(first, settings.every or 0, self.stop, self.clock)
        else:
            self._rounds = CountedRounds(first, settings.every or 0, self.stop)
        try:
            async for due in self._rounds:
                try:
                    picture = await self._picture(due.number, due.ends)
                except TimeoutError:
                    self._rounds.skipped += 1
                    continue
                if picture is None:
                    return
                if capture := await self._capture(picture, due.number):
                    yield capture
                gone += 1
                if gone == settings.rounds:
                    return
        except SourceError as error:
            self.give_up("there are no more pictures", error)
        finally:
            await asyncio.to_thread(self.source.close)

    def give_up(self, event: str, error: Exception, **details: object) -> None:
        """Counts and logs a frame that is given up, and ends its trace."""
        self.failures += 1
        log.error(event, reason=str(error), **details)
        tracing.end(str(error))

    async def _picture(self, number: int, ends: float) -> Picture | None:
        """The picture of a round; None at the end of the source, or when the device is stopped.

        Raises:
            TimeoutError: none came while the round was on.
            SourceError: there will be none.
        """
        taking, stopping = (
            asyncio.ensure_future(self.source.picture(number)),
            asyncio.ensure_future(self.stop.wait()),
        )
        left = None if math.isinf(ends) else max(ends - self.clock.now(), 0)
        await asyncio.wait({taking, stopping}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if taking.done():
            return taking.result()
        taking.cancel()
        if self.stop.is_set():
            return None
        raise TimeoutError

    async def _capture(self, picture: Picture, number: int) -> Capture | None:
        """The view of a picture under its ids; None if it is given up."""
        object_id = self._object_of(number)
        ids = {"object_id": object_id, "device_id": self.settings.device_id, "frame_id": number}
        request_id = begin_request(None, **ids)
        tracing.begin("frame", **ids)
        try:
            view = await asyncio.to_thread(self._encode, picture, number)
        except ImageError as error:
            self.give_up("no view", error, photo=picture.name)
            return None
        return Capture(
            number=number,
            object_id=object_id,
            device_id=self.settings.device_id,
            expected_views=self.settings.expected_views,
            request_id=request_id,
            photo=picture.name,
            viewpoint=self.settings.view,
            view=view,
            taken_at=picture.taken_at,
        )

    def _object_of(self, number: int) -> str:
        return self.settings.object_of(number, str(self._run) if self._run > 1 else "")

    def _encode(self, picture: Picture, number: int) -> Encoded:
        viewpoint = VIEWPOINTS[self.settings.view - 1] if self.settings.view else None
        with tracing.span("capture"):
            pixels = take_view(picture.content, viewpoint)
        return self.encoder.encode(pixels, number)

    async def _send(self, capture: Capture, dialogues: Dialogues, tasks: asyncio.TaskGroup) -> None:
        sent = Sent()
        try:
            capture = await self._send_apart(capture, dialogues, sent)
        except UplinkStopped as error:
            log.warning("frame given up", reason=str(error))
            tracing.end(str(error))
        except (UplinkError, PlanningError) as error:
            self.give_up("frame given up", error)
        else:
            self._is_answered = self._is_answered or not sent.layers[0].response.repeated
            tasks.create_task(self._finish(capture, dialogues, sent))

    async def wait(self, capture: Capture, dialogues: Dialogues, sent: Sent) -> None:
        """Waits for a view's vote; one that was awaited in vain is logged."""
        try:
            await dialogues.finish(capture, sent)
        except (UplinkError, PlanningError) as error:
            log.error("no vote", object_id=capture.object_id, reason=str(error))

    async def _finish(self, capture: Capture, dialogues: Dialogues, sent: Sent) -> None:
        await self.wait(capture, dialogues, sent)
        await self.report(capture, sent)

    async def _send_apart(self, capture: Capture, dialogues: Dialogues, sent: Sent) -> Capture:
        """Sends a view apart from those that this camera, under the same name, sent before it was started anew.

        Object ids then go on with @2, @3 and so on, which cameras that start anew together agree on: until the
        first answer, an object of which the server has another view of this camera is one of the past.

        Returns:
            The capture under the object id that it was sent with.
        """
        while True:
            capture = replace(capture, object_id=self._object_of(capture.number))
            try:
                await dialogues.begin(capture, sent)
                return capture
            except UplinkError as error:
                is_past = error.code is grpc.StatusCode.ALREADY_EXISTS and not self._is_answered
                is_told = self.settings.run or self.settings.clock_rounds
                if not is_past or is_told or self._run == MAX_RUNS:
                    raise
            self._run += 1
            sent.layers.clear()
            log.warning(
                "this camera has sent another view of the object before, and goes on under a new run; one that "
                "starts anew alone agrees with others by --clock-rounds",
                object_id=capture.object_id,
                new_object_id=self._object_of(capture.number),
            )
