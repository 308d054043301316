"""Problem documents (RFC 9457): errors over HTTP."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from semlink.service.correlation import REQUEST_ID, current_request
from semlink.service.validation import mistakes_text

log = structlog.get_logger(__name__)

TYPE = "urn:semlink:problem:"
_REASONS: Mapping[int, str] = {
    HTTPStatus.UNPROCESSABLE_ENTITY: "invalid",
    HTTPStatus.INTERNAL_SERVER_ERROR: "internal",
}
"""Of errors that name none, by status; else the status's own name."""


class Problem(BaseModel):
    """A problem document, RFC 9457."""

    type: str = Field(
        description="the kind of problem, a name that stays: urn:semlink:problem: and the reason",
        examples=["urn:semlink:problem:crc"],
    )
    title: str = Field(description="the status in words", examples=["Bad Request"])
    status: int = Field(description="the HTTP status", examples=[400])
    detail: str = Field(description="what was wrong, and what would be right")
    instance: str = Field(description="the path that was asked for", examples=["/v1/classify"])
    reason: str = Field(description="the kind of problem, for programs", examples=["crc"])


class ProblemError(HTTPException):
    """An error over HTTP that programs know by its reason."""

    def __init__(self, status: int, reason: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        """`reason`: a slug; `detail`: what was wrong, and what would be right."""
        super().__init__(status, detail, headers)
        self.reason = reason


def install_problems(app: FastAPI) -> None:
    """Makes every error of `app` a problem document; unforeseen ones are logged, not shown."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema()
        return document

    app.openapi = openapi  # type: ignore[method-assign]

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        reason = getattr(error, "reason", None)
        return problem_response(
            request.scope["path"], error.status_code, str(error.detail), error.headers, reason=reason
        )

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return problem_response(
            request.scope["path"], HTTPStatus.UNPROCESSABLE_ENTITY, mistakes_text(error.errors())
        )

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        log.error("unforeseen error", path=request.scope["path"], exc_info=error)
        request_id = current_request()
        return problem_response(
            request.scope["path"],
            HTTPStatus.INTERNAL_SERVER_ERROR,
            f"the error has been logged as {request_id}",
            {REQUEST_ID: request_id},  # this answer does not pass RequestMiddleware
        )


def problem_responses(**details: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses: for each status name (`bad_request="when"`), a problem document."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        HTTPStatus[name.upper()].value: {
            "description": detail,
            "content": {"application/problem+json": {"schema": schema}},
        }
        for name, detail in details.items()
    }


def problem_response(
    path: str,
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    *,
    reason: str | None = None,
) -> JSONResponse:
    """A problem document, the answer to a request for `path`; without a reason that of the status."""
    reason = reason or _REASONS.get(status, HTTPStatus(status).name.lower())
    problem = Problem(
        type=f"{TYPE}{reason}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=path,
        reason=reason,
    )
    return JSONResponse(
        problem.model_dump(),
        status,
        headers=dict(headers or {}),
        media_type="application/problem+json",
    )
