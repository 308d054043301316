"""Problem documents (RFC 9457): errors over HTTP."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from semlink.service.correlation import REQUEST_ID, current_request

log = structlog.get_logger(__name__)

MAX_MISTAKES, MAX_MISTAKE_CHARACTERS = 5, 300
"""Mistakes of one request that its problem document lists, and the length of each: the answer stays short."""


class Problem(BaseModel):
    """A problem document, RFC 9457."""

    type: str = Field("about:blank", description="the kind of problem; about:blank: the status says it all")
    title: str = Field(description="the status in words", examples=["Bad Request"])
    status: int = Field(description="the HTTP status", examples=[400])
    detail: str = Field(description="what was wrong, and what would be right")
    instance: str = Field(description="the path that was asked for", examples=["/v1/classify"])


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
        return problem_response(request.scope["path"], error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return problem_response(request.scope["path"], HTTPStatus.UNPROCESSABLE_ENTITY, _listed(error.errors()))

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


def _listed(errors: Sequence[Any]) -> str:
    mistakes = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in errors[:MAX_MISTAKES]]
    if left := len(errors) - len(mistakes):
        mistakes.append(f"and {left} more")
    return "; ".join(_cut(each) for each in mistakes)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MISTAKE_CHARACTERS else f"{text[:MAX_MISTAKE_CHARACTERS]}…"


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
    path: str, status: int, detail: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """A problem document, the answer to a request for `path`."""
    problem = Problem(
        title=HTTPStatus(status).phrase, status=status, detail=detail, instance=path, type="about:blank"
    )
    return JSONResponse(
        problem.model_dump(),
        status,
        headers=dict(headers or {}),
        media_type="application/problem+json",
    )
