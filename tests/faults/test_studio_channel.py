"""Channel calls that the studio passes on: they reach no path and no host but those that the page may call."""

from types import SimpleNamespace
from urllib.parse import unquote

import httpx
import pytest

from semlink.service.admission import Admission
from semlink.service.listener import Health
from studio.api import create_app
from studio.control_plane import PATHS, ControlPlane
from studio.running_link import RunningLink
from studio.settings import StudioSettings

EMULATOR = "127.0.0.1:7"
ELSEWHERE = (
    "", "metrics", "../metrics", "%2e%2e/metrics", "%2e%2e%2fmetrics", "impairments/%2e%2e", "impairments/%2e",
    "impairments/%2e%2e/%2e%2e/metrics", "impairments%2f..%2f..%2fmetrics", "/impairments", "%2fimpairments",
    "impairments%3f", "impairments@127.0.0.1:9", "http://127.0.0.1:9/v1/impairments", "%2f%2f127.0.0.1:9/events",
    "impairments/%0d%0aHost:x", "impairments/" + "a" * 600, "events?" + "a" * 2000,
)  # fmt: skip
BELOW = (
    "impairments", "impairments/camera-1", "impairments/a%2fb", "impairments/%252e%252e%252fmetrics",
    "impairments/%3fx=1", "impairments/%23", "impairments/%5c..%5c..", "impairments//x",
    "impairments/%c3%a9%f0%9f%98%80", "impairments/%ff", "events?after=0&limit=%zz&&=", "events?after=%2e%2e%2f",
)  # fmt: skip


@pytest.fixture
async def asked():
    """Client of a studio's API, and the requests that reach the emulator."""
    requests = []

    def answer(request):
        requests.append(request)
        return httpx.Response(307, headers={"Location": "http://127.0.0.1:9/"}, json={})

    nothing = lambda *_: None  # noqa: E731
    running = RunningLink(StudioSettings(), nothing, nothing, nothing, nothing)
    running.control = ControlPlane(lambda: EMULATOR, nothing)
    running.control._client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    app = create_app(SimpleNamespace(running=running), Health(), Admission())  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client, requests
    await running.control.close()


async def test_no_other_path_is_reached(asked):
    client, requests = asked
    for path in ELSEWHERE:
        for method in ("GET", "HEAD", "PUT", "PATCH", "POST", "DELETE"):
            answer = await client.request(method, f"/v1/channel/{path}")
            assert answer.status_code == 404, path
    assert not requests


async def test_every_character_stays_where_it_was(asked):
    client, requests = asked
    body, kind = b"at\n0\n", b"text/csv; x=\xff"
    for path in BELOW:
        answer = await client.put(f"/v1/channel/{path}", content=body, headers={b"Content-Type": kind})
        assert (answer.status_code, answer.headers.get("location")) == (307, None), path
        assert len(requests) == 1  # nothing follows a redirect
        asked_of, (way, _, query) = requests.pop(), path.partition("?")
        assert asked_of.url.netloc.decode() == EMULATOR
        assert asked_of.url.path == f"/v1/{unquote(way)}"
        assert asked_of.url.path.split("/")[2] in PATHS
        assert asked_of.url.query.decode() == query
        assert asked_of.content == body
        assert (b"Content-Type", kind) in asked_of.headers.raw


async def test_other_methods_are_none(asked):
    client, requests = asked
    for method in ("TRACE", "OPTIONS", "CONNECT", "PROPFIND"):
        assert (await client.request(method, "/v1/channel/impairments")).status_code == 405
    assert not requests
