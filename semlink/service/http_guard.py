"""Requests over HTTP: who asks must be admitted, before anything of the body is read."""

import math
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from semlink.service.admission import Admission, NotAdmitted
from semlink.service.problems import problem_response, problem_responses

HEALTH_PATHS = ("/v2/health/live", "/v2/health/ready")
"""Asked for by who may know no key, such as an orchestrator, as often as it likes."""
DOCUMENT_PATHS = ("/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json")
"""Say nothing that the published sources don't, and a browser sends no key for them."""
_SCHEME = "API key"


class Guard:
    """Answers 401 or 429 to requests that are not admitted, and passes the others on."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        """Around `app`."""
        self._app, self._admission = app, admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] == "http" and scope["path"] not in HEALTH_PATHS:
            client = scope.get("client")
            try:
                name = self._admission.admit(
                    Headers(scope=scope).get("authorization"), client[0] if client else ""
                )
                structlog.contextvars.bind_contextvars(**({"key": name} if name else {}))
            except NotAdmitted as refusal:
                if refusal.status is not HTTPStatus.UNAUTHORIZED or scope["path"] not in DOCUMENT_PATHS:
                    self._admission.count("http", refusal)
                    await _refusal(scope["path"], refusal)(scope, receive, send)
                    return
        await self._app(scope, receive, send)


def install_guard(app: FastAPI, admission: Admission) -> None:
    """Puts a guard before `app`, and says so in its OpenAPI document."""
    app.add_middleware(Guard, admission=admission)
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
        components = document.setdefault("components", {})
        components["securitySchemes"] = {
            _SCHEME: {"type": "http", "scheme": "bearer", "description": "a key, where the process wants one"}
        }
        for path, operations in document["paths"].items():
            if path not in HEALTH_PATHS:
                for operation in operations.values():
                    _describe(operation, admission)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _describe(operation: dict[str, Any], admission: Admission) -> None:
    operation["security"] = [{_SCHEME: []}] if admission.wants_keys else [{}, {_SCHEME: []}]
    refusals: dict[str, str] = {}
    if admission.wants_keys:
        refusals["unauthorized"] = "There is no key with the request, or no good one."
    if admission.has_rates:
        refusals["too_many_requests"] = "Too many requests at once, or of this caller; see Retry-After."
    for status, response in problem_responses(**refusals).items():
        operation["responses"][str(status)] = response


def _refusal(path: str, refusal: NotAdmitted) -> ASGIApp:
    if refusal.retry_after is None:
        headers = {"WWW-Authenticate": 'Bearer realm="semlink"'}
    else:
        headers = {"Retry-After": str(max(1, math.ceil(refusal.retry_after)))}
    return problem_response(path, refusal.status, str(refusal), headers)
