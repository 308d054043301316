"""Problem documents: of errors that nobody has foreseen, of invalid requests, and what HEAD and encodings get."""

from typing import Annotated, Literal

import pytest
from fastapi import FastAPI, Query
from fastapi.testclient import TestClient
from pydantic import BaseModel, Field, model_validator
from structlog.testing import capture_logs

from semlink.service.correlation import RequestMiddleware
from semlink.service.http_server import BodyLimits, HeadMiddleware
from semlink.service.problems import ProblemError, install_problems
from semlink.service.validation import mistake_text


def test_an_unforeseen_error_is_told_by_the_id_of_its_request_alone():
    app = FastAPI()
    install_problems(app)
    app.add_middleware(RequestMiddleware)

    @app.get("/fails")
    async def fails() -> None:
        raise RuntimeError("the inside of the application")

    client = TestClient(app, raise_server_exceptions=False)
    with capture_logs() as logs:
        answer = client.get("/fails", headers={"X-Request-Id": "find-me"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == "find-me"
    assert answer.json()["detail"] == "the error has been logged as find-me"
    assert "inside" not in answer.text
    assert [str(line["exc_info"]) for line in logs] == ["the inside of the application"]
    assert (answer.json()["type"], answer.json()["reason"]) == ("urn:semlink:problem:internal", "internal")


AS_JSON = {"Content-Type": "application/json"}


class Body(BaseModel, extra="forbid"):
    """Something of every kind that can be wrong."""

    count: int = Field(1, ge=1, le=64)
    ratio: float = Field(0.5, gt=0, lt=1, allow_inf_nan=False)
    kind: Literal["bsc", "awgn"] = "bsc"
    name: str = Field("", max_length=8)
    names: list[str] = Field([], max_length=2)
    flag: bool = False

    @model_validator(mode="after")
    def _agree(self) -> "Body":
        if self.flag and not self.name:
            raise ValueError("name must be given where there is a flag")
        return self


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    install_problems(app)
    app.add_middleware(HeadMiddleware)
    app.add_middleware(BodyLimits, max_bytes=lambda headers: 10_000, max_held_bytes=1 << 20)

    @app.get("/things")
    async def read(wait: Annotated[float, Query(ge=0)] = 0) -> list[int]:
        return [1, 2, 3]

    @app.put("/things")
    async def write(body: Body) -> Body:
        return body

    @app.get("/full")
    async def full() -> None:
        raise ProblemError(429, "queue_full", "come back", {"Retry-After": "3"})

    return TestClient(app)


@pytest.mark.parametrize(
    ("sent", "detail"),
    [
        ({"count": 0}, "body.count: must be at least 1"),
        ({"count": 65}, "body.count: must be at most 64"),
        ({"count": "many"}, "body.count: must be a whole number"),
        ({"count": 1.5}, "body.count: must be a whole number"),
        ({"ratio": 0}, "body.ratio: must be greater than 0"),
        ({"ratio": 1}, "body.ratio: must be less than 1"),
        ({"ratio": "half"}, "body.ratio: must be a number"),
        ({"ratio": []}, "body.ratio: must be a number"),
        ({"kind": "x" * 9_000}, "body.kind: must be 'bsc' or 'awgn'"),
        ({"name": "x" * 9_000}, "body.name: must have at most 8 characters"),
        ({"name": 5}, "body.name: must be text"),
        ({"names": ["a", "b", "c"]}, "body.names: must have at most 2 entries"),
        ({"names": {}}, "body.names: must be a list"),
        ({"flag": "perhaps"}, "body.flag: must be true or false"),
        ({"flag": True}, "body: name must be given where there is a flag"),
        ({"other": 1}, "body.other: is not known here: leave it out"),
        ([], "body: must be an object"),
        ({"count": 0, "name": 5}, "body.count: must be at least 1; body.name: must be text"),
    ],
)
def test_validation_errors_say_where_and_what_would_be_right(client, sent, detail):
    answer = client.put("/things", json=sent)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == detail
    assert (answer.json()["type"], answer.json()["reason"]) == ("urn:semlink:problem:invalid", "invalid")


def test_validation_errors_of_bodies_and_queries(client):
    assert client.put("/things", content=b"{", headers=AS_JSON).json()["detail"].startswith("body.1: is no JSON: ")
    assert client.put("/things").json()["detail"] == "body: is missing: send it"
    assert client.get("/things?wait=-1").json()["detail"] == "query.wait: must be at least 0"
    assert client.get("/things?wait=nan").status_code == 422


def test_an_unknown_mistake_is_told_without_a_library_s_words():
    assert mistake_text({"type": "of a later version", "msg": "Input should be …"}) == "is not what is taken here"


def test_errors_have_a_reason_for_programs(client):
    answer = client.get("/full")
    assert (answer.json()["type"], answer.json()["reason"]) == ("urn:semlink:problem:queue_full", "queue_full")
    assert answer.headers["retry-after"] == "3"
    assert client.get("/nowhere").json()["reason"] == "not_found"
    assert client.delete("/things").json()["reason"] == "method_not_allowed"
    assert client.put("/things", content=bytes(10_001)).json()["reason"] == "oversized"


@pytest.mark.parametrize("path", ["/things", "/things?wait=-1", "/full", "/nowhere", "/openapi.json"])
def test_head_answers_as_get_without_the_body(client, path):
    head, get = client.head(path), client.get(path)
    assert head.status_code == get.status_code
    assert head.headers == get.headers
    assert head.content == b""


def test_head_is_among_the_allowed_methods(client):
    assert {*client.delete("/things").headers["allow"].split(", ")} >= {"GET", "HEAD"}


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "GZIP"])
def test_encoded_bodies_are_refused_with_what_is_accepted(client, encoding):
    answer = client.put("/things", content=b"{}", headers={"Content-Encoding": encoding})
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "identity"
    assert answer.json()["reason"] == "content_encoding"
    as_it_is = {"Content-Encoding": "identity"}
    assert client.put("/things", content=b"{}", headers=AS_JSON | as_it_is).status_code == 200
