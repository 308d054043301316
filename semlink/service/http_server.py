"""ASGI middleware of an HTTP server, in its order: request ids, admission, limits of bodies; metrics; OpenAPI."""

import asyncio
import math
from collections.abc import Callable, Collection
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from semlink.service.admission import Admission, Crowded, NotAdmitted, Refusal
from semlink.service.correlation import RequestMiddleware
from semlink.service.documents import DOCUMENT_PATHS, install_documents
from semlink.service.problems import ProblemError, install_problems, problem_response, problem_responses

BODY_SECONDS = 30.0
"""Deadline of a body."""
HEALTH_PATHS = ("/v2/health/live", "/v2/health/ready")
"""Not limited: an orchestrator may have no key, and asks as often as it likes."""
NAME = "name"
"""Convertor of a path's last parameter, as in `/v1/votes/{object_id:name}`: matches slashes and line breaks."""
HAS_ROOM = "semlink.has_room"
"""ASGI extension: a function that says whether the server has room for a request, with a good key or without."""
_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
_SENT_HEADERS = ("Authorization", "Content-Type", "Semlink-Header-Tag", "X-Request-Id")
_SHOWN_HEADERS = ("Retry-After", "X-Request-Id")
"""CORS: methods and request headers that pages of other origins may send, and answer headers they may read."""
_SCHEME = "API key"
_FOREIGN = problem_responses(
    forbidden="A page of another site made a browser send this (Origin).",
    misdirected_request="Host is none of this process's names.",
)


class AdmissionMiddleware:
    """Answers 421 or 403 to what other sites make a browser send, and 401 or 429 to who is not admitted."""

    def __init__(self, app: ASGIApp, admission: Admission, public: Collection[str]) -> None:
        """Around `app`. `public`: paths that need no key."""
        self._app, self._admission, self._public = app, admission, public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] == "http":
            try:
                self._admit(scope)
            except NotAdmitted as refusal:
                client = scope.get("client")
                self._admission.count("http", refusal, client[0] if client else "")
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
            if refusal.status is not HTTPStatus.UNAUTHORIZED or path not in self._public:
                raise
            name = None
        has_room = scope.get("extensions", {}).get(HAS_ROOM)
        if has_room and not has_room(bool(name)):
            raise Crowded("as many connections are open as may be", retry_after=1.0)


def install_service(
    app: FastAPI,
    admission: Admission,
    *,
    longest_body: Callable[[Headers], int],
    max_held_bytes: int,
    admitted: Middleware | None = None,
    everybody: Middleware | None = None,
    public: Collection[str] = (),
) -> None:
    """Middleware stack of a process: a request passes it from the outside in, its answer from the inside out.

    1. `RequestMiddleware`: an id, which also refusals carry, and a span.
    2. `everybody`: what the process wants to see or to refuse of whoever asks, with a key or without.
    3. CORS and admission: by key, rate, Host and Origin, before a byte of the body is read.
    4. `admitted`: what it counts or logs; around the limits, so that it sees what they refuse, too.
    5. `BodyLimits`: so that no route reads more than is held.
    6. `HeadMiddleware`, next to the routes, which it asks for GET.

    Errors become problem documents, and /docs is answered.

    Args:
        app: gets all that.
        admission: decides who is admitted.
        longest_body: bytes of the longest body that is taken with these headers.
        max_held_bytes: of all bodies at once.
        admitted: middleware of the process, around the requests that are admitted.
        everybody: middleware of the process, around all requests.
        public: paths that need no key, besides those of the documents.
    """
    install_problems(app)
    # Starlette puts the one that is added last around all others.
    app.add_middleware(HeadMiddleware)
    app.add_middleware(BodyLimits, max_bytes=longest_body, max_held_bytes=max_held_bytes)
    _add(app, admitted)
    install_admission(app, admission, public)
    _add(app, everybody)
    app.add_middleware(RequestMiddleware)
    install_documents(app)


def _add(app: FastAPI, middleware: Middleware | None) -> None:
    if middleware is not None:
        app.add_middleware(middleware.cls, *middleware.args, **middleware.kwargs)


def install_admission(app: FastAPI, admission: Admission, public: Collection[str] = ()) -> None:
    """Admits requests to `app` before their bodies are read, and answers every `Refusal`; OpenAPI documents it.

    Pages of other origins that are allowed may call it from a browser (CORS).

    Args:
        app: gets the middleware.
        admission: decides.
        public: paths that need no key, besides those of the documents.
    """
    app.add_middleware(AdmissionMiddleware, admission=admission, public=frozenset((*DOCUMENT_PATHS, *public)))
    if admission.origins:  # around the admission: a browser asks first, without a key
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(admission.origins),
            allow_methods=_METHODS,
            allow_headers=_SENT_HEADERS,
            expose_headers=_SHOWN_HEADERS,
        )

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
    return problem_response(path, refusal.status, str(refusal), headers, reason=refusal.reason)


class HeadMiddleware:
    """Answers HEAD wherever GET is answered: with its status and headers, without its body (RFC 9110, 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        """Around `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_head = scope["method"] == "HEAD"

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == HTTPStatus.METHOD_NOT_ALLOWED:
                headers = MutableHeaders(scope=message)
                allowed = headers.get("allow", "").split(", ")
                if "GET" in allowed and "HEAD" not in allowed:
                    headers["allow"] = ", ".join([*allowed, "HEAD"])
            elif message["type"] == "http.response.body" and is_head:
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"} if is_head else scope, receive, send_without_body)


class BodyLimits:
    """Limits the length of a body, its time to arrive, and the bytes of all bodies that are held at once.

    Encoded bodies are refused: what one of them holds is known only once it is decoded.

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
                _check_encoding(headers)
                self._check_held()
        except ProblemError as refusal:
            answer = problem_response(
                scope["path"], refusal.status_code, refusal.detail, refusal.headers, reason=refusal.reason
            )
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
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "bodies_held",
                f"bodies of {self._max_held} bytes in all are held, and no more may be: try again",
                {"Retry-After": "1"},
            )


def _check_encoding(headers: Headers) -> None:
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "content_encoding",
            "bodies are taken as they are: send this one without Content-Encoding",
            {"Accept-Encoding": "identity"},
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
            raise ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "oversized",
                f"at most {self._max_bytes} bytes are taken (oversized)",
            )

    async def next(self, receive: Receive) -> Message:
        """The next message, before the deadline; after the whole body there is none."""
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + BODY_SECONDS
        try:
            async with asyncio.timeout_at(None if self._complete else self._deadline):
                message = await receive()
        except TimeoutError:
            raise ProblemError(
                HTTPStatus.REQUEST_TIMEOUT,
                "body_too_slow",
                f"the body did not arrive within {BODY_SECONDS:.0f} s",
                {"Connection": "close"},  # the rest would be as slow
            ) from None
        self._complete = not message.get("more_body", False)
        return message


class _NameConvertor(PathConvertor):
    regex = "(?s:.*)"


register_url_convertor(NAME, _NameConvertor())
