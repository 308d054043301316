"""What every HTTP request meets before and after the REST API: its id, and the count of those to classify."""

import time
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.correlation import REQUEST_ID, begin_request
from server.metrics import Metrics

CLASSIFY_PATH = "/v1/classify"


class RequestMiddleware:
    """Gives requests and their answers an id, and counts those to classify by how they end."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        """Around `app`."""
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = begin_request(Headers(scope=scope).get(REQUEST_ID))
        began, status = time.perf_counter(), int(HTTPStatus.INTERNAL_SERVER_ERROR)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            if (scope["method"], scope["path"]) == ("POST", CLASSIFY_PATH):
                self._metrics.count_request("http", status, time.perf_counter() - began)
