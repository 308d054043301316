"""Interceptor of gRPC calls: admission, concurrency limits, deadlines of messages, errors without secrets."""

import asyncio
import inspect
import urllib.parse
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, nullcontext
from functools import partial
from types import MappingProxyType
from typing import Any, NoReturn

import grpc
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health
from grpc_status import rpc_status

from semlink.service.admission import CALLER, Admission, Busy, ConcurrencyLimit, NotAdmitted
from semlink.service.correlation import begin_call, current_request

log = structlog.get_logger(__name__)

MESSAGE_SECONDS = 30.0
"""Deadline of a request's message."""
MAX_WAIT_SECONDS = 60.0
"""Longest wait for a vote that one call may ask for."""
MAX_STREAMS = 16
"""Concurrent calls that watch the health, and as many that ask for reflection: endless streams."""
PROMPT_SECONDS = 1.0
"""A call is overdue where its client takes longer to send its message, or to take the answer."""
MAX_OVERDUE_CALLS = 64
"""Overdue calls of one key, or of one connection without a key; who has so many makes no others."""
STREAM_WRITE_SECONDS = 10.0
"""Deadline of one message of a stream to be taken by the client; then the stream's place goes to another."""
ERROR_DOMAIN = "semlink"
"""Of the reasons in google.rpc.ErrorInfo."""
CHECK = f"/{health.SERVICE_NAME}/Check"

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]]


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Interceptor of every method of a gRPC server: authentication, rate and concurrency limits.

    Every method is registered as a bidirectional stream, which is the same on the wire: so the caller is
    authenticated before any message is read, and the message has a deadline of its own.

    A call has a place until its answer is known. An answer that the client doesn't take waits without one: gRPC
    can end neither such a call nor its connection before the connection is as old as it may be.
    """

    def __init__(self, admission: Admission, max_calls: int, main_services: tuple[str, ...]) -> None:
        """At most `max_calls` of `main_services` at once, MAX_STREAMS of each other service; CHECK has none."""
        self._admission = admission
        self._limits: defaultdict[str, ConcurrencyLimit]
        self._limits = defaultdict(partial(ConcurrencyLimit, MAX_STREAMS, "are served"))
        self._limits |= dict.fromkeys(main_services, ConcurrencyLimit(max_calls, "are served"))
        self._overdue: Counter[str] = Counter()

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        """Wraps the method."""
        handler, method = await continuation(handler_call_details), handler_call_details.method
        if handler is None:
            return None

        async def serve(messages: Any, context: grpc.aio.ServicerContext) -> None:
            async with answering(method, context, self._admission):
                await self._serve(handler, method, messages, context)

        return grpc.stream_stream_rpc_method_handler(
            serve,
            # Messages of a stream are parsed as they arrive, a single one by `_read`.
            request_deserializer=handler.request_deserializer if handler.request_streaming else None,
            response_serializer=handler.response_serializer,
        )

    async def _serve(
        self, handler: grpc.RpcMethodHandler, method: str, messages: Any, context: grpc.aio.ServicerContext
    ) -> None:
        service = method.strip("/").partition("/")[0]
        if service != health.SERVICE_NAME:
            admit(self._admission, context)
        caller = CALLER.get().key or context.peer()
        if self._overdue[caller] >= MAX_OVERDUE_CALLS:
            raise Busy(f"{MAX_OVERDUE_CALLS} answers wait for you to take them: take them first", retry_after=1.0)
        behaviour = handler.stream_stream or handler.unary_stream or handler.stream_unary or handler.unary_unary
        with nullcontext() if method == CHECK else self._limits[service]:
            request = messages
            if not handler.request_streaming:
                with self._awaiting(caller):
                    request = await _read(handler, method, context)
            if inspect.isasyncgenfunction(behaviour):
                written = await _stream(behaviour(request, context), context)
            else:
                written = context.write(await behaviour(request, context))
        with self._awaiting(caller):
            await written

    @contextmanager
    def _awaiting(self, caller: str) -> Iterator[None]:
        """While the call waits for its client; counts it among the overdue ones after PROMPT_SECONDS."""
        is_overdue = False

        def count() -> None:
            nonlocal is_overdue
            is_overdue = True
            self._overdue[caller] += 1

        timer = asyncio.get_running_loop().call_later(PROMPT_SECONDS, count)
        try:
            yield
        finally:
            timer.cancel()
            if is_overdue:
                self._overdue[caller] -= 1
                self._overdue += Counter()  # without callers that have none


@asynccontextmanager
async def answering(method: str, context: grpc.aio.ServicerContext, admission: Admission) -> AsyncIterator[None]:
    """Context of one call of `method`: gives it a request id; errors abort it with a status and no secrets."""
    begin_call(context)
    try:
        yield
    except NotAdmitted as refusal:
        admission.count("grpc", refusal, address_of(context.peer()))
        await abort(context, refusal.code, str(refusal), refusal.reason, refusal.retry_after)
    except grpc.aio.AbortError:
        raise
    except grpc.aio.BaseError:  # the caller has gone; gRPC would log it as an error
        raise asyncio.CancelledError from None
    except Exception as error:
        if context.done():  # the caller has gone, or the call has been aborted already
            raise
        log.error("unforeseen error", method=method, exc_info=error)
        await abort(
            context, grpc.StatusCode.INTERNAL, f"the error has been logged as {current_request()}", "internal"
        )


def admit(admission: Admission, context: grpc.aio.ServicerContext) -> None:
    """Admits a call; its log lines then name its key.

    Raises:
        NotAdmitted: as of `Admission.admit`.
    """
    given = dict(context.invocation_metadata() or ()).get("authorization")
    name = admission.admit(given if isinstance(given, str) else None, address_of(context.peer()))
    if name:
        structlog.contextvars.bind_contextvars(key=name)


async def abort(
    context: grpc.aio.ServicerContext,
    code: grpc.StatusCode,
    message: str,
    reason: str,
    retry_after: float | None = None,
    about: Mapping[str, str] = MappingProxyType({}),
) -> NoReturn:
    """Aborts a call.

    The status details have a google.rpc.ErrorInfo with the reason, a slug, and `about` as its metadata, and with
    `retry_after` (seconds) a google.rpc.RetryInfo.
    """
    details = [AnyMessage()]
    details[0].Pack(ErrorInfo(reason=reason, domain=ERROR_DOMAIN, metadata=about))
    if retry_after is not None:
        delay = Duration()
        delay.FromMilliseconds(round(1e3 * retry_after))
        details.append(AnyMessage())
        details[1].Pack(RetryInfo(retry_delay=delay))
    status = rpc_status.to_status(Status(code=code.value[0], message=message, details=details))
    trailing = (*(context.trailing_metadata() or ()), *status.trailing_metadata)
    await context.abort(code, message, trailing)
    raise AssertionError("abort has raised already")


async def _read(handler: grpc.RpcMethodHandler, method: str, context: grpc.aio.ServicerContext) -> Any:
    """Reads the only message of a call."""
    # Never cancelled: gRPC's core writes into the read's buffer until the call ends, and the abort ends it.
    reading = asyncio.ensure_future(context.read())
    reading.add_done_callback(lambda read: read.cancelled() or read.exception())
    await asyncio.wait({reading}, timeout=MESSAGE_SECONDS)
    if not reading.done():
        await abort(
            context,
            grpc.StatusCode.DEADLINE_EXCEEDED,
            f"the message did not arrive within {MESSAGE_SECONDS:.0f} s",
            "message_too_slow",
        )
    message = reading.result()
    if message is grpc.aio.EOF:
        await abort(context, grpc.StatusCode.INVALID_ARGUMENT, "there is no message", "no_message")
    try:
        return handler.request_deserializer(message)
    except Exception:
        await abort(
            context,
            grpc.StatusCode.INVALID_ARGUMENT,
            f"the message is none that {method} takes",
            "malformed_message",
        )


async def _stream(responses: AsyncGenerator[Any], context: grpc.aio.ServicerContext) -> Awaitable[None]:
    """Writes a stream until it ends, or its client does not take a message in time; returns the last write."""
    writing = asyncio.ensure_future(asyncio.sleep(0))
    async with aclosing(responses):
        async for response in responses:
            writing = asyncio.ensure_future(context.write(response))
            await asyncio.wait({writing}, timeout=STREAM_WRITE_SECONDS)  # not cancelled, as in `_read`
            if not writing.done():
                break
            writing.result()
    return writing


def address_of(peer: str) -> str:
    """IP address of `ipv4:127.0.0.1:40000` or `ipv6:%5B::1%5D:40000`; any other text is returned as it is."""
    family, _, rest = peer.partition(":")
    host = urllib.parse.unquote(rest.rpartition(":")[0]).strip("[]")
    return host if family in ("ipv4", "ipv6") else peer
