"""What is stopped or killed beside the page: it shows as what it is, and heals by itself, without a click."""

import contextlib
import os
import signal

import pytest
from browser import answered, client_of, kill, processes_of, round_of, standing
from playwright.sync_api import expect
from processes import wait_until

ALL = ("server", "channel", "camera-1", "camera-2", "camera-3", "camera-4")
FAILED = "Failed to load resource"


@pytest.fixture
def running(page, studio, browser):
    """Rounds that follow each other, with a little pause."""
    browser.expected = (FAILED,)
    with client_of(studio[0]) as client:
        client.patch("/v1/settings", json={"running": True, "every": 0.2}).raise_for_status()
        yield client
        client.patch("/v1/settings", json={"running": False}).raise_for_status()
    browser.expected = ()


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def newest(client) -> dict:
    """The newest round that is over."""
    if (begun := client.get("/v1/state").json()["round"]) is None:
        return {"views": {}, "failures": {}}
    number = begun["number"]
    found = client.get(f"/v1/rounds/{number}").json()
    return found if found["is_over"] or number == 1 else client.get(f"/v1/rounds/{number - 1}").json()


def until_over(client, condition) -> dict:
    """The first round that is over, and of which `condition` holds."""
    found = {}

    def holds():
        found.update(newest(client))
        return condition(found)

    wait_until(holds)
    return found


def all_is_well_again(page, client):
    for name in ALL:
        expect(standing(page, name)).to_contain_text("ready")
    until_over(client, lambda found: len(found["views"]) == 4 and not found["failures"])
    answered(page, round_of(page))


@pytest.mark.parametrize("name", ["camera-3", "server", "channel"])
def test_what_is_stopped_is_silent_until_it_goes_on(page, studio, running, name):
    answered(page, round_of(page))
    with stopped(processes_of(studio[0])[name]):
        expect(standing(page, name)).to_contain_text("silent: does not answer")
        is_camera = name.startswith("camera-")
        until_over(running, lambda found: found["failures"].keys() == {name} if is_camera else found["failures"])
        if is_camera:
            left_out = until_over(
                running, lambda found: [each[:8] for each in found["failures"].values()] == ["left out"]
            )
            assert left_out["failures"].keys() == {name}
            expect(page.get_by_test_id(name)).to_contain_text("left out: its process does not answer")
            # The others go on meanwhile, one round after the other.
            until_over(running, lambda found: found["number"] > left_out["number"] + 5)
        else:
            expect(page.locator(".tile .failure").first).to_be_visible()
    all_is_well_again(page, running)


@pytest.mark.parametrize("name", ["camera-3", "server", "channel"])
def test_what_is_killed_has_ended_and_is_started_again(page, studio, running, name):
    answered(page, round_of(page))
    before = processes_of(studio[0])[name]
    kill(page, studio[0], name)
    all_is_well_again(page, running)
    assert processes_of(studio[0])[name] not in (before, None)


def test_what_is_stopped_and_killed_is_started_again(page, studio, running):
    pid = processes_of(studio[0])["camera-1"]
    with stopped(pid):
        expect(standing(page, "camera-1")).to_contain_text("silent")
        kill(page, studio[0], "camera-1")
    all_is_well_again(page, running)


def test_all_at_once(page, studio, running):
    for pid in processes_of(studio[0]).values():
        os.kill(pid, signal.SIGKILL)
    kill(page, studio[0], "server")
    all_is_well_again(page, running)


def test_a_camera_that_is_taken_away_in_mid_round_holds_nobody_up(page, studio, running):
    with stopped(processes_of(studio[0])["camera-4"]):
        running.patch("/v1/settings", json={"cameras": 3}).raise_for_status()
        until_over(running, lambda found: len(found["views"]) == 3 and not found["failures"])
        expect(page.get_by_test_id("camera-4")).to_have_count(0)
    running.patch("/v1/settings", json={"cameras": 4}).raise_for_status()
    all_is_well_again(page, running)


def test_an_emulator_is_given_back_what_each_camera_meets_and_its_scenario(page, studio, running):
    running.patch("/v1/channel/impairments", json={"devices": {"camera-2": {"type": "none"}}}).raise_for_status()
    steps = [{"at": 0, "default": {"type": "bsc", "ber": 0.125}}, {"at": 3600}]
    running.put("/v1/channel/scenario", json={"loop": True, "steps": steps}).raise_for_status()
    running.patch("/v1/channel/scenario", json={"position": 1800}).raise_for_status()
    before = running.get("/v1/channel/impairments").json()
    kill(page, studio[0], "channel")
    all_is_well_again(page, running)
    assert running.get("/v1/channel/impairments").json() == before
    assert before["devices"]["camera-2"]["type"] == "none"
    scenario = running.get("/v1/channel/scenario").json()
    assert (scenario["playing"], scenario["loop"], scenario["steps"]) == (True, True, steps)
    assert 1799 < scenario["position"] < 3600
    running.delete("/v1/channel/scenario").raise_for_status()
    running.patch("/v1/channel/impairments", json={"devices": {"camera-2": None}}).raise_for_status()


def test_pages_come_and_go_in_mid_round(page, studio, running, browser):
    for _ in range(3):
        with browser.page(studio[0]) as other:
            answered(other, 0)
            other.get_by_test_id("step").click()
    answered(page, round_of(page))


def test_a_studio_that_is_stopped_does_not_answer(page, studio, running):
    with stopped(studio[1].pid):
        expect(page.get_by_text("the studio does not answer; asking again")).to_be_visible()
    expect(page.get_by_text("the studio does not answer; asking again")).to_have_count(0)
    all_is_well_again(page, running)
