"""Sender of frames: under a plan, with a tag, and under stronger codes where the channel loses the header."""

import asyncio
import math
import time

import grpc
import structlog
from pydantic import SecretBytes
from tenacity import RetryCallState

from device.capture import Capture, Encoded
from device.planning import PlannedView, plan_view
from device.sent import Layer, Sent
from device.settings import DeviceSettings
from device.uplink import Uplink, UplinkError
from semlink.access.protection import MOST_DESIGN_BER, revised_design
from semlink.service import tracing
from semlink.service.header_tag import header_tag
from semlink.v1 import link_pb2 as pb

log = structlog.get_logger(__name__)

FRAME_LOST = "frame_lost"
"""Reason of a channel whose code was too weak for a frame."""
MAX_TRIES = 5
"""Of one layer, each under a code for twice the errors."""
LEAST_DESIGN_BER = 0.001
"""Bit error rate that a stronger code is for, at least twice this, where the channel told none."""


class Sender:
    """Sends frames over one uplink."""

    def __init__(
        self, settings: DeviceSettings, uplink: Uplink, key: SecretBytes | None, report_symbols: int = 0
    ) -> None:
        """`key` makes the tags of headers, if there is one; so many symbols of each frame are to be shown."""
        self._settings, self._uplink, self._key, self._report_symbols = settings, uplink, key, report_symbols

    async def send(
        self, capture: Capture, number: int, view: Encoded, sent: Sent, wish: pb.Wish | None = None
    ) -> Layer:
        """Sends a layer of a view, under a plan if there is to be one; for `retry_seconds` under new ones.

        Args:
            capture: the view.
            number: of the layer.
            view: the layer's frame.
            sent: counts what was on the air.
            wish: what it is sent for.

        Raises:
            UplinkError: it was refused, or nobody answered.
            PlanningError: there is no plan for the channel.
        """

        def calls_for_another_plan(error: BaseException) -> bool:
            if not isinstance(error, UplinkError) or self._settings.plan is None:
                return False
            return error.code is grpc.StatusCode.ABORTED and error.info.reason != FRAME_LOST

        def note(state: RetryCallState) -> None:
            log.info("planning anew", reason=str(state.outcome.exception() if state.outcome else None))

        async def planned() -> Layer:
            made = await self._plan(capture, view) if self._settings.plan else None
            return await self._send_protected(capture, number, view, made, sent, wish)

        layer: Layer = await self._uplink.retrying(calls_for_another_plan, note)(planned)
        return layer

    async def _send_protected(
        self,
        capture: Capture,
        number: int,
        view: Encoded,
        planned: PlannedView | None,
        sent: Sent,
        wish: pb.Wish | None,
    ) -> Layer:
        view = planned.view if planned else view
        request = pb.ClassifyRequest(
            frame=view.data,
            header_tag=self._tag(view, capture, number),
            plan=planned.message if planned else None,
            expected_views=capture.expected_views,
            echo_frame=self._settings.pictures is not None,
            layer=number,
            more=view.more,
            report_symbols=self._report_symbols,
            **capture.ids,
        )
        for attempt in range(MAX_TRIES):
            design_ber = sent.design_ber or self._settings.protect_for or 0.0
            if design_ber:
                request.protection.CopyFrom(pb.Protection(design_ber=design_ber, attempt=attempt))
            started = time.perf_counter()
            try:
                response = await self._uplink.classify(request, lambda info: sent.count_failed(request, info))
            except UplinkError as error:
                if error.info.reason != FRAME_LOST or attempt == MAX_TRIES - 1:
                    raise
                sent.design_ber = stronger(design_ber, error.info.metadata.get("design_ber", ""))
                log.info("the frame was lost, sending under a stronger code", design_ber=sent.design_ber)
                continue
            sent.count(request, response.channel.air_bits)
            sent.hear(response)
            sent.design_ber = revised(design_ber, response.channel)
            return Layer(number, view, planned, response, 1e3 * (time.perf_counter() - started), wish)
        raise AssertionError("the last try is answered or fails")

    def _tag(self, view: Encoded, capture: Capture, number: int) -> bytes:
        """The tag of the header; empty for a device without a key."""
        if self._key is None:
            return b""
        header = view.data[: view.frame.header_bits // 8]
        return header_tag(
            self._key.get_secret_value(),
            header,
            expected_views=capture.expected_views,
            layer=number,
            more=view.more,
            **capture.ids,
        )

    async def _plan(self, capture: Capture, view: Encoded) -> PlannedView | None:
        """The frame under a plan, or None if no channel on the way takes plans, or nothing is there to plan."""
        settings = self._settings
        if not view.frame.payload_bits:
            return None
        assert settings.plan is not None
        with tracing.span("plan", method=settings.plan):
            state = await self._uplink.channel_state(capture.device_id, capture.number)
            if state is None:
                log.info("no channel takes plans, sending without")
                return None
            return await asyncio.to_thread(plan_view, view, state, settings.plan, settings.planned_rho)


def revised(design_ber: float, channel: pb.ChannelReport) -> float:
    """The bit error rate for the code of the next frame, where the air was measured and is worse than was told.

    >>> revised(0.05, pb.ChannelReport(measured_ber=0.06, air_bits=500))
    0.05
    >>> round(revised(0.05, pb.ChannelReport(measured_ber=0.1, air_bits=500)), 3)
    0.127

    Args:
        design_ber: of the last; 0 where the channel chose, and knows itself.
        channel: what it says of that frame.
    """
    was_measured = channel.HasField("measured_ber") and 0 <= channel.measured_ber <= 1 and channel.air_bits
    if not design_ber or not was_measured:
        return design_ber
    return revised_design(design_ber, channel.measured_ber, channel.air_bits)


def stronger(design_ber: float, told: str) -> float:
    """Twice the bit error rate that a code was for; of one of the channel's choice, that which it told.

    >>> stronger(0.05, ""), stronger(0.0, "0.02"), stronger(0.15, ""), stronger(0.0, "nonsense")
    (0.1, 0.04, 0.2, 0.002)
    """
    try:
        used = design_ber or float(told)
    except ValueError:
        used = 0.0
    used = used if math.isfinite(used) else 0.0
    return min(2 * max(used, LEAST_DESIGN_BER), MOST_DESIGN_BER)
