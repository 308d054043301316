"""The studio's end: whoever waits is answered, and the link ends after what was still under way."""

import asyncio
import json
import os
import signal
from functools import partial

import httpx
import pytest
import uvicorn

import studio.studio
from semlink.service import http_connections
from studio.__main__ import serve
from studio.settings import StudioSettings

COMPARISON = {"left": "iaq", "right": "jpeg"}


@pytest.fixture
def made(monkeypatch):
    """Takes down the studio that is made, and what happens to it; it starts no process."""
    found = []

    class Noted(studio.studio.Studio):
        def __post_init__(self):
            super().__post_init__()
            self.happened = []
            found.append(self)

        async def run(self):
            try:
                await asyncio.Event().wait()
            finally:
                self.happened.append("the link has ended")

        async def compare(self, *links, equal_bits):
            self.happened.append("compares")
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.5)
                self.happened.append("the channel is as it was")

    monkeypatch.setattr(studio.studio, "Studio", Noted)
    return found


async def started(capsys) -> tuple[asyncio.Task, httpx.AsyncClient]:
    """A studio that serves, and a client of it."""
    serving, lines = asyncio.create_task(serve(StudioSettings(http_port=0))), []
    while not lines:
        await asyncio.sleep(0.01)
        assert not serving.done()
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    address = json.loads(lines[0])["http"]
    return serving, httpx.AsyncClient(base_url=f"http://{address}", timeout=60, trust_env=False)


async def test_who_waits_for_a_round_is_answered_that_there_is_none(made, capsys):
    serving, client = await started(capsys)
    async with client:
        asking = asyncio.create_task(client.post("/v1/rounds"))
        while not made[0].wanted:
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        answer = await asking
        await serving
    assert (answer.status_code, answer.json()) == (200, {"number": 0})
    assert await made[0].want("next") == 0


async def test_a_round_under_way_is_given_up_and_none_begins(monkeypatch):
    made = studio.studio.Studio(StudioSettings())
    monkeypatch.setattr(made.running, "standing_of", lambda name: "ready")
    monkeypatch.setattr(made.running, "tell", lambda *_, **of_round: None)

    def begun():
        return made.rounds.begin({}, None, {"camera-1": made.pictures.of("camera-1", 0)})

    first, second = begun(), begun()
    sending = asyncio.create_task(made.sending.send(first, made.link, ["camera-1"]))
    await asyncio.sleep(0)
    assert not first.failures
    made.end()
    await sending
    await made.sending.send(second, made.link, ["camera-1"])
    assert (first.failures, second.failures) == (
        {"camera-1": "the studio ends"},
        {"camera-1": "left out: the studio ends"},
    )


async def test_the_link_ends_after_requests_that_were_cancelled(made, capsys, monkeypatch):
    at_once = partial(uvicorn.Config, timeout_graceful_shutdown=0)
    monkeypatch.setattr(
        http_connections.uvicorn, "Config", lambda app, timeout_graceful_shutdown, **rest: at_once(app, **rest)
    )
    serving, client = await started(capsys)
    async with client:
        asking = asyncio.create_task(client.post("/v1/comparisons", json=COMPARISON))
        while not made[0].happened:
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        await serving
        await asyncio.wait([asking])
    assert made[0].happened == ["compares", "the channel is as it was", "the link has ended"]
