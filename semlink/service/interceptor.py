"""Interceptor of gRPC calls: admission, concurrency limits, a deadline for the message, errors without secrets."""

import asyncio
import inspect
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import grpc
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health
from grpc_status import rpc_status

from semlink.service.admission import Admission, ConcurrencyLimit, NotAdmitted
from semlink.service.correlation import begin_call, current_request

log = structlog.get_logger(__name__)

MESSAGE_SECONDS = 30.0
"""Deadline of a request's message."""
MAX_WAIT_SECONDS = 60.0
"""Longest wait for a vote that one call may ask for."""
MAX_SIDE_CALLS = 16
"""Concurrent calls of health and reflection, some of them endless streams; others have limits of their own."""
MAX_CHECKS = 16
"""Concurrent health checks of orchestrators, which those streams must not keep out."""
CHECK = f"/{health.SERVICE_NAME}/Check"

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]]


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Interceptor of every method of a gRPC server: authentication, rate and concurrency limits.

    Every method is registered as a bidirectional stream, which is the same on the wire: so the caller is
    authenticated before any message is read, and the message has a deadline of its own.
    """

    def __init__(self, admission: Admission, max_calls: int, main_services: tuple[str, ...]) -> None:
        """At most `max_calls` of `main_services` at once, MAX_CHECKS of CHECK, MAX_SIDE_CALLS of all others."""
        self._admission, self._main_services = admission, main_services
        places = max_calls, MAX_CHECKS, MAX_SIDE_CALLS
        self._main, self._checks, self._side = (ConcurrencyLimit(count, "are served") for count in places)

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        """Wraps the method."""
        handler, method = await continuation(handler_call_details), handler_call_details.method
        if handler is None:
            return None
        service = method.strip("/").partition("/")[0]
        other = self._checks if method == CHECK else self._side
        limit = self._main if service in self._main_services else other

        async def serve(messages: Any, context: grpc.aio.ServicerContext) -> None:
            async with answering(method, context, self._admission):
                if service != health.SERVICE_NAME:
                    admit(self._admission, context)
                with limit:
                    request = messages if handler.request_streaming else await _read(handler, method, context)
                    await _answer(handler, request, context)

        return grpc.stream_stream_rpc_method_handler(
            serve,
            # Messages of a stream are parsed as they arrive, a single one by `_read`.
            request_deserializer=handler.request_deserializer if handler.request_streaming else None,
            response_serializer=handler.response_serializer,
        )


@asynccontextmanager
async def answering(method: str, context: grpc.aio.ServicerContext, admission: Admission) -> AsyncIterator[None]:
    """Context of one call of `method`: gives it a request id; errors abort it with a status and no secrets."""
    begin_call(context)
    try:
        yield
    except NotAdmitted as refusal:
        admission.count("grpc", refusal)
        await abort(context, refusal.code, str(refusal), refusal.retry_after)
    except (grpc.aio.AbortError, grpc.aio.BaseError):
        raise
    except Exception as error:
        if context.done():  # the caller has gone, or the call has been aborted already
            raise
        log.error("unforeseen error", method=method, exc_info=error)
        await abort(context, grpc.StatusCode.INTERNAL, f"the error has been logged as {current_request()}")


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
    context: grpc.aio.ServicerContext, code: grpc.StatusCode, message: str, retry_after: float | None = None
) -> NoReturn:
    """Aborts a call; with `retry_after` (seconds) the status details have a google.rpc.RetryInfo."""
    trailing = tuple(context.trailing_metadata() or ())
    if retry_after is not None:
        delay = Duration()
        delay.FromMilliseconds(round(1e3 * retry_after))
        detail = AnyMessage()
        detail.Pack(RetryInfo(retry_delay=delay))
        status = rpc_status.to_status(Status(code=code.value[0], message=message, details=[detail]))
        trailing += tuple(status.trailing_metadata)
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
        )
    message = reading.result()
    if message is grpc.aio.EOF:
        await abort(context, grpc.StatusCode.INVALID_ARGUMENT, "there is no message")
    try:
        return handler.request_deserializer(message)
    except Exception:
        await abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"the message is none that {method} takes")


async def _answer(handler: grpc.RpcMethodHandler, request: Any, context: grpc.aio.ServicerContext) -> None:
    behaviour = handler.stream_stream or handler.unary_stream or handler.stream_unary or handler.unary_unary
    if inspect.isasyncgenfunction(behaviour):
        async for response in behaviour(request, context):
            await context.write(response)
    elif handler.response_streaming:
        await behaviour(request, context)
    else:
        await context.write(await behaviour(request, context))


def address_of(peer: str) -> str:
    """IP address of `ipv4:127.0.0.1:40000` or `ipv6:%5B::1%5D:40000`; any other text is returned as it is."""
    family, _, rest = peer.partition(":")
    host = urllib.parse.unquote(rest.rpartition(":")[0]).strip("[]")
    return host if family in ("ipv4", "ipv6") else peer
