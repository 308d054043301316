"""The link service over gRPC."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import grpc
from pydantic import ValidationError

from semlink.service.admission import Refusal
from semlink.service.correlation import served
from semlink.service.interceptor import MAX_WAIT_SECONDS, abort
from semlink.source.registry import read_frame
from semlink.v1 import link_pb2 as pb
from semlink.v1 import link_pb2_grpc
from server.metrics import Metrics
from server.recognition import Recognizer, ViewRequest
from server.sessions import Sessions, Standing, Vote

T = TypeVar("T")


class LinkService(link_pb2_grpc.LinkServiceServicer):
    """Answers devices; see proto/semlink/v1/link.proto for the contract."""

    def __init__(
        self, recognizer: Recognizer, sessions: Sessions, metrics: Metrics, timeout_seconds: float
    ) -> None:
        """What it answers with is shared with the REST API; `timeout_seconds` is for calls without a deadline."""
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
            predictions=[
                pb.Prediction(label=each.label, name=each.name, confidence=each.confidence)
                for each in recognition.predictions
            ],
            model=answer.model,
            repeated=answer.repeated,
            timings=pb.ServerTimings(
                decode_ms=recognition.decode_ms,
                queue_ms=recognition.queue_ms,
                inference_ms=recognition.inference_ms,
            ),
            received_frame=_received(request) if request.echo_frame else b"",
        )
        if answer.standing is not None:
            _tell(response, answer.standing)
        return response

    @served
    async def WaitVote(
        self, request: pb.WaitVoteRequest, context: grpc.aio.ServicerContext
    ) -> pb.WaitVoteResponse:
        """Waits until the vote on an object is taken, or until `wait_seconds` have passed."""
        if not 1 <= len(request.object_id) <= 128:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "object_id must have 1 to 128 characters")
        if not 0 <= request.wait_seconds <= MAX_WAIT_SECONDS:  # a NaN is refused too
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"wait_seconds must be within [0, {MAX_WAIT_SECONDS:.0f}]"
            )
        standing = await _or_abort(context, self._sessions.wait(request.object_id, request.wait_seconds))
        response = pb.WaitVoteResponse()
        _tell(response, standing)
        return response


def _view(request: pb.ClassifyRequest) -> ViewRequest:
    try:
        return ViewRequest(
            object_id=request.object_id,
            device_id=request.device_id,
            frame_id=request.frame_id,
            expected_views=request.expected_views or 1,
            top_k=request.top_k or 5,
        )
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise Refusal(problems) from None


def _received(request: pb.ClassifyRequest) -> bytes:
    """The frame as it was looked at."""
    return read_frame(request.frame).without(request.lost_patches).to_bytes()


async def _or_abort(context: grpc.aio.ServicerContext, answer: Awaitable[T]) -> T:
    try:
        return await answer
    except Refusal as refusal:
        await abort(context, refusal.code, str(refusal), refusal.retry_after)


def _tell(response: pb.ClassifyResponse | pb.WaitVoteResponse, standing: Standing) -> None:
    if isinstance(standing, Vote):
        response.vote.label = standing.label
        response.vote.name = standing.name
        response.vote.votes = standing.votes
        response.vote.views = standing.views
    else:
        response.missing_views = standing
