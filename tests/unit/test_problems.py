"""Errors over HTTP that nobody has foreseen."""

from fastapi import FastAPI
from fastapi.testclient import TestClient
from structlog.testing import capture_logs

from semlink.service.correlation import RequestMiddleware
from semlink.service.problems import install_problems


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
