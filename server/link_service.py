"""gRPC service LinkService: recognises frames and answers waits for votes."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar, get_args

import grpc
from pydantic import ValidationError

from semlink.service.admission import CALLER, Refusal
from semlink.service.correlation import served
from semlink.service.interceptor import MAX_WAIT_SECONDS, abort
from semlink.service.validation import mistakes_text
from semlink.source.registry import read_frame
from semlink.v1 import link_pb2 as pb
from semlink.v1 import link_pb2_grpc
from server.metrics import Metrics
from server.recognition import More, Recognizer, ViewRequest
from server.sessions import Sessions, Vote, VoteStatus, Wish

T = TypeVar("T")


class LinkService(link_pb2_grpc.LinkServiceServicer):
    """The contract is proto/semlink/v1/link.proto."""

    def __init__(
        self, recognizer: Recognizer, sessions: Sessions, metrics: Metrics, timeout_seconds: float
    ) -> None:
        """Shares its parts with the REST API; `timeout_seconds` is for calls without a deadline."""
        self._recognizer, self._sessions, self._metrics = recognizer, sessions, metrics
        self._timeout = timeout_seconds

    @served
    async def Classify(
        self, request: pb.ClassifyRequest, context: grpc.aio.ServicerContext
    ) -> pb.ClassifyResponse:
        """Classifies one frame and counts it as the device's view of the object."""
        return await _or_abort(context, self._classify(request, context))

    async def _classify(
        self, request: pb.ClassifyRequest, context: grpc.aio.ServicerContext
    ) -> pb.ClassifyResponse:
        with self._metrics.call():
            remaining = context.time_remaining()
            deadline = asyncio.get_running_loop().time() + (self._timeout if remaining is None else remaining)
            answer = await self._recognizer.frame(
                request.frame,
                _view(request),
                deadline,
                tag=request.header_tag,
                lost_patches=request.lost_patches,
            )
        recognition = answer.recognition
        response = pb.ClassifyResponse(
            predictions=[pb.Prediction(**vars(each)) for each in recognition.predictions],
            model=answer.model,
            repeated=answer.repeated,
            timings=pb.ServerTimings(
                decode_ms=recognition.decode_ms,
                queue_ms=recognition.queue_ms,
                inference_ms=recognition.inference_ms,
            ),
            received_frame=_received(request) if request.echo_frame else b"",
        )
        if answer.status is not None:
            _set_status(response, answer.status)
        return response

    @served
    async def WaitVote(
        self, request: pb.WaitVoteRequest, context: grpc.aio.ServicerContext
    ) -> pb.WaitVoteResponse:
        """Waits until the vote is taken, more of the device's view is wanted, or `wait_seconds` have passed."""
        if not 1 <= len(request.object_id) <= 128:
            await abort(
                context,
                grpc.StatusCode.INVALID_ARGUMENT,
                "object_id must have 1 to 128 characters",
                Refusal.reason,
            )
        if not 0 <= request.wait_seconds <= MAX_WAIT_SECONDS:  # a NaN is refused too
            message = f"wait_seconds must be within [0, {MAX_WAIT_SECONDS:.0f}]"
            await abort(context, grpc.StatusCode.INVALID_ARGUMENT, message, Refusal.reason)
        if len(request.device_id) > 128:
            message = "device_id must have at most 128 characters"
            await abort(context, grpc.StatusCode.INVALID_ARGUMENT, message, Refusal.reason)
        waiting = self._sessions.wait(
            request.object_id, request.wait_seconds, CALLER.get().owner, request.device_id
        )
        status = await _or_abort(context, waiting)
        response = pb.WaitVoteResponse()
        _set_status(response, status)
        return response


def _view(request: pb.ClassifyRequest) -> ViewRequest:
    more: dict[int, More] = dict(enumerate(get_args(More)))
    if request.more not in more:
        raise Refusal(f"more must be one of {', '.join(more.values())}, numbered from 0, not {request.more}")
    try:
        return ViewRequest(
            object_id=request.object_id,
            device_id=request.device_id,
            frame_id=request.frame_id,
            expected_views=request.expected_views or 1,
            top_k=request.top_k or 5,
            layer=request.layer,
            more=more[request.more],
        )
    except ValidationError as error:
        raise Refusal(mistakes_text(error.errors())) from None


def _received(request: pb.ClassifyRequest) -> bytes:
    """The frame as it is decoded: without the lost patches."""
    return read_frame(request.frame).without(request.lost_patches).to_bytes()


async def _or_abort(context: grpc.aio.ServicerContext, answer: Awaitable[T]) -> T:
    try:
        return await answer
    except Refusal as refusal:
        await abort(context, refusal.code, str(refusal), refusal.reason, refusal.retry_after)


def _set_status(response: pb.ClassifyResponse | pb.WaitVoteResponse, status: VoteStatus) -> None:
    if isinstance(status, Vote):
        fused = pb.Prediction(**vars(status.fused)) if status.fused else None
        response.vote.CopyFrom(pb.Vote(**vars(status) | {"fused": fused}))
    elif isinstance(status, Wish):
        response.missing_views = 0
        response.wish.CopyFrom(pb.Wish(**vars(status)))
    else:
        response.missing_views = status
