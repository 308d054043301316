"""Uplink with retries: one connection to the link service; calls are made again until answered or given up."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import structlog
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_status import rpc_status
from opentelemetry.trace import SpanKind
from pydantic import SecretStr
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_before_delay,
    wait_random_exponential,
)

from device.settings import DeviceSettings
from semlink.service import tracing
from semlink.service.correlation import outgoing
from semlink.service.keys import own_key
from semlink.service.settings import StartupError
from semlink.service.tls import channel_credentials, connect, tls_hint
from semlink.v1 import link_pb2 as pb
from semlink.v1 import link_pb2_grpc

log = structlog.get_logger(__name__)

D = TypeVar("D", ErrorInfo, RetryInfo)
RETRIED = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)
REFUSALS = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
)
"""Said of one frame, and would be said of it again. All else passes, or is mended by somebody."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 3.0
LONGEST_RETRY_DELAY_SECONDS = 60.0
"""So long a pause a server may ask for."""
_backoff = wait_random_exponential(multiplier=FIRST_PAUSE_SECONDS, max=LONGEST_PAUSE_SECONDS)


class UplinkError(Exception):
    """A call was not answered; the message says by whom and why."""

    def __init__(
        self,
        message: str,
        code: grpc.StatusCode | None = None,
        retry_delay_seconds: float = 0.0,
        info: ErrorInfo | None = None,
    ) -> None:
        """`code`, the pause before another try, and the reason: what the other end said, if it said something."""
        super().__init__(message)
        self.code, self.retry_delay_seconds = code, retry_delay_seconds
        self.info = info or ErrorInfo()


class UplinkStopped(UplinkError):
    """The device was told to stop before anybody answered."""


@dataclass(frozen=True)
class Credentials:
    """What every call goes out with.

    Attributes:
        tls: None for a connection without TLS.
        key: shown with every call, if there is one.
    """

    tls: grpc.ChannelCredentials | None = None
    key: SecretStr | None = None

    @classmethod
    def of(cls, settings: DeviceSettings) -> Self:
        """From the settings.

        Raises:
            StartupError: a file for TLS, or the key, is unfit.
        """
        if settings.tls_certificate is not None and settings.tls_server_authority is None:
            raise StartupError("--tls-certificate is of no use without --tls-server-authority, which turns TLS on")
        tls, key = channel_credentials(settings), own_key(settings.api_key_file)
        if key and not tls:
            log.warning("the API key travels unencrypted: --tls-server-authority turns TLS on")
        return cls(tls, key)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata that shows the key."""
        return () if self.key is None else (("authorization", f"Bearer {self.key.get_secret_value()}"),)


@dataclass
class Uplink:
    """A connection to the server, or to a channel emulator in front of it.

    Attributes:
        target: HOST:PORT.
        call_seconds: deadline of one call.
        retry_seconds: how long a call is made again while nobody answers.
        stop: once set, no call is made again.
        credentials: what every call goes out with.
    """

    target: str
    call_seconds: float
    retry_seconds: float
    stop: asyncio.Event
    credentials: Credentials = field(default_factory=Credentials)

    async def __aenter__(self) -> Self:
        """Opens the connection; it connects on the first call."""
        self._channel = connect(self.target, self.credentials.tls)
        self._stub = link_pb2_grpc.LinkServiceStub(self._channel)
        self._channels = link_pb2_grpc.ChannelServiceStub(self._channel)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the connection."""
        await self._channel.close()

    async def classify(
        self, request: pb.ClassifyRequest, failed: Callable[[ErrorInfo], None] = lambda info: None
    ) -> pb.ClassifyResponse:
        """Sends a frame.

        Args:
            request: the frame.
            failed: called for each try that was on the air in vain, with the reason that the other end gave.

        Raises:
            UplinkError: it was refused, the answer holds none, or nobody answered within `retry_seconds`.
        """
        what = f"frame {request.frame_id}"
        response: pb.ClassifyResponse = await self._insist(
            self._stub, "Classify", request, self.call_seconds, what, failed
        )
        if not response.predictions:
            raise UplinkError(f"{what}: {self.target} answers with no prediction", grpc.StatusCode.INTERNAL)
        return response

    async def channel_state(self, device_id: str, frame_id: int) -> pb.ChannelState | None:
        """The state of the channel that a frame will meet; None if no channel on the way takes plans.

        Raises:
            UplinkError: nobody answered within `retry_seconds`.
        """
        request = pb.GetChannelRequest(device_id=device_id, frame_id=frame_id)
        what = f"the channel of frame {frame_id}"
        try:
            return await self._insist(self._channels, "GetChannel", request, self.call_seconds, what)
        except UplinkError as error:
            if error.code is grpc.StatusCode.UNIMPLEMENTED:
                return None
            raise

    async def wait_vote(self, object_id: str, seconds: float, device_id: str = "") -> pb.WaitVoteResponse:
        """Waits at most `seconds` for the vote on an object, or for a wish for more of a device's view of it.

        Raises:
            UplinkError: there is no such object, or nobody answered.
        """
        request = pb.WaitVoteRequest(object_id=object_id, wait_seconds=seconds, device_id=device_id)
        what = f"the vote on {object_id!r}"
        return await self._insist(self._stub, "WaitVote", request, seconds + self.call_seconds, what)

    async def _insist(
        self,
        stub: Any,
        method: str,
        request: Any,
        seconds: float,
        what: str,
        failed: Callable[[ErrorInfo], None] = lambda info: None,
    ) -> Any:
        """Makes a call; again while nobody answers, after growing random pauses, and longer ones if asked to."""
        attempts, hint = 0, ""

        async def attempt() -> Any:
            nonlocal attempts, hint
            attempts += 1
            failing = grpc.ChannelConnectivity.TRANSIENT_FAILURE
            was_failing = self._channel.get_state() is failing  # then a call fails at once, as a rule
            with tracing.span(method, kind=SpanKind.CLIENT, attempt=attempts):
                metadata = (*outgoing(), *self.credentials.metadata)
                try:
                    return await getattr(stub, method)(request, timeout=seconds, metadata=metadata)
                except grpc.aio.AioRpcError as error:
                    if not was_failing and self._channel.get_state() is not failing:
                        failed(error_info(error))
                    over_tls = self.credentials.tls is not None
                    hint = await tls_hint(self.target, error.details() or "", over_tls)
                    raise

        def note(state: RetryCallState) -> None:
            log.warning(
                "no answer, asking again",
                what=what,
                attempt=state.attempt_number,
                reason=_reason(state.outcome.exception() if state.outcome else None) + hint,
                pause_seconds=round(state.upcoming_sleep, 2),
            )

        def passes(error: BaseException) -> bool:
            return isinstance(error, grpc.RpcError) and error.code() in RETRIED

        try:
            return await self.retrying(passes, note)(attempt)
        except grpc.RpcError as error:
            message = f"{what}: {self.target} says {_reason(error)}{hint}"
            raise UplinkError(message, error.code(), retry_delay_seconds(error), error_info(error)) from None

    def retrying(
        self,
        passes: Callable[[BaseException], bool],
        note: Callable[[RetryCallState], None],
        seconds: float | None = None,
    ) -> AsyncRetrying:
        """Does something again while its error is one that passes, with growing pauses.

        Args:
            passes: which do.
            note: called before each pause.
            seconds: for so long; None: `retry_seconds`.
        """
        return AsyncRetrying(
            retry=retry_if_exception(passes),
            wait=_pause_seconds,
            stop=stop_before_delay(self.retry_seconds if seconds is None else seconds),
            sleep=self.pause,
            before_sleep=note,
            reraise=True,
        )

    async def pause(self, seconds: float) -> None:
        """Lets time pass.

        Raises:
            UplinkStopped: the device was told to stop.
        """
        try:
            async with asyncio.timeout(seconds):
                await self.stop.wait()
        except TimeoutError:
            return
        raise UplinkStopped(f"told to stop before {self.target} answered")


def retry_delay_seconds(error: BaseException | None) -> float:
    """The pause that google.rpc.RetryInfo in a failure's details asks for, up to a bound; 0 without one."""
    delay = _detail(error, RetryInfo()).retry_delay
    return min(max(delay.seconds + delay.nanos / 1e9, 0.0), LONGEST_RETRY_DELAY_SECONDS)


def error_info(error: BaseException | None) -> ErrorInfo:
    """The google.rpc.ErrorInfo in a failure's details; an empty one where there is none."""
    return _detail(error, ErrorInfo())


def _detail(error: BaseException | None, kind: D) -> D:
    """The message of a kind in a failure's details; an empty one where there is none."""
    try:
        status = rpc_status.from_call(error) if isinstance(error, grpc.RpcError) else None
        for detail in status.details if status else ():
            if detail.Unpack(kind):
                return kind
    except (DecodeError, ValueError):  # nonsense, or of another failure
        pass
    return type(kind)()


def _pause_seconds(state: RetryCallState) -> float:
    asked = retry_delay_seconds(state.outcome.exception() if state.outcome else None)
    return asked + _backoff(state)  # many are told the same, and should not all come back at once


def _reason(error: BaseException | None) -> str:
    return f"{error.code().name}: {error.details()}" if isinstance(error, grpc.RpcError) else str(error)
