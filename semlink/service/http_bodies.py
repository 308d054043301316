"""Bodies of HTTP requests: as long as they may be, as quick as they must be, and not too much of them at once."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from semlink.service.problems import problem_response

BODY_SECONDS = 30.0
"""How long a body may take to arrive."""


class BodyLimits:
    """Refuses bodies that are too long, too slow, or one too many, by what is announced and by what arrives.

    What has arrived counts as held until the request is answered.
    """

    def __init__(self, app: ASGIApp, longest: Callable[[Headers], int], room: int) -> None:
        """Around `app`. `longest`: most bytes of a body with these headers; `room`: most of all bodies at once."""
        self._app, self._longest, self._room = app, longest, room
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        body = _Body(self._longest(headers))
        try:
            body.check_length(int(headers.get("content-length", 0)))
            if "content-length" in headers or "transfer-encoding" in headers:
                self._check_room()
        except HTTPException as refusal:
            answer = problem_response(scope["path"], refusal.status_code, refusal.detail, refusal.headers)
            await answer(scope, receive, send)
            return

        async def receive_within_limits() -> Message:
            message = await body.next(receive)
            if message["type"] == "http.request":
                self._held += len(message.get("body", b""))
                body.received += len(message.get("body", b""))
                body.check_length(body.received)
                self._check_room()
            return message

        try:
            await self._app(scope, receive_within_limits, send)
        finally:
            self._held -= body.received

    def _check_room(self) -> None:
        if self._held > self._room:
            raise HTTPException(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"bodies of {self._room} bytes in all are held, and no more may be: try again",
                {"Retry-After": "1"},
            )


class _Body:
    """One body as it arrives."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._deadline: float | None = None
        self._complete = False
        self.received = 0

    def check_length(self, length: int) -> None:
        if length > self._longest:
            raise HTTPException(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {self._longest} bytes are taken (oversized)"
            )

    async def next(self, receive: Receive) -> Message:
        """The next message; once the body is complete, there is no hurry any more."""
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + BODY_SECONDS
        try:
            async with asyncio.timeout_at(None if self._complete else self._deadline):
                message = await receive()
        except TimeoutError:
            raise HTTPException(
                HTTPStatus.REQUEST_TIMEOUT,
                f"the body did not arrive within {BODY_SECONDS:.0f} s",
                {"Connection": "close"},  # the rest would be as slow
            ) from None
        self._complete = not message.get("more_body", False)
        return message
