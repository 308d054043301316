"""Refusals in the event log (ASGI middleware): requests that were to change something, and why they did not."""

import json

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from channel_emulator.events import EventLog

CHANGING = ("PUT", "PATCH", "POST", "DELETE")
MAX_TEXT = 300
"""Characters of a path or of a reason that are held."""


class RefusalMiddleware:
    """Adds every answer from 400 on to a request that changes something to the log."""

    def __init__(self, app: ASGIApp, events: EventLog) -> None:
        """Around `app`."""
        self._app, self._events = app, events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http" or scope["method"] not in CHANGING:
            await self._app(scope, receive, send)
            return
        status = 0

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif status >= 400:
                self._events.refused(f"{scope['method']} {scope['path'][:MAX_TEXT]}", status, _detail(message))
                status = 0
            await send(message)

        await self._app(scope, receive, send_noting)


def _detail(message: Message) -> str:
    """The `detail` of a problem document, which comes in one piece."""
    try:
        return str(json.loads(message.get("body", b""))["detail"])[:MAX_TEXT]
    except (ValueError, KeyError, TypeError):
        return ""
