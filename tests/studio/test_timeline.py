"""Rounds in a real browser: how long a knob takes, noise that stays, past rounds, running ones, the timeline."""

import json
import os
import re
import signal
from pathlib import Path

from browser import answered, ask, at_rest, client_of, number, processes_of, round_of, until
from playwright.sync_api import expect

from benchmarks.page_trace import read_trace

FRAMES = "new Promise((done) => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done))))"
"""Until what an answer changed is shown."""


def test_the_knob_that_was_turned_last_is_timed(page, studio):
    last = processes_of(studio[0])["camera-4"]

    def is_turned_in_mid_round(before: int) -> bool:
        os.kill(last, signal.SIGSTOP)
        try:
            page.get_by_test_id("knob-rho").fill("0.2")
            until(page, lambda: round_of(page) > before)
            with page.expect_response("**/v1/settings"):
                page.get_by_test_id("knob-rho").fill("0.125")
            begun = ask(studio[0], "GET", "/v1/state")["round"]
            return begun["number"] == before + 1 and not begun["is_over"]
        finally:
            os.kill(last, signal.SIGCONT)

    while not is_turned_in_mid_round(before := at_rest(page)):
        pass  # the round does not wait for a camera for ever
    answered(page, before + 1)

    def timed() -> int:
        return int(page.get_by_test_id("lag").get_attribute("data-round") or 0)

    until(page, lambda: timed() > before)
    assert timed() > before + 1, "the pictures that came were those of the turn before"


def test_what_changes_no_picture_is_not_timed(page, browser):
    browser.expected = ("Failed to load resource: the server responded with a status of 422",)
    lag = page.get_by_test_id("lag")
    timed = lag.get_attribute("data-ms")
    for is_frozen in ("true", "false"):
        page.get_by_test_id("freeze").click()
        expect(page.get_by_test_id("freeze")).to_have_attribute("aria-pressed", is_frozen)
    page.get_by_test_id("knob-rho").fill("7")
    expect(page.get_by_test_id("knob-rho-refused")).to_be_visible()
    page.get_by_test_id("knob-rho").press("Escape")
    for _ in range(2):
        before = at_rest(page)
        page.get_by_test_id("step").click()
        answered(page, before)
    expect(page.get_by_test_id("problem")).to_have_count(0)
    assert lag.get_attribute("data-ms") == timed
    browser.expected = ()


def test_frozen_noise_stays_and_a_step_meets_other_noise(page):
    page.get_by_test_id("freeze").click()
    expect(page.get_by_test_id("freeze")).to_have_attribute("aria-pressed", "true")
    found = []
    for is_last in (False, False, True):
        if is_last:
            page.get_by_test_id("freeze").click()
            expect(page.get_by_test_id("freeze")).to_have_attribute("aria-pressed", "false")
        before = at_rest(page)
        page.get_by_test_id("step").click()
        answered(page, before)
        found.append([number(page.get_by_test_id(f"camera-{n}"), "flipped") for n in (1, 2, 3, 4)])
    assert found[0] == found[1] != found[2]
    assert int(re.search(r"noise=(\d+)", page.url)[1]) == int(page.get_by_test_id("knob-noise").input_value())


def test_a_past_round_opens_and_plays_again_bit_for_bit(page, first):
    newest = at_rest(page)
    page.get_by_test_id("scrub").fill(str(first))
    expect(page.get_by_test_id("vote")).to_contain_text(f"round {first},")
    assert number(page.get_by_test_id("camera-1"), "payload") == 224 * 224 * 3 * 8 // 4
    page.get_by_test_id("replay").click()
    answered(page, newest)
    expect(page.get_by_test_id("identical")).to_have_text("every bit arrived as it did then")
    expect(page.get_by_test_id("vote")).to_contain_text(f"plays round {first} again")


def test_a_replay_without_all_its_cameras_says_which_are_missing(page, first, studio):
    newest = at_rest(page)
    with client_of(studio[0]) as client:
        client.patch("/v1/settings", json={"cameras": 3}).raise_for_status()
        expect(page.get_by_test_id("camera-4")).to_have_count(0)
        client.post(f"/v1/rounds/{first}/replay").raise_for_status()
        expect(page.get_by_test_id("identical")).to_have_text("not compared bit by bit: missing: camera-4")
        client.patch("/v1/settings", json={"cameras": 4}).raise_for_status()
    answered(page, newest)


def test_a_past_round_says_what_it_was_sent_with(page, studio):
    said = page.get_by_test_id("sent-with")

    def opens(number, expected):
        page.get_by_test_id("scrub").fill(str(number))
        expect(said).to_have_text(expected)
        page.get_by_test_id("scrub").press("End")
        expect(said).to_have_count(0)

    def meet(**changes):
        before = at_rest(page)
        ask(studio[0], "PATCH", "/v1/channel/impairments", json=changes)
        return answered(page, before)

    before = at_rest(page)
    page.get_by_test_id("knob-rho").fill("0.2")
    kept = answered(page, before)
    opens(1, "Unlike what is set now, it was sent with ρ 0.25.")
    meet(default={"ber": 0.02})
    opens(1, "Unlike what is set now, it was sent with ρ 0.25, over bsc μ 0.01.")
    meet(default={"ber": 0.01}, devices={"camera-2": {"type": "awgn"}})
    opens(kept, "Unlike what is set now, it was sent over bsc for camera-2.")
    meet(devices={"camera-2": None})
    opens(kept, "It was sent with what is set now.")


def test_a_step_is_not_followed_by_a_past_round_that_comes_late(page):
    newest, held = at_rest(page), []
    page.route("**/v1/rounds/1", lambda route: held.append(route))
    page.get_by_test_id("scrub").fill("1")
    until(page, lambda: held)
    page.get_by_test_id("step").click()
    answered(page, newest)
    with page.expect_response("**/v1/rounds/1"):
        held[0].continue_()
    page.evaluate(FRAMES)
    expect(page.get_by_test_id("vote")).not_to_contain_text("A past round is shown")
    page.unroute("**/v1/rounds/1")


def test_a_step_leaves_a_past_round(page):
    newest = at_rest(page)
    page.get_by_test_id("scrub").fill("1")
    expect(page.get_by_test_id("vote")).to_contain_text("A past round is shown")
    page.get_by_test_id("step").click()
    answered(page, newest)
    expect(page.get_by_test_id("vote")).not_to_contain_text("A past round is shown")


def test_a_replay_that_cannot_be_sent_says_so(page):
    page.route("**/replay", lambda route: route.fulfill(json={"number": 0}))
    page.get_by_test_id("replay").click()
    expect(page.get_by_test_id("problem")).to_contain_text("was not played again: its channel could not be set")
    page.unroute("**/replay")
    page.get_by_role("button", name="dismiss").click()


def test_a_round_that_is_under_way_is_one_of_them(browser, studio):
    with client_of(studio[0]) as client:
        state = client.get("/v1/state").json()
    state["round"]["is_over"], state["rounds"] = False, state["rounds"][:-1]
    event = f"id: made-1\nevent: state\ndata: {json.dumps(state)}\n\n"
    with browser.page("about:blank") as other:
        other.route("**/v1/events", lambda route: route.fulfill(body=event, content_type="text/event-stream"))
        other.goto(studio[0])
        number = state["round"]["number"]
        expect(other.get_by_test_id("timeline").get_by_text(f"{number} of {number}")).to_be_visible()


def test_rounds_that_are_no_longer_held_leave_the_timeline(page, browser, studio):
    with client_of(studio[0]) as client:
        state = client.get("/v1/state").json()
    last = state["rounds"][-1]
    state["rounds"] = [last | {"number": last["number"] + more} for more in range(-4, 1)]
    over = {"round": last["number"], "summary": last, "oldest": last["number"] - 1}
    events = (f"event: {kind}\ndata: {json.dumps(data)}\n\n" for kind, data in (("state", state), ("over", over)))
    body = "".join(f"id: made-{number}\n{event}" for number, event in enumerate(events, 1))
    with browser.page("about:blank") as other:
        other.route("**/v1/events", lambda route: route.fulfill(body=body, content_type="text/event-stream"))
        other.goto(studio[0])
        expect(other.get_by_test_id("scrub")).to_have_attribute("min", str(over["oldest"]))


def test_the_timeline_is_scrubbed_while_rounds_run(page):
    page.get_by_test_id("knob-every").fill("0")
    page.get_by_test_id("run").click()
    scrub = page.get_by_test_id("scrub")
    scrub.scroll_into_view_if_needed()
    box = scrub.bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 2, box["y"] + box["height"] / 2)
    there = scrub.input_value()
    answered(page, round_of(page) + 2)
    page.mouse.up()
    expect(page.get_by_test_id("vote")).to_contain_text(f"round {there},")
    expect(page.get_by_test_id("vote")).to_contain_text("A past round is shown")
    with page.expect_response("**/v1/settings"):
        page.get_by_test_id("run").click()
    expect(page.get_by_test_id("run")).to_have_text("Run")


def test_rounds_run_and_pause(page, browser, tmp_path, record_property):
    """With a trace of what the page's own script took, by whose path a report tells of it."""
    before = at_rest(page)
    page.get_by_test_id("knob-every").fill("0")
    path = Path(os.environ.get("STUDIO_SCREENSHOTS", tmp_path)) / "studio-trace.json"
    with browser.tracing(page, path):
        page.get_by_test_id("run").click()
        answered(page, before + 3)
        page.get_by_test_id("run").click()
    expect(page.get_by_test_id("run")).to_have_text("Run")
    assert page.get_by_test_id("timeline").locator("canvas").count() == 4
    page.get_by_test_id("label").fill("egyptian ca")
    expect(page.get_by_test_id("timeline").locator("canvas")).to_have_count(5)
    expect(page.get_by_test_id("not-named")).to_contain_text("no view of these rounds was taken for “egyptian ca”")
    page.get_by_test_id("label").fill("egyptian cat ")
    expect(page.get_by_test_id("not-named")).to_have_count(0)
    page.get_by_test_id("label").fill("")
    # Not compared with the bar here, where other tests run beside: benchmarks/studio.py does.
    found = read_trace(path).report()
    record_property("trace", str(path))
    for name, value in found.items():
        record_property(name, value)
    assert found["frames"] > 3


def test_charts_follow_the_theme(page):
    chart = page.get_by_test_id("timeline").locator("canvas").first
    expect(chart).to_be_visible()
    chart.scroll_into_view_if_needed()

    def redness() -> float:
        """Red of what is written beside the vertical axis, in the mean; -1: nothing is."""
        script = """canvas => {
            const pen = new OffscreenCanvas(40, canvas.height).getContext("2d", { willReadFrequently: true });
            pen.drawImage(canvas, 0, 0);
            const { data } = pen.getImageData(0, 0, 40, canvas.height);
            let [ink, sum] = [0, 0];
            for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 200) { ink += 1; sum += data[at]; }
            return ink ? sum / ink : -1;
        }"""
        return chart.evaluate(script)

    assert 0 <= redness() < 0x80
    page.emulate_media(color_scheme="dark")
    until(page, lambda: redness() > 0x80)
    page.emulate_media(color_scheme="light")
    until(page, lambda: 0 <= redness() < 0x80)
