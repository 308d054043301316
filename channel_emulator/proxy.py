"""Proxy of the link service: the upstream's own, over a damaged channel."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import grpc
import structlog

from channel_emulator.live import LiveImpairments
from channel_emulator.metrics import Metrics
from channel_emulator.plan_messages import PlanRefused
from channel_emulator.randomness import FrameRandomness
from channel_emulator.settings import Settings
from channel_emulator.transmission import MOST_SYMBOLS, FrameLost, transmit
from channel_emulator.upstream import pass_on, patience
from semlink.access.symbol_link import AccessRefused
from semlink.channel.base import Channel
from semlink.frame import FrameError
from semlink.service import tracing
from semlink.service.admission import ConcurrencyLimit, Refusal
from semlink.service.correlation import served
from semlink.service.interceptor import MAX_WAIT_SECONDS, abort
from semlink.v1 import link_pb2, link_pb2_grpc

log = structlog.get_logger(__name__)

WORKERS = 2
"""Frames whose bits are modulated at once: the largest frame takes half a gigabyte meanwhile."""


class ImpairingProxy(link_pb2_grpc.LinkServiceServicer):
    """Passes every call on to the upstream; frames are damaged on their way.

    Messages are passed on whole, fields unknown to this version included. A call that the device cancels is
    cancelled upstream.
    """

    def __init__(
        self, channel: grpc.aio.Channel, settings: Settings, impairments: LiveImpairments, metrics: Metrics
    ) -> None:
        """`impairments` may change between frames."""
        self._upstream = link_pb2_grpc.LinkServiceStub(channel)
        self._settings = settings
        self._impairments = impairments
        self._metrics = metrics
        self._waiting = ConcurrencyLimit(settings.max_waiting_calls, "wait for votes")
        self._workers = ThreadPoolExecutor(WORKERS)

    @served
    async def Classify(
        self, request: link_pb2.ClassifyRequest, context: grpc.aio.ServicerContext
    ) -> link_pb2.ClassifyResponse:
        """Damages the frame, passes it on, and adds to the answer what was done to it."""
        settings, report = self._settings, link_pb2.ChannelReport()
        outcome = "failed"
        try:
            if request.report_symbols > MOST_SYMBOLS:
                outcome = "refused"
                message = f"report_symbols must be at most {MOST_SYMBOLS}, not {request.report_symbols}"
                await abort(context, grpc.StatusCode.INVALID_ARGUMENT, message, Refusal.reason)
            try:
                with tracing.span("impair"):
                    request.frame, report = await self._impair(request)
            except (FrameError, PlanRefused, AccessRefused) as error:
                outcome = "refused"
                log.info("frame refused", reason=str(error))
                await self._refuse(error, context)
            except FrameLost as error:
                outcome = "lost"
                log.info("frame lost", air_bits=error.air_bits, design_ber=error.design_ber)
                about = {"air_bits": str(error.air_bits), "design_ber": repr(error.design_ber)}
                await abort(context, grpc.StatusCode.ABORTED, str(error), "frame_lost", about=about)
            if settings.pace:
                await self._pace(report.air_ms / 1000, context)
            with self._metrics.upstream_seconds.time():
                response: link_pb2.ClassifyResponse = await pass_on(
                    self._upstream, "Classify", request, context, settings
                )
            outcome = "answered"
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._metrics.frames.labels(outcome).inc()
            told = {
                "impairment": report.impairment,
                "bits_flipped": report.bits_flipped,
                "bits_exposed": report.bits_exposed,
                "outcome": outcome,
            }
            tracing.annotate(**told, blocks_lost=len(report.lost_blocks))
            log.debug("frame passed on", **told)
        response.channel.CopyFrom(_in_series(report, response.channel) if response.HasField("channel") else report)
        return response

    @served
    async def WaitVote(
        self, request: link_pb2.WaitVoteRequest, context: grpc.aio.ServicerContext
    ) -> link_pb2.WaitVoteResponse:
        """Passes the call on untouched, if no more wait than may."""
        # More than may be asked for is refused upstream at once, as is a NaN.
        wait_seconds = request.wait_seconds if 0 <= request.wait_seconds <= MAX_WAIT_SECONDS else 0
        with self._waiting:
            response: link_pb2.WaitVoteResponse = await pass_on(
                self._upstream, "WaitVote", request, context, self._settings, wait_seconds
            )
        return response

    async def _impair(self, request: link_pb2.ClassifyRequest) -> tuple[bytes, link_pb2.ChannelReport]:
        """The frame as it arrives, and what happened to it."""
        channel = self._impairments.met_by(request.device_id)
        # In a worker the others need not wait, but the frame itself takes longer.
        if channel.is_quick(8 * len(request.frame)):
            received, report = self._transmit(request, channel)
        else:
            loop = asyncio.get_running_loop()
            received, report = await loop.run_in_executor(self._workers, self._transmit, request, channel)
        request.ClearField("protection")  # it is for this channel, not for another behind it
        request.lost_patches.extend(set(report.lost_blocks).difference(request.lost_patches))
        self._metrics.bits_exposed.inc(report.bits_exposed)
        self._metrics.bits_flipped.inc(report.bits_flipped)
        self._metrics.blocks_lost.inc(len(report.lost_blocks))
        self._metrics.impair_seconds.observe(report.channel_ms / 1000)
        if report.block_air_ms:
            self._metrics.air_seconds.observe(report.air_ms / 1000)
        return received, report

    def _transmit(
        self, request: link_pb2.ClassifyRequest, channel: Channel
    ) -> tuple[bytes, link_pb2.ChannelReport]:
        plan = request.plan if request.HasField("plan") else None
        protection = request.protection if request.HasField("protection") else None
        randomness = FrameRandomness(
            self._settings.seed,
            request.device_id,
            request.frame_id,
            request.layer,
            protection.attempt if protection else 0,
        )
        return transmit(
            request.frame,
            plan,
            channel,
            randomness,
            impair_header=self._settings.impair_header,
            protection=protection,
            report_symbols=request.report_symbols,
        )

    async def _refuse(
        self, error: FrameError | PlanRefused | AccessRefused, context: grpc.aio.ServicerContext
    ) -> None:
        """Aborts the call; whether another plan would help tells the code."""
        if isinstance(error, FrameError):
            self._metrics.frames_rejected.labels(error.reason).inc()
            message = f"frame: {error} ({error.reason})"
            await abort(context, grpc.StatusCode.INVALID_ARGUMENT, message, error.reason)
        elif isinstance(error, AccessRefused):
            self._metrics.access_refused.labels(error.reason).inc()
            message = f"access: {error}"
            code = grpc.StatusCode.FAILED_PRECONDITION
            if error.reason == "design_ber":
                code = grpc.StatusCode.INVALID_ARGUMENT
            await abort(context, code, message, f"access_{error.reason}")
        else:
            self._metrics.plans_refused.labels(error.rule).inc()
            code = grpc.StatusCode.ABORTED if error.calls_for_another else grpc.StatusCode.INVALID_ARGUMENT
            await abort(context, code, str(error), f"plan_{error.rule}")

    async def _pace(self, seconds: float, context: grpc.aio.ServicerContext) -> None:
        """Takes the time that the frame is on the air, if there is so much."""
        left = patience(self._settings, context)
        await asyncio.sleep(min(seconds, left))
        if seconds > left:
            message = f"the frame is on the air for {seconds:.3g} s: more time or power"
            await abort(context, grpc.StatusCode.DEADLINE_EXCEEDED, message, "on_air_too_long")


def _in_series(first: link_pb2.ChannelReport, second: link_pb2.ChannelReport) -> link_pb2.ChannelReport:
    """The report of two emulators in a row; a bit that both flipped counts twice.

    What one of them says of a plan, or shows of its symbols, stands; of two, the second's word.
    """
    both = link_pb2.ChannelReport()
    both.CopyFrom(second if second.block_air_ms else first)
    both.impairment = f"{first.impairment}+{second.impairment}"
    both.bits_flipped = first.bits_flipped + second.bits_flipped
    both.bits_exposed = first.bits_exposed + second.bits_exposed
    both.channel_ms = first.channel_ms + second.channel_ms
    both.channel_uses = first.channel_uses + second.channel_uses
    both.air_bits = first.air_bits + second.air_bits
    if shows := [each for each in (second, first) if each.HasField("constellation")]:
        both.constellation.CopyFrom(shows[0].constellation)
    return both
