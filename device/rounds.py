"""Round after round: take a view, encode it while the last one is still on the air, send it, report the answer."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import structlog

from device.camera import VIEWPOINTS, take_view
from device.encoder import Encoded, Encoder
from device.picture import draw_view
from device.settings import DeviceSettings
from device.uplink import Uplink, UplinkError, UplinkStopped
from semlink.bitstream import Frame, FrameError
from semlink.images import ImageError
from semlink.v1 import link_pb2 as pb

log = structlog.get_logger(__name__)

MAX_VOTES_AWAITED = 16
"""Objects whose vote is awaited while later rounds go on."""


class Rounds:
    """The life of one device: one process, one model, one connection."""

    def __init__(
        self, settings: DeviceSettings, encoder: Encoder, photos: list[Path], stop: asyncio.Event
    ) -> None:
        """`photos` are gone round, one each round; `stop` ends it after the frame under way."""
        self._settings, self._encoder, self._photos, self._stop = settings, encoder, photos, stop
        self._viewpoint = VIEWPOINTS[settings.view - 1] if settings.view else None
        self._votes_awaited = asyncio.Semaphore(MAX_VOTES_AWAITED)
        self.failures = 0

    async def run(self) -> None:
        """Goes all rounds. A frame that is given up is logged and counted in `failures`; the next one follows."""
        settings = self._settings
        uplink = Uplink(settings.to, settings.call_seconds, settings.retry_seconds, self._stop)
        # Leaving the group waits for the last frame and for all votes.
        async with uplink, asyncio.TaskGroup() as reports:
            sending: asyncio.Task[None] | None = None
            async for number in self._numbers():
                photo = self._photos[number % len(self._photos)]
                try:
                    encoded = await asyncio.to_thread(self._encode, photo)
                except ImageError as error:
                    self.failures += 1
                    log.error("no view", photo=str(photo), reason=str(error))
                    continue
                if sending is not None:
                    await sending
                sending = reports.create_task(self._send(uplink, number, photo, encoded, reports))

    async def _numbers(self) -> AsyncIterator[int]:
        """Numbers of the rounds, each when its time has come."""
        settings, started, number = self._settings, time.monotonic(), 0
        while not self._stop.is_set() and (settings.rounds == 0 or number < settings.rounds):
            yield number
            number += 1
            if number == settings.rounds:
                return
            pause = started + number * (settings.every or 0) - time.monotonic()
            try:
                async with asyncio.timeout(max(pause, 0)):
                    await self._stop.wait()
            except TimeoutError:
                continue

    def _encode(self, photo: Path) -> Encoded:
        return self._encoder.encode(take_view(photo, self._viewpoint))

    async def _send(
        self, uplink: Uplink, number: int, photo: Path, view: Encoded, reports: asyncio.TaskGroup
    ) -> None:
        settings = self._settings
        request = pb.ClassifyRequest(
            frame=view.data,
            object_id=settings.object_of(number),
            device_id=settings.device_id,
            frame_id=number,
            expected_views=settings.expected_views,
            echo_frame=settings.pictures is not None,
        )
        started = time.perf_counter()
        try:
            response = await uplink.classify(request)
        except UplinkStopped as error:
            log.warning("frame given up", object_id=request.object_id, frame_id=number, reason=str(error))
            return
        except UplinkError as error:
            self.failures += 1
            log.error("frame given up", object_id=request.object_id, frame_id=number, reason=str(error))
            return
        round_trip_ms = 1e3 * (time.perf_counter() - started)
        await self._votes_awaited.acquire()
        reports.create_task(self._report(uplink, request, response, photo, view, round_trip_ms))

    async def _standing(
        self, uplink: Uplink, object_id: str, response: pb.ClassifyResponse
    ) -> pb.ClassifyResponse | pb.WaitVoteResponse:
        """Waits for the other views, if some are missing, or until the device is told to stop."""
        if response.HasField("vote"):
            return response
        waiting = asyncio.ensure_future(uplink.wait_vote(object_id, self._settings.vote_seconds))
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if waiting.done():
            return waiting.result()
        waiting.cancel()
        return response

    async def _draw(
        self, folder: Path, request: pb.ClassifyRequest, view: Encoded, response: pb.ClassifyResponse
    ) -> Path | None:
        """Draws the view into a picture; one that can't be drawn is logged, and costs no answer."""
        path = folder / f"{request.object_id}-{request.device_id}.png".replace("/", "-")
        try:
            received = Frame.from_bytes(response.received_frame)
            await asyncio.to_thread(draw_view, path, view, received, response.predictions[0].name)
        except (OSError, FrameError) as error:
            log.error("no picture", picture=str(path), reason=str(error))
            return None
        return path

    async def _report(
        self,
        uplink: Uplink,
        request: pb.ClassifyRequest,
        response: pb.ClassifyResponse,
        photo: Path,
        view: Encoded,
        round_trip_ms: float,
    ) -> None:
        settings = self._settings
        standing: pb.ClassifyResponse | pb.WaitVoteResponse = response
        try:
            standing = await self._standing(uplink, request.object_id, response)
        except UplinkError as error:
            log.error("no vote", object_id=request.object_id, reason=str(error))
        finally:
            self._votes_awaited.release()
        vote = standing.vote if standing.HasField("vote") else None
        if vote is None:
            log.warning("views are missing", object_id=request.object_id, missing=standing.missing_views)
        frame, top, channel, server = view.frame, response.predictions[0], response.channel, response.timings
        picture = await self._draw(settings.pictures, request, view, response) if settings.pictures else None
        report = {
            "event": "answer",
            "object_id": request.object_id,
            "device_id": settings.device_id,
            "frame_id": request.frame_id,
            "photo": str(photo),
            "view": settings.view,
            "picture": str(picture) if picture else None,
            "header_bits": frame.header_bits,
            "payload_bits": frame.payload_bits,
            "rho": frame.rho,
            "true_ratio": frame.true_ratio,
            "impairment": channel.impairment or None,
            "bits_flipped": channel.bits_flipped,
            "top1": {"label": top.label, "name": top.name, "confidence": top.confidence},
            "timings_ms": {
                "attention": view.attention_ms,
                "encode": view.encode_ms,
                "channel": channel.channel_ms,
                "server": server.decode_ms + server.queue_ms + server.inference_ms,
                "round_trip": round_trip_ms,
            },
            "model": response.model,
            "repeated": response.repeated,
            "vote": None if vote is None else {
                "label": vote.label, "name": vote.name, "votes": vote.votes, "views": vote.views
            },
            "missing_views": standing.missing_views,
        }  # fmt: skip
        print(json.dumps(report), flush=True)
