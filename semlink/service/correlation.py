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
"""Beside it there are health and metrics, which are asked for every few seconds."""
MAX_NAME_LENGTH = 128
"""What names a request may come from a stranger: log lines take no more of it."""
NAMES = ("object_id", "device_id", "frame_id")
"""Fields of a message that name what it is about."""
PASSED_ON = ("authorization", REQUEST_ID, "traceparent", "tracestate")
"""Who calls; and the ids under which one request is found in the logs and traces of every process on its way."""
Metadata = tuple[tuple[str, str], ...]
_ACCEPTED = re.compile(r"[!-~]{1,128}")

Servicer = TypeVar("Servicer")
Message = TypeVar("Message")
Answer = TypeVar("Answer")
Method = Callable[[Servicer, Message, grpc.aio.ServicerContext], Coroutine[Any, Any, Answer]]


def begin_request(given: str | None, **ids: object) -> str:
    """Binds a request's ids to all that its task, and those that it starts, log from now on.

    Args:
        given: the id that the caller chose; one is made where it is missing, longer than 128 characters, or
            anything but visible ASCII.
        ids: whatever else names the request; what is empty is left out, what is long is cut.

    Returns:
        The request's id.
    """
    request_id = given if given and _ACCEPTED.fullmatch(given) else uuid.uuid4().hex
    short = {name: value[:MAX_NAME_LENGTH] if isinstance(value, str) else value for name, value in ids.items()}
    bind_contextvars(request_id=request_id, **{name: value for name, value in short.items() if value != ""})
    return request_id


def current_request() -> str:
    """The id of the request that this task has begun; empty outside of any."""
    return str(get_contextvars().get("request_id", ""))


def begin_call(context: grpc.aio.ServicerContext) -> None:
    """Begins a request that came over gRPC, before anything of it is read; its trailing metadata tell its id."""
    received = dict(context.invocation_metadata() or ())
    context.set_trailing_metadata(((REQUEST_ID, begin_request(received.get(REQUEST_ID))),))


def served(method: Method[Servicer, Message, Answer]) -> Method[Servicer, Message, Answer]:
    """Serves calls over gRPC that have begun as requests: what they are about names them, and they have a span."""

    @wraps(method)
    async def serve(servicer: Servicer, request: Message, context: grpc.aio.ServicerContext) -> Answer:
        received = dict(context.invocation_metadata() or ())
        ids = {name: getattr(request, name) for name in NAMES if hasattr(request, name)}
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
    """Serves requests over HTTP with an id, which the answer's headers tell, and those to the API as a step."""

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
    """The metadata of a call that is made for the request that this task has begun.

    Args:
        context: the call that is passed on, if one is; what it brought along of PASSED_ON goes on.
    """
    received = (context and context.invocation_metadata()) or ()
    sent = {name: value for name, value in received if name in PASSED_ON}
    if request_id := current_request():
        sent[REQUEST_ID] = request_id
    tracing.W3C.inject(sent)
    return tuple(sent.items())
