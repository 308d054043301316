"""HTTP server (uvicorn) for untrusted clients, and ASGI middleware: admission, limits of bodies, metrics."""

import asyncio
import contextlib
import math
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from http import HTTPStatus
from typing import Any

import h11
import structlog
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from semlink.service.admission import Admission, NotAdmitted, Refusal
from semlink.service.problems import problem_response, problem_responses

HEAD_SECONDS = 10.0
"""Deadline of a TLS handshake, of the head of a request, and of the rest of a request that has been answered."""
MAX_DISCARDED_BYTES = 32 << 20
"""Bytes of a refused request's body that are read and dropped: closed at once, clients would miss the answer."""
BODY_SECONDS = 30.0
"""Deadline of a body."""
HEALTH_PATHS = ("/v2/health/live", "/v2/health/ready")
"""Not limited: an orchestrator may have no key, and asks as often as it likes."""
DOCUMENT_PATHS = ("/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json")
"""Need no key: they are as public as the sources, and a browser sends none."""
NAME = "name"
"""Convertor of a path's last parameter, as in `/v1/votes/{object_id:name}`: matches slashes and line breaks."""
_SCHEME = "API key"
_FOREIGN = problem_responses(
    forbidden="A page of another site made a browser send this (Origin).",
    misdirected_request="Host is none of this process's names.",
)


class HttpServer(uvicorn.Server):
    """uvicorn with limits on connections; serves until `should_exit` is set, and leaves signals to its caller."""

    def __init__(self, app: ASGIApp, max_connections: int, tls: ssl.SSLContext | None) -> None:
        """Requests on more than `max_connections` are answered with 503; more than twice as many are cut off."""
        configuration = uvicorn.Config(
            app,
            ws="none",
            log_config=None,
            access_log=False,
            # With them, clients could choose the address that their rate is counted by.
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        super().__init__(configuration)
        self._max_connections, self._tls = max_connections, tls

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, with deadlines for TLS, which uvicorn has none of."""
        await self.lifespan.startup()
        limit = HEAD_SECONDS if self._tls else None
        loop = asyncio.get_running_loop()
        connect = partial(
            _Connection, self.config, self.server_state, self.lifespan.state, max_connections=self._max_connections
        )
        self.servers = [
            await loop.create_server(
                connect, sock=each, ssl=self._tls, ssl_handshake_timeout=limit, ssl_shutdown_timeout=limit
            )
            for each in sockets or []
        ]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


class _Connection(H11Protocol):
    """HTTP/1.1 connection that is closed unless the head of each request arrives within HEAD_SECONDS."""

    def __init__(self, *arguments: Any, max_connections: int) -> None:
        super().__init__(*arguments)
        self._served, self._max_connections = self.app, max_connections
        self._head_timer: asyncio.TimerHandle | None = None
        self._discarded = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio sets it only on sockets that name their protocol; without, a body waits for the ACK of its head.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > 2 * self._max_connections:
            transport.abort()
        self._expect_a_head()

    def data_received(self, data: bytes) -> None:
        self.app = self._served if len(self.connections) <= self._max_connections else _busy
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._expect_no_head()
            self._discarded = 0
        elif before is None or before.response_complete:
            self._expect_a_head()
            self._discarded += len(data)
            if self._discarded > MAX_DISCARDED_BYTES:
                self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Answers malformed HTTP; unlike uvicorn's own, also where a request or its answer has begun."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # for the application, the client has gone
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()
        self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_no_head()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self.loop.call_later(HEAD_SECONDS, self.transport.abort)  # even if the client doesn't read the answer

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _expect_a_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _expect_no_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


async def _busy(scope: Scope, receive: Receive, send: Send) -> None:
    detail, headers = "as many connections are open as may be", {"Retry-After": "1"}
    refusal = problem_response(scope["path"], HTTPStatus.SERVICE_UNAVAILABLE, detail, headers)
    await refusal(scope, receive, send)


class AdmissionMiddleware:
    """Answers 421 or 403 to what other sites make a browser send, and 401 or 429 to who is not admitted."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        """Around `app`."""
        self._app, self._admission = app, admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] == "http":
            try:
                self._admit(scope)
            except NotAdmitted as refusal:
                self._admission.count("http", refusal)
                await _refusal_response(scope["path"], refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        headers, client, path = Headers(scope=scope), scope.get("client"), scope["path"]
        self._admission.check_site(headers.get("host"), headers.get("origin"))
        if path in HEALTH_PATHS:
            return
        try:
            name = self._admission.admit(headers.get("authorization"), client[0] if client else "")
            structlog.contextvars.bind_contextvars(**({"key": name} if name else {}))
        except NotAdmitted as refusal:
            if refusal.status is not HTTPStatus.UNAUTHORIZED or path not in DOCUMENT_PATHS:
                raise


def install_admission(app: FastAPI, admission: Admission) -> None:
    """Admits requests to `app` before their bodies are read, and answers every `Refusal`; OpenAPI documents it."""
    app.add_middleware(AdmissionMiddleware, admission=admission)

    @app.exception_handler(Refusal)
    async def refuse(request: Request, refusal: Refusal) -> Response:
        return _refusal_response(request.scope["path"], refusal)

    describe = app.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
        components = document.setdefault("components", {})
        components["securitySchemes"] = {
            _SCHEME: {"type": "http", "scheme": "bearer", "description": "a key, where the process wants one"}
        }
        for path, operations in document["paths"].items():
            for operation in operations.values():
                for status, response in _FOREIGN.items():
                    operation["responses"].setdefault(str(status), response)
                if path not in HEALTH_PATHS:
                    _describe(operation, admission)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def install_metrics(app: FastAPI, registry: CollectorRegistry) -> None:
    """Answers GET /metrics from `registry`.

    Not with `prometheus_client.make_asgi_app`, which OpenAPI doesn't show, and which fails on headers that aren't
    UTF-8.
    """

    @app.get("/metrics", tags=["metrics"], summary="Prometheus metrics", response_class=PlainTextResponse)
    async def read_metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _describe(operation: dict[str, Any], admission: Admission) -> None:
    operation["security"] = [{_SCHEME: []}] if admission.wants_keys else [{}, {_SCHEME: []}]
    refusals: dict[str, str] = {}
    if admission.wants_keys:
        refusals["unauthorized"] = "There is no key with the request, or no good one."
    if admission.has_rates:
        refusals["too_many_requests"] = "Too many requests at once, or of this caller; see Retry-After."
    for status, response in problem_responses(**refusals).items():
        operation["responses"][str(status)] = response


def _refusal_response(path: str, refusal: Refusal) -> Response:
    headers = {}
    if refusal.status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="semlink"'
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(refusal.retry_after)))
    return problem_response(path, refusal.status, str(refusal), headers)


class BodyLimits:
    """Limits the length of a body, its time to arrive, and the bytes of all bodies that are held at once.

    By Content-Length before a body is read, else as it arrives. A body is held until its request is answered.
    """

    def __init__(self, app: ASGIApp, max_bytes: Callable[[Headers], int], max_held_bytes: int) -> None:
        """Around `app`. `max_bytes`: of a body with these headers; `max_held_bytes`: of all bodies at once."""
        self._app, self._max_bytes, self._max_held = app, max_bytes, max_held_bytes
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        body = _Body(self._max_bytes(headers))
        try:
            body.check_length(int(headers.get("content-length", 0)))
            if "content-length" in headers or "transfer-encoding" in headers:
                self._check_held()
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
                self._check_held()
            return message

        try:
            await self._app(scope, receive_within_limits, send)
        finally:
            self._held -= body.received

    def _check_held(self) -> None:
        if self._held > self._max_held:
            raise HTTPException(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"bodies of {self._max_held} bytes in all are held, and no more may be: try again",
                {"Retry-After": "1"},
            )


class _Body:
    """One body as it arrives."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._deadline: float | None = None
        self._complete = False
        self.received = 0

    def check_length(self, length: int) -> None:
        if length > self._max_bytes:
            raise HTTPException(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {self._max_bytes} bytes are taken (oversized)"
            )

    async def next(self, receive: Receive) -> Message:
        """The next message, before the deadline; after the whole body there is none."""
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


class _NameConvertor(PathConvertor):
    regex = "(?s:.*)"


register_url_convertor(NAME, _NameConvertor())
