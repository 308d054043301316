"""Sender: a capture goes out under a plan and with a tag; its answer, vote and picture become a report."""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import structlog
from pydantic import SecretBytes
from tenacity import RetryCallState

from device.capture import Capture, Encoded
from device.picture import draw_view
from device.planning import PlannedView, plan_view
from device.report import Sent, answer_report
from device.settings import DeviceSettings
from device.uplink import Uplink, UplinkError
from device.votes import Votes
from semlink.frame import FrameError
from semlink.service import tracing
from semlink.service.header_tag import header_tag
from semlink.source.registry import read_frame
from semlink.v1 import link_pb2 as pb

log = structlog.get_logger(__name__)

MAX_PICTURES = 1000
"""So many pictures of a device's rounds stay in its folder, the newest."""


class Sender:
    """Sends captures over one uplink."""

    def __init__(
        self,
        settings: DeviceSettings,
        uplink: Uplink,
        key: SecretBytes | None,
        camera_status: Callable[[], dict[str, int]],
    ) -> None:
        """`key` makes the tags of headers, if there is one; `camera_status` is reported with every answer."""
        self._settings, self._uplink, self._key = settings, uplink, key
        self._camera_status = camera_status
        self._votes = Votes(uplink, settings.vote_seconds)
        self.pause = uplink.pause

    async def send(self, capture: Capture) -> Sent:
        """Sends a view, under a plan if there is to be one; for `retry_seconds` under new ones if it is refused.

        Raises:
            UplinkError: it was refused, or nobody answered.
            PlanningError: there is no plan for the channel.
        """

        def calls_for_another_plan(error: BaseException) -> bool:
            is_aborted = isinstance(error, UplinkError) and error.code is grpc.StatusCode.ABORTED
            return is_aborted and self._settings.planned is not None

        def note(state: RetryCallState) -> None:
            log.info("planning anew", reason=str(state.outcome.exception() if state.outcome else None))

        sent: Sent = await self._uplink.retrying(calls_for_another_plan, note)(self._send_once, capture)
        return sent

    async def report(self, capture: Capture, sent: Sent, spool: dict[str, Any] | None = None) -> None:
        """Waits for the vote, draws the picture, prints the report as one JSON line, and ends the trace.

        Args:
            capture: a view.
            sent: as it was sent and answered.
            spool: state of the spool that it waited in, if there is one.
        """
        response = sent.response
        vote = await self._votes.after_wait(capture.object_id, response)
        picture = await self._draw(self._settings.pictures, capture, sent) if self._settings.pictures else None
        report = answer_report(capture, sent, vote, picture, spool) | {"camera": self._camera_status()}
        print(json.dumps(report), flush=True)
        tracing.annotate(
            rho=sent.view.frame.rho,
            bits=8 * len(sent.view.data),
            impairment=response.channel.impairment,
            bits_flipped=response.channel.bits_flipped,
            label=response.predictions[0].label,
        )
        tracing.end()

    async def _send_once(self, capture: Capture) -> Sent:
        planned = await self._plan(capture) if self._settings.planned else None
        view = planned.view if planned else capture.view
        request = pb.ClassifyRequest(
            frame=view.data,
            header_tag=self._tag(view, capture),
            plan=planned.message if planned else None,
            expected_views=capture.expected_views,
            echo_frame=self._settings.pictures is not None,
            **capture.ids,
        )
        started = time.perf_counter()
        response = await self._uplink.classify(request)
        return Sent(view, planned, response, 1e3 * (time.perf_counter() - started))

    def _tag(self, view: Encoded, capture: Capture) -> bytes:
        """The tag of the header; empty for a device without a key."""
        if self._key is None:
            return b""
        header = view.data[: view.frame.header_bits // 8]
        return header_tag(
            self._key.get_secret_value(), header, expected_views=capture.expected_views, **capture.ids
        )

    async def _plan(self, capture: Capture) -> PlannedView | None:
        """The view under a plan, or None if no channel on the way takes plans, or nothing is there to plan."""
        settings = self._settings
        if not capture.view.frame.payload_bits:
            return None
        assert settings.planned is not None
        with tracing.span("plan", method=settings.planned):
            state = await self._uplink.channel_state(capture.device_id, capture.number)
            if state is None:
                log.info("no channel takes plans, sending without")
                return None
            return await asyncio.to_thread(plan_view, capture.view, state, settings.planned, settings.planned_rho)

    async def _draw(self, folder: Path, capture: Capture, sent: Sent) -> Path | None:
        """Draws the view into a picture; one that cannot be drawn is logged, and costs no answer."""
        path = folder / f"{capture.object_id}-{capture.device_id}.png".replace("/", "-")
        try:
            received = read_frame(sent.response.received_frame)
            await asyncio.to_thread(draw_view, path, sent.view, received, sent.response.predictions[0].name)
            await asyncio.to_thread(self._remove_oldest, folder)
        except (OSError, FrameError) as error:
            log.error("no picture", picture=str(path), reason=str(error))
            return None
        return path

    def _remove_oldest(self, folder: Path) -> None:
        """Removes the pictures of this device's rounds but the newest; nothing else that is in the folder."""
        name, device = (each.replace("/", "-") for each in (self._settings.object_id, self._settings.device_id))
        of_rounds = re.compile(rf"{re.escape(name)}-\d+(@[A-Za-z0-9._-]+)?-{re.escape(device)}\.png")
        drawn: dict[Path, float] = {}
        for path in folder.iterdir():
            if of_rounds.fullmatch(path.name):
                with contextlib.suppress(FileNotFoundError):  # another view is drawn meanwhile, and removed it
                    drawn[path] = path.stat().st_mtime
        for path in sorted(drawn, key=lambda path: drawn[path])[:-MAX_PICTURES]:
            path.unlink(missing_ok=True)
