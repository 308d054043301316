"""The studio's client of the control plane: an emulator that refuses, answers late, and is set by others."""

import asyncio

import httpx
import pytest

from studio.control_plane import ControlPlane
from studio.running_link import RunningLink
from studio.settings import StudioSettings

CLEAR, LOSSY, MIMO = ({"default": {"type": name}, "devices": {}} for name in ("none", "bsc", "mimo_ofdm"))
SCENARIO = {"steps": [{"at": 0}, {"at": 10}], "playing": False, "position": 3.0, "loop": False}


class Emulator:
    """A control plane with one event; it may refuse everything, or take a change without an answer in time."""

    def __init__(self):
        self.impairments, self.events, self.refusal, self.is_late = CLEAR, 1, 0, False
        self.scenario = SCENARIO

    async def __call__(self, request):
        await asyncio.sleep(0)
        if self.refusal:
            return httpx.Response(self.refusal, json={"detail": "not now"})
        match request.url.path.removeprefix("/v1/"), request.method:
            case "impairments", "GET":
                return httpx.Response(200, json=self.impairments)
            case "impairments", "PUT":
                self.impairments = httpx.Response(200, content=request.content).json()
                if self.is_late:
                    raise httpx.ReadTimeout("late")
                return httpx.Response(200, json=self.impairments)
            case "scenario", "GET":
                found = self.scenario
                return httpx.Response(200, json=found) if found else httpx.Response(404, json={"detail": "none"})
            case "events", "GET":
                after = int(request.url.params["after"])
                if after > self.events:
                    return httpx.Response(422, json={"detail": "of another process"})
                new = [{"cursor": cursor, "kind": "refusal"} for cursor in range(after + 1, self.events + 1)]
                return httpx.Response(200, json={"events": new, "next": self.events})


@pytest.fixture
def emulator():
    return Emulator()


def known_of(emulator, control) -> ControlPlane:
    control._client = httpx.AsyncClient(transport=httpx.MockTransport(emulator))
    return control


def cursors(control) -> list[int]:
    return [event["cursor"] for event in control.events]


@pytest.mark.parametrize("refusal", [401, 429, 500, 503])
async def test_a_refusal_changes_nothing_of_what_is_known(emulator, refusal):
    control = known_of(emulator, ControlPlane(lambda: "emulator", lambda: None))
    await control.refresh()
    emulator.refusal = refusal
    await control.refresh()
    assert control.problem == f"HTTP {refusal}: not now"
    emulator.refusal = 0
    emulator.events = 2
    await control.refresh()
    assert (control.impairments, control.scenario, cursors(control)) == (CLEAR, SCENARIO, [1, 2])
    emulator.scenario = None
    await control.refresh()
    assert control.scenario is None


async def test_events_of_another_process_are_read_from_their_beginning(emulator):
    control = known_of(emulator, ControlPlane(lambda: "emulator", lambda: None))
    emulator.events, emulator.scenario = 5, None
    await control.refresh()
    emulator.events = 2
    for _ in range(2):
        await control.refresh()
    assert cursors(control) == [1, 2]
    emulator.events = 7
    await control.give_back()  # it was started anew
    await control.refresh()
    assert cursors(control) == [1, 2, 3, 4, 5, 6, 7]


async def test_who_asks_at_once_reads_every_event_once(emulator):
    control = known_of(emulator, ControlPlane(lambda: "emulator", lambda: None))
    await asyncio.gather(*(control.refresh() for _ in range(3)))
    assert cursors(control) == [1]


@pytest.fixture
async def link(emulator):
    def nothing(*_):
        pass

    made = RunningLink(StudioSettings(), nothing, nothing, nothing, nothing)
    made.channel.http = "emulator"
    known_of(emulator, made.control)
    emulator.scenario = None
    made.channel_is_set.set()
    await made.refresh()
    return made


@pytest.mark.parametrize("is_asked_between", [False, True])
async def test_what_others_set_during_a_replay_stays(emulator, link, is_asked_between):
    async with link.over(LOSSY) as is_over:
        assert is_over
        emulator.impairments = MIMO
        if is_asked_between:
            await link.refresh()
    assert emulator.impairments == link.control.impairments == MIMO


async def test_a_replay_s_channel_goes_also_where_the_emulator_answered_too_late(emulator, link):
    emulator.is_late = True
    async with link.over(LOSSY) as is_over:
        assert not is_over
        assert emulator.impairments == LOSSY
        emulator.is_late = False
    assert emulator.impairments == link.control.impairments == CLEAR


async def test_a_replay_s_channel_goes_also_where_the_replay_is_cancelled_at_its_end(emulator, link):
    ends = asyncio.Event()

    async def replay():
        async with link.over(LOSSY):
            ends.set()

    replaying = asyncio.create_task(replay())
    await ends.wait()
    replaying.cancel()
    await asyncio.wait([replaying])
    assert replaying.cancelled()
    assert emulator.impairments == link.control.impairments == CLEAR
    assert not link.is_elsewhere


async def test_an_emulator_that_was_started_anew_is_not_asked_before_it_got_back_what_was_set(emulator, link):
    link.channel_is_set.clear()
    emulator.impairments = MIMO
    await link.refresh()
    assert link.control.impairments == CLEAR
