"""The count of HTTP requests to classify, by how they end."""

import time
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.metrics import Metrics

CLASSIFY_PATH = "/v1/classify"


class CountingMiddleware:
    """Counts requests to classify that were let in, whatever becomes of them."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        """Around `app`."""
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http" or (scope["method"], scope["path"]) != ("POST", CLASSIFY_PATH):
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), int(HTTPStatus.INTERNAL_SERVER_ERROR)

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            self._metrics.count_request("http", status, time.perf_counter() - began)
