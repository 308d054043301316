"""What strangers may tell the studio over HTTP: as its document says, refused for a reason, and never an error."""

import asyncio
from types import SimpleNamespace

import httpx
import pytest
import schemathesis
from hostile import Hostile
from test_hostile import PRIVATE, check_problem
from test_openapi import asked_as_promised

from semlink.service.admission import Admission
from semlink.service.listener import Health
from semlink.service.origin import Sites
from studio.api import MAX_BODY_BYTES, MOST_WANTED, create_app
from studio.link_settings import LinkSettings
from studio.settings import StudioSettings
from studio.studio import Studio

INPUTS = 300
ODD = (
    None, True, False, -1, 0, 1, 0.5, 2**70, -(2**70), 1e308, 1e-320, float("inf"), float("nan"), "", "iaq",
    "codec", "ask", "\0", "x" * 5000, "٣", "1e999", [], [[]], {}, {"a": 1},
)  # fmt: skip


class Still(Studio):
    """A studio that sends nothing: what is wanted is there at once, if `answers`, or never."""

    answers = True

    def want(self, what, of=None):
        found = super().want(what, of)
        if self.answers:
            self._wanted.clear()
            if not found.done():
                found.set_result(0)
        return found


@pytest.fixture
def studio():
    made = Still(StudioSettings())
    made.running.keep = lambda names: False  # no process is started
    made.running.control._client = httpx.AsyncClient(transport=httpx.MockTransport(no_emulator))
    made.events.end()  # of a stream that goes on, the beginning is enough
    return made


def no_emulator(request):
    raise httpx.ConnectError("refused")


@pytest.fixture
def app(studio):
    health = Health()
    health.ready = True
    return create_app(studio, health, Admission(sites=Sites(frozenset({"testserver"}))))


@pytest.fixture
async def client(app):
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as made:
        yield made


def test_answers_are_as_the_document_says(app):
    document = schemathesis.openapi.from_asgi("/openapi.json", app)
    asked = asked_as_promised(document)
    assert {"GET /v1/events", "PATCH /v1/settings", "PUT /v1/pictures", "POST /v1/comparisons"} < asked


async def test_hostile_requests_are_refused_for_a_reason(client, studio):
    hostile = Hostile(0, [])
    random, as_json = hostile.random, {"Content-Type": "application/json"}
    for _ in range(INPUTS):
        number = random.choice(("0", "-1", "9" * 30, "x", "%00", "1e9", "%d9%a3", "..%2f.."))
        match random.randrange(6):
            case 0:
                answer = await client.patch("/v1/settings", content=hostile.json(), headers=as_json)
            case 1:
                answer = await client.post("/v1/comparisons", content=hostile.json(), headers=as_json)
            case 2:
                kind = random.choice(("image/png", "text/html", "multipart/form-data", "\xff\xfe", ""))
                headers = {b"Content-Type": kind.encode("latin-1")}
                query = random.choice(("", hostile.query("camera")))
                answer = await client.put(f"/v1/pictures?{query}", content=b"none", headers=headers)
            case 3:
                answer = await client.get(f"/v1/rounds/{number}{random.choice(('', '/radio/camera-1'))}")
            case 4:
                answer = await client.post(f"/v1/rounds/{number}/replay")
            case 5:
                answer = await client.get(f"/v1/images/{number}.png")
        if not answer.is_success:
            check_problem(answer.status_code, answer.content)
        assert not any(word in answer.text for word in PRIVATE)
    assert LinkSettings(**studio.link.model_dump()) == studio.link


def refusal_of(link, name, value) -> str:
    """Why a knob does not take a value; empty where it does."""
    try:
        link.changed({name: value}).of_device(takes_plans=True)
    except ValueError as error:
        return str(error)
    return ""


def test_every_knob_takes_every_value_or_refuses_it():
    links = LinkSettings(), LinkSettings(source="codec", policy="ask"), LinkSettings(source="learned")
    refusals = [refusal_of(link, name, value) for link in links for name in link.knobs() for value in ODD]
    assert max(map(len, refusals)) < 2000
    assert not any(word in refusal for word in PRIVATE for refusal in refusals)


async def test_bodies_are_bounded(client):
    for path, kind, length in (
        ("/v1/settings", "application/json", MAX_BODY_BYTES),
        ("/v1/channel/scenario", "application/json", MAX_BODY_BYTES),
        ("/v1/pictures", "image/png", 20 << 20),
    ):
        method = "PATCH" if "settings" in path else "PUT"
        answer = await client.request(method, path, content=b"[" * (length + 1), headers={"Content-Type": kind})
        assert answer.status_code == 413
    nested = await client.patch(
        "/v1/settings", content=b"[" * MAX_BODY_BYTES, headers={"Content-Type": "application/json"}
    )
    check_problem(nested.status_code, nested.content)


async def test_so_many_rounds_and_comparisons_wait_at_most(client, studio):
    studio.answers = False
    tasks = [asyncio.create_task(client.post("/v1/rounds")) for _ in range(3 * MOST_WANTED)]
    while sum(task.done() for task in tasks) < 2 * MOST_WANTED:
        await asyncio.sleep(0.001)
    assert {task.result().status_code for task in tasks if task.done()} == {429}
    assert studio.wanted == MOST_WANTED
    for _ in range(1000):  # knobs that are turned meanwhile want one round more
        assert (await client.patch("/v1/settings", json={"rho": studio.link.rho / 2 + 0.1})).is_success
    assert studio.wanted <= MOST_WANTED + 1
    for _, _, done in studio._wanted:
        done.set_result(1)
    assert all(answer.is_success or answer.status_code == 429 for answer in await asyncio.gather(*tasks))
    async with studio._air:  # as while a round is sent
        comparing = [
            asyncio.create_task(client.post("/v1/comparisons", json={"left": "iaq", "right": "avif"}))
            for _ in range(50)
        ]
        while not any(task.done() for task in comparing):
            await asyncio.sleep(0.001)
        assert {task.result().status_code for task in comparing if task.done()} == {429}
    assert {answer.status_code for answer in await asyncio.gather(*comparing)} == {422, 429}


async def test_without_an_emulator_it_is_said(client):
    answer = await client.get("/v1/channel/impairments")
    assert answer.status_code == 503
    assert SimpleNamespace(**answer.json()).reason == "no_channel"


async def test_pages_of_origins_that_are_allowed_may_call(studio):
    ours, theirs = "https://app.example", "https://attacker.example"
    sites = Sites(frozenset({"testserver"}), frozenset({ours}))
    transport = httpx.ASGITransport(create_app(studio, Health(), Admission(sites=sites)))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        for origin, status in ((ours, 200), (theirs, 403)):
            sent = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
            answer = await client.get("/v1/state", headers=sent)
            assert answer.status_code == status
            assert answer.headers.get("access-control-allow-origin") == (ours if origin == ours else None)
            asked = sent | {"Access-Control-Request-Method": "PATCH"}
            assert (await client.options("/v1/settings", headers=asked)).status_code == status
