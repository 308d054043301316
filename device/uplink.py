"""The uplink: one connection to the link service, frames sent again until they are answered or given up."""

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc
import structlog
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_delay,
    wait_random_exponential,
)
from tenacity.stop import stop_base

from semlink.v1 import link_pb2 as pb
from semlink.v1 import link_pb2_grpc

log = structlog.get_logger(__name__)

RETRIED = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 3.0


class UplinkError(Exception):
    """A frame was not answered; the message says by whom and why."""


@dataclass
class Uplink:
    """A connection to the server, or to a channel emulator in front of it.

    Attributes:
        target: HOST:PORT.
        call_seconds: deadline of one call.
        retry_seconds: how long a frame is sent again while nobody answers.
        stop: once set, nothing is sent again.
    """

    target: str
    call_seconds: float
    retry_seconds: float
    stop: asyncio.Event

    async def __aenter__(self) -> Self:
        """Opens the channel; it connects on the first call."""
        self._channel = grpc.aio.insecure_channel(
            self.target,
            # A link that comes back is found again within a second, not within gRPC's two minutes.
            options=[("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 1000)],
        )
        self._stub = link_pb2_grpc.LinkServiceStub(self._channel)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the channel."""
        await self._channel.close()

    async def classify(self, request: pb.ClassifyRequest) -> pb.ClassifyResponse:
        """Sends a frame; again, with the same frame id and growing random pauses, while nobody answers.

        Raises:
            UplinkError: the frame was refused, or nobody answered within `retry_seconds`.
        """

        async def send() -> pb.ClassifyResponse:
            return await self._stub.Classify(request, timeout=self.call_seconds)

        def note(attempt: RetryCallState) -> None:
            error = attempt.outcome.exception() if attempt.outcome else None
            log.warning(
                "no answer, sending again",
                frame_id=request.frame_id,
                attempt=attempt.attempt_number,
                reason=_reason(error),
                pause_seconds=round(attempt.upcoming_sleep, 2),
            )

        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, grpc.RpcError) and error.code() in RETRIED),
            wait=wait_random_exponential(multiplier=FIRST_PAUSE_SECONDS, max=LONGEST_PAUSE_SECONDS),
            stop=stop_after_delay(self.retry_seconds) | _StopWhenSet(self.stop),
            before_sleep=note,
            reraise=True,
        )
        try:
            return await retrying(send)
        except grpc.RpcError as error:
            raise UplinkError(f"{self.target} did not take frame {request.frame_id}: {_reason(error)}") from None

    async def wait_vote(self, object_id: str, seconds: float) -> pb.WaitVoteResponse:
        """Waits for the vote on an object, at most `seconds`.

        Raises:
            UplinkError: there is no such object, or nobody answered.
        """
        request = pb.WaitVoteRequest(object_id=object_id, wait_seconds=seconds)
        try:
            return await self._stub.WaitVote(request, timeout=seconds + self.call_seconds)
        except grpc.RpcError as error:
            raise UplinkError(f"no vote on {object_id!r} from {self.target}: {_reason(error)}") from None


class _StopWhenSet(stop_base):
    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    def __call__(self, retry_state: RetryCallState) -> bool:
        return self._event.is_set()


def _reason(error: BaseException | None) -> str:
    return f"{error.code().name}: {error.details()}" if isinstance(error, grpc.RpcError) else str(error)
