"""Round after round: take a view, encode it while the last one is still on the air, send it, report the answer."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import structlog
from pydantic import SecretBytes
from tenacity import RetryCallState

from device.access import Access
from device.camera import VIEWPOINTS, take_view
from device.capture import Capture
from device.encoder import Encoded, Encoder
from device.picture import draw_view
from device.planning import Planned, PlanningError, plan_view
from device.report import answer_report
from device.settings import DeviceSettings
from device.uplink import Uplink, UplinkError, UplinkStopped
from device.votes import Votes
from semlink.frame import FrameError
from semlink.service import tracing
from semlink.service.correlation import begin_request
from semlink.service.header_tag import header_tag
from semlink.source.registry import read_frame
from semlink.v1 import link_pb2 as pb
from semlink.vision.images import ImageError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, eq=False)
class Sent:
    """A view that was answered, as it was sent at last."""

    view: Encoded
    planned: Planned | None
    request: pb.ClassifyRequest
    response: pb.ClassifyResponse
    round_trip_ms: float


@dataclass(eq=False)
class Rounds:
    """The life of one device: one process, one model, one connection.

    Attributes:
        settings: what it was told.
        access: what every call goes out with.
        encoder: what makes frames of views.
        photos: gone round, one each round.
        stop: ends it after the frame under way.
        key: makes the tags of headers, if there is one.
        failures: frames that were given up.
    """

    settings: DeviceSettings
    access: Access
    encoder: Encoder
    photos: list[Path]
    stop: asyncio.Event
    key: SecretBytes | None = None
    failures: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Nothing is sent before `run`."""
        self._votes = Votes(self.settings.vote_seconds, self.stop)

    async def run(self) -> None:
        """Goes all rounds. A frame that is given up is logged and counted in `failures`; the next one follows."""
        # Leaving the group waits for the last frame and for all votes.
        async with self._uplink() as uplink, asyncio.TaskGroup() as reports:
            sending: asyncio.Task[None] | None = None
            async for number in self._numbers():
                capture = await self._capture(number)
                if capture is None:
                    continue
                if sending is not None:
                    await sending
                sending = reports.create_task(self._send(uplink, capture, reports))

    def _uplink(self) -> Uplink:
        settings = self.settings
        return Uplink(settings.to, settings.call_seconds, settings.retry_seconds, self.stop, self.access)

    async def _numbers(self, first: int = 0) -> AsyncIterator[int]:
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

    async def _capture(self, number: int) -> Capture | None:
        """Takes the view of a round and encodes it; one that can't be taken is logged and counted, and is None."""
        settings, photo = self.settings, self.photos[number % len(self.photos)]
        object_id, device_id = settings.object_of(number), settings.device_id
        # Of this frame, in whatever is done for it from here on.
        request_id = begin_request(None, object_id=object_id, device_id=device_id, frame_id=number)
        tracing.tracer.begin("frame", object_id=object_id, device_id=device_id, frame_id=number)
        try:
            encoded = await asyncio.to_thread(self._encode, photo)
        except ImageError as error:
            self.failures += 1
            log.error("no view", photo=str(photo), reason=str(error))
            tracing.tracer.end(str(error))
            return None
        expected = settings.expected_views
        return Capture(number, object_id, device_id, expected, request_id, str(photo), settings.view, encoded)

    def _encode(self, photo: Path) -> Encoded:
        viewpoint = VIEWPOINTS[self.settings.view - 1] if self.settings.view else None
        with tracing.tracer.span("capture"):
            pixels = take_view(photo, viewpoint)
        return self.encoder.encode(pixels)

    async def _send(self, uplink: Uplink, capture: Capture, reports: asyncio.TaskGroup) -> None:
        try:
            sent = await self._classify(uplink, capture)
        except UplinkStopped as error:
            log.warning("frame given up", reason=str(error))
            tracing.tracer.end(str(error))
            return
        except (UplinkError, PlanningError) as error:
            self.failures += 1
            log.error("frame given up", reason=str(error))
            tracing.tracer.end(str(error))
            return
        reports.create_task(self._report(uplink, capture, sent))

    async def _classify(self, uplink: Uplink, capture: Capture) -> Sent:
        """Sends a view, under a plan if there is to be one; for `retry_seconds` under new ones if it is refused.

        Raises:
            UplinkError: it was refused, or nobody answered.
            PlanningError: there is no plan for the channel.
        """

        def calls_for_another_plan(error: BaseException) -> bool:
            is_aborted = isinstance(error, UplinkError) and error.code is grpc.StatusCode.ABORTED
            return is_aborted and self.settings.plan is not None

        def note(state: RetryCallState) -> None:
            log.info("planning anew", reason=str(state.outcome.exception() if state.outcome else None))

        sent: Sent = await uplink.retrying(calls_for_another_plan, note)(self._classify_once, uplink, capture)
        return sent

    async def _classify_once(self, uplink: Uplink, capture: Capture) -> Sent:
        settings = self.settings
        planned = await self._plan(uplink, capture) if settings.plan else None
        sent = planned.view if planned else capture.view
        request = pb.ClassifyRequest(
            frame=sent.data,
            header_tag=self._tag(sent, capture),
            plan=planned.message if planned else None,
            object_id=capture.object_id,
            device_id=capture.device_id,
            frame_id=capture.number,
            expected_views=capture.expected_views,
            echo_frame=settings.pictures is not None,
        )
        started = time.perf_counter()
        response = await uplink.classify(request)
        round_trip_ms = 1e3 * (time.perf_counter() - started)
        return Sent(sent, planned, request, response, round_trip_ms)

    def _tag(self, view: Encoded, capture: Capture) -> bytes:
        """The tag of the header; empty for a device without a key."""
        if self.key is None:
            return b""
        return header_tag(
            self.key.get_secret_value(),
            view.data[: view.frame.header_bits // 8],
            object_id=capture.object_id,
            device_id=capture.device_id,
            frame_id=capture.number,
            expected_views=capture.expected_views,
        )

    async def _plan(self, uplink: Uplink, capture: Capture) -> Planned | None:
        """The view under a plan, or None if no channel on the way takes plans."""
        settings = self.settings
        assert settings.plan is not None
        with tracing.tracer.span("plan", method=settings.plan):
            state = await uplink.channel_state(capture.device_id, capture.number)
            if state is None:
                log.info("no channel takes plans, sending without")
                return None
            return await asyncio.to_thread(plan_view, capture.view, state, settings.plan, settings.rho)

    async def _draw(
        self, folder: Path, request: pb.ClassifyRequest, view: Encoded, response: pb.ClassifyResponse
    ) -> Path | None:
        """Draws the view into a picture; one that can't be drawn is logged, and costs no answer."""
        path = folder / f"{request.object_id}-{request.device_id}.png".replace("/", "-")
        try:
            received = read_frame(response.received_frame)
            await asyncio.to_thread(draw_view, path, view, received, response.predictions[0].name)
        except (OSError, FrameError) as error:
            log.error("no picture", picture=str(path), reason=str(error))
            return None
        return path

    async def _report(self, uplink: Uplink, capture: Capture, sent: Sent) -> None:
        settings, request, response = self.settings, sent.request, sent.response
        standing = await self._votes.standing(uplink, request.object_id, response)
        picture = await self._draw(settings.pictures, request, sent.view, response) if settings.pictures else None
        report = answer_report(
            request,
            response,
            standing,
            capture=capture,
            view=sent.view,
            planned=sent.planned,
            picture=picture,
            round_trip_ms=sent.round_trip_ms,
            spool=self._spool_report(capture),
        )
        print(json.dumps(report), flush=True)
        tracing.tracer.annotate(
            rho=sent.view.frame.rho,
            bits=8 * len(sent.view.data),
            impairment=response.channel.impairment,
            bits_flipped=response.channel.bits_flipped,
            label=response.predictions[0].label,
        )
        tracing.tracer.end()

    def _spool_report(self, capture: Capture) -> dict[str, Any] | None:
        """What a report tells of the spool; without one, nothing."""
        return None
