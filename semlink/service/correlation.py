"""Request id (correlation id): in the answer, in every log line of every process, and passed on to the next."""

import re
import uuid
from collections.abc import Callable, Coroutine
from functools import wraps
from http import HTTPStatus
from typing import Any, TypeVar

import grpc
from opentelemetry.trace import SpanKind
from starlette import types
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars

from semlink.service import tracing

REQUEST_ID = "x-request-id"
API_PATH = "/v1/"
"""Only requests below it have spans: health and metrics are asked for every few seconds."""
MAX_ID_LENGTH = 128
"""Longest id in a log line; longer ones, which untrusted callers may send, are cut."""
ID_FIELDS = ("object_id", "device_id", "frame_id")
"""Fields of a message that log lines and spans carry."""
PASSED_ON = ("authorization", REQUEST_ID, "traceparent", "tracestate")
"""Metadata that goes on to the next process: the caller's key, and the ids of the request and its trace."""
Metadata = tuple[tuple[str, str], ...]
_ACCEPTED = re.compile(r"[!-~]{1,128}")

Servicer = TypeVar("Servicer")
Message = TypeVar("Message")
Answer = TypeVar("Answer")
Method = Callable[[Servicer, Message, grpc.aio.ServicerContext], Coroutine[Any, Any, Answer]]


def begin_request(given: str | None, **ids: object) -> str:
    """Binds a request's ids to all log lines of this task, and of those that it starts, from now on.

    Args:
        given: the id that the caller chose; one is made where it is missing, longer than 128 characters, or
            anything but visible ASCII.
        ids: other ids of the request; empty ones are left out, long ones cut.

    Returns:
        The request's id.
    """
    request_id = given if given and _ACCEPTED.fullmatch(given) else uuid.uuid4().hex
    short = {name: value[:MAX_ID_LENGTH] if isinstance(value, str) else value for name, value in ids.items()}
    bind_contextvars(request_id=request_id, **{name: value for name, value in short.items() if value != ""})
    return request_id


def current_request() -> str:
    """Id of the request that this task has begun; empty if there is none."""
    return str(get_contextvars().get("request_id", ""))


def begin_call(context: grpc.aio.ServicerContext) -> None:
    """Begins a request that came over gRPC, before its message is read; its id is in the trailing metadata."""
    received = dict(context.invocation_metadata() or ())
    context.set_trailing_metadata(((REQUEST_ID, begin_request(received.get(REQUEST_ID))),))


def served(method: Method[Servicer, Message, Answer]) -> Method[Servicer, Message, Answer]:
    """Decorates a method of a gRPC servicer: binds the ids of its message to log lines, and makes it a span."""

    @wraps(method)
    async def serve(servicer: Servicer, request: Message, context: grpc.aio.ServicerContext) -> Answer:
        received = dict(context.invocation_metadata() or ())
        ids = {name: getattr(request, name) for name in ID_FIELDS if hasattr(request, name)}
        begin_request(current_request(), **ids)
        with tracing.span(method.__name__, kind=SpanKind.SERVER, caller=received, **ids):
            try:
                return await method(servicer, request, context)
            except grpc.aio.AbortError:
                code = next((code.name for code in grpc.StatusCode if code.value[0] == context.code()), "")
                tracing.fail(f"{code}: {context.details()}")
                raise

    return serve


class RequestMiddleware:
    """ASGI middleware: every request has an id, which is in the answer's headers; those to the API have a span."""

    def __init__(self, app: ASGIApp) -> None:
        """Around `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        clear_contextvars()  # of the request before on the same connection
        headers = Headers(scope=scope)
        request_id = begin_request(headers.get(REQUEST_ID))

        async def send_with_id(message: types.Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
                tracing.annotate(status=message["status"])
                if message["status"] >= HTTPStatus.BAD_REQUEST:
                    tracing.fail(f"HTTP {message['status']}")
            await send(message)

        if scope["path"].startswith(API_PATH):
            asked = {"method": scope["method"], "path": scope["path"]}
            with tracing.span("http", kind=SpanKind.SERVER, caller=headers, **asked):
                await self._app(scope, receive, send_with_id)
        else:
            await self._app(scope, receive, send_with_id)


def outgoing(context: grpc.aio.ServicerContext | None = None) -> Metadata:
    """Metadata of a call to another process for the request that this task has begun.

    Args:
        context: of the call that is passed on, if there is one; its PASSED_ON metadata goes on.
    """
    received = (context and context.invocation_metadata()) or ()
    sent = {name: value for name, value in received if name in PASSED_ON}
    if request_id := current_request():
        sent[REQUEST_ID] = request_id
    tracing.W3C.inject(sent)
    return tuple(sent.items())
