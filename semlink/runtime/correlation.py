"""One id for each request, in every line that every process logs for it, and in its answer."""

import re
import uuid

import grpc
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars

REQUEST_ID = "x-request-id"
_ACCEPTED = re.compile(r"[!-~]{1,128}")


def begin_request(given: str | None, **ids: object) -> str:
    """Binds a request's ids to all that its task, and those that it starts, log from now on.

    Args:
        given: the id that the caller chose; one is made where it is missing, longer than 128 characters, or
            anything but visible ASCII.
        ids: whatever else names the request; what is empty is left out.

    Returns:
        The request's id.
    """
    request_id = given if given and _ACCEPTED.fullmatch(given) else uuid.uuid4().hex
    clear_contextvars()
    bind_contextvars(request_id=request_id, **{name: value for name, value in ids.items() if value != ""})
    return request_id


def current_request() -> str:
    """The id of the request that this task has begun; empty outside of any."""
    return str(get_contextvars().get("request_id", ""))


def begin_call(context: grpc.aio.ServicerContext, **ids: object) -> None:
    """Begins a request that came over gRPC; its id is told in the trailing metadata."""
    given = dict(context.invocation_metadata() or ()).get(REQUEST_ID)
    context.set_trailing_metadata(((REQUEST_ID, begin_request(given, **ids)),))


class RequestIdMiddleware:
    """Begins every request over HTTP; its id is told in the answer's headers."""

    def __init__(self, app: ASGIApp) -> None:
        """Around `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = begin_request(Headers(scope=scope).get(REQUEST_ID))

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)
