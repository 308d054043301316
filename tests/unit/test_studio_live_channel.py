"""The studio over a control plane that is real, without processes: a channel for a moment, and what others set."""

import asyncio
import json

import httpx
import pytest

from channel_emulator.control import control_plane
from channel_emulator.live import LiveImpairments
from channel_emulator.metrics import Metrics
from channel_emulator.per_device import Impairments
from channel_emulator.scenario import Scenario
from semlink.service.admission import Admission
from semlink.service.listener import Health
from studio.api import create_app
from studio.settings import StudioSettings
from studio.studio import Studio

CLEAR, NOISY, OTHER = (Impairments(default={"type": "bsc", "ber": ber}) for ber in (0.001, 0.2, 0.05))
STEPS = [{"at": 0, "default": {"type": "bsc", "ber": 0.001}}, {"at": 3600}]


@pytest.fixture
def live():
    return LiveImpairments(CLEAR)


@pytest.fixture
async def studio(live):
    made = Studio(StudioSettings())
    running = made.running
    app = control_plane(live, Metrics(), Health(), Admission())

    async def answer(*call):
        await asyncio.sleep(0)  # others may go on meanwhile, as while a call is on its way
        await app(*call)

    running.control._client = httpx.AsyncClient(transport=httpx.ASGITransport(answer))
    running.channel.http = "localhost"
    running.channel.watched.standing = "ready"
    running.standing_of = lambda name: "ready"
    running.channel_is_set.set()
    await running.refresh()
    return made


def told(studio, kind="channel") -> list[dict]:
    """What pages were told of the channel."""
    parts = [text.decode().split("\n") for _, text in studio.events._events]
    return [json.loads(data.removeprefix("data: ")) for _, event, data, *_ in parts if event == f"event: {kind}"]


def as_json(impairments) -> dict:
    return impairments.model_dump(mode="json")


async def test_a_channel_for_a_moment_is_not_told_of(studio, live):
    before = told(studio)
    async with studio.running.over(as_json(NOISY)) as is_over:
        assert is_over
        assert live.now == NOISY
        await studio.running.refresh()  # as every half second
        assert studio.snapshot()["channel"]["impairments"] == as_json(CLEAR)
        assert told(studio) == before
    assert [each["impairments"] for each in told(studio)[len(before) :]] == [as_json(CLEAR)]
    assert studio.wanted == 0


async def test_what_others_tell_meanwhile_is_told_then(studio, live):
    async with studio.running.over(as_json(NOISY)):
        live.change(OTHER, "PATCH /v1/impairments")
        await studio.running.refresh()
    assert live.now == OTHER
    assert told(studio)[-1]["impairments"] == as_json(OTHER)
    assert [event["action"] for event in told(studio)[-1]["events"]] == ["PATCH /v1/impairments"]


async def test_events_of_a_channel_for_a_moment_are_left_out(studio, live):
    live.load(Scenario(loop=True, steps=STEPS))
    live.change(OTHER, "PUT /v1/impairments")
    live.play()
    await studio.running.refresh()
    before = studio.running.control.events
    for _ in range(2):
        async with studio.running.over(as_json(NOISY)):
            await studio.running.refresh()
        await studio.running.refresh()
    assert live.playback.playing
    assert studio.running.control.events == before
    assert [each["action"] for each in before][-2:] == ["playing", "step 1 of 2 at 0 s"]
    live.change(NOISY, "PUT /v1/impairments")
    await studio.running.refresh()
    assert [each["action"] for each in studio.running.control.events[len(before) :]] == [
        "paused", "PUT /v1/impairments",
    ]  # fmt: skip


async def test_a_pause_right_after_a_channel_for_a_moment_is_told_of(studio, live):
    live.load(Scenario(loop=True, steps=STEPS))
    await studio.running.refresh()
    async with studio.running.over(as_json(NOISY)):
        pass
    live.pause()
    await studio.running.refresh()
    assert [each["action"] for each in studio.running.control.events][-1] == "paused"


async def test_events_that_came_late_are_known_all_the_same(studio, live, monkeypatch):
    """As where the call that asks for them fails: what was set for a moment is not told of as another's."""
    control = studio.running.control
    call, before = control.call, control.events
    async with studio.running.over(as_json(NOISY)):

        async def fails(method, path, *rest, **more):
            if path == "events":
                raise httpx.ReadTimeout("late")
            return await call(method, path, *rest, **more)

        monkeypatch.setattr(control, "call", fails)
        await control.refresh()
        monkeypatch.setattr(control, "call", call)
    assert control.events == before
    assert control.changes == 0


async def test_a_channel_that_cannot_be_set_again_is_told_of_all_the_same(studio, monkeypatch):
    async def breaks():
        raise ZeroDivisionError

    over = studio.running.over(as_json(NOISY))
    await over.__aenter__()
    monkeypatch.setattr(studio.running, "refresh", breaks)
    with pytest.raises(ZeroDivisionError):
        await over.__aexit__(None, None, None)
    assert not studio.running.is_elsewhere


async def test_what_others_set_right_before_is_set_again_afterwards(studio, live):
    live.load(Scenario(loop=True, steps=STEPS))
    await studio.running.refresh()
    live.change(OTHER, "PATCH /v1/impairments")  # which pauses the scenario
    async with studio.running.over(as_json(NOISY)):
        assert live.now == NOISY
    assert live.now == OTHER
    assert not live.playback.playing


async def test_a_comparison_is_over_what_others_set_right_before(studio, live, monkeypatch):
    met = []

    async def view_of(name, link):
        met.append(live.now)
        return {"bits_on_air": {"uplink": 8}}

    monkeypatch.setattr(studio, "_view_of", view_of)
    live.change(OTHER, "PATCH /v1/impairments")
    await studio.compare(1, "as set", "fixed", equal_bits=False)
    assert met == [OTHER, OTHER]
    assert live.now == OTHER


async def test_what_a_page_sets_is_taken_in_before_a_comparison_goes_on(studio):
    transport = httpx.ASGITransport(create_app(studio, Health(), Admission()))

    async def known() -> dict:
        async with studio.running.steady:
            return studio.running.control.impairments

    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as page:
        async with studio.running.steady:
            setting = asyncio.create_task(page.put("/v1/channel/impairments", json=as_json(OTHER)))
            while not studio.running.steady._waiters:
                await asyncio.sleep(0)
            waiting = asyncio.create_task(known())
        assert (await setting).is_success
        assert await waiting == as_json(OTHER)


def sending(studio, monkeypatch, meanwhile=lambda: None):
    """Has rounds be over at once, but for what happens `meanwhile`."""

    async def send(begun, link, names):
        meanwhile()

    monkeypatch.setattr(studio.sending, "send", send)


async def test_a_round_is_recorded_over_the_channel_that_it_meets(studio, live, monkeypatch):
    sending(studio, monkeypatch)
    await studio._send("again", None)
    live.change(NOISY, "PATCH /v1/impairments")
    await studio._send("again", None)
    assert studio.rounds.newest.impairments == as_json(NOISY)
    assert not studio.rounds.newest.changed
    assert studio.wanted == 0  # this round was sent over it


@pytest.mark.parametrize("last", [NOISY, CLEAR])
async def test_a_round_says_whether_its_channel_was_changed_meanwhile(studio, live, monkeypatch, last):
    def changed():
        for each in (NOISY, last):
            live.change(each, "PATCH /v1/impairments")

    sending(studio, monkeypatch, changed)
    await studio._send("again", None)
    assert studio.rounds.newest.changed
    assert told(studio, "over")[-1]["changed"]
    assert studio.wanted == (last != CLEAR)


async def test_a_replay_s_own_channel_is_no_change(studio, live, monkeypatch):
    sending(studio, monkeypatch)
    await studio._send("again", None)
    live.change(NOISY, "PATCH /v1/impairments")
    live.load(Scenario(loop=True, steps=STEPS))
    await studio._send("replay", 1)
    assert studio.rounds.newest.of == 1
    assert not studio.rounds.newest.changed
    assert live.playback.playing


async def test_a_step_is_refused_while_an_emulator_is_away_that_was_there(studio):
    running = studio.running
    running.channel_is_set.clear()
    running.channel.watched.starts = 1
    transport = httpx.ASGITransport(create_app(studio, Health(), Admission()))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as page:
        for standing, starts in (("ended", 1), ("starting", 2), ("silent", 2)):
            running.channel.watched.standing, running.channel.watched.starts = standing, starts
            answer = await page.post("/v1/rounds")
            assert answer.status_code == 503
            assert "the channel emulator is away" in answer.json()["detail"]
        running.channel.watched.starts = 1
        for standing in ("starting", "silent"):  # the first time, it may answer late, while all start
            running.channel.watched.standing = standing
            waiting = asyncio.create_task(page.post("/v1/rounds"))
            while not studio._wanted:
                await asyncio.sleep(0)
            studio._wanted.pop()[2].set_result(7)
            assert (await waiting).json() == {"number": 7}
