"""The studio in a real browser: six processes, a page, every knob. One of each for all tests."""

import os
import re
import signal
from pathlib import Path

import pytest
from browser import (
    all_vote,
    answered,
    ask,
    at_rest,
    client_of,
    drawn,
    is_started_anew,
    kill,
    number,
    processes_of,
    until,
)
from playwright.sync_api import expect

from semlink.vision.photos import find_photos

WIDTHS = (360, 1280, 2560)
SERIOUS = ("serious", "critical")


def test_every_camera_answers(page):
    for name in ("camera-1", "camera-2", "camera-3", "camera-4"):
        tile = page.get_by_test_id(name)
        assert tile.locator("canvas").count() == 4
        assert tile.locator("ol.classes li").count() == 5
        assert number(tile, "on air") == number(tile, "header") + number(tile, "payload")
        assert number(tile, "payload") == 224 * 224 * 3 * 8 // 4
        assert number(tile, "flipped") > 0
    assert page.get_by_test_id("vote").locator("tbody tr").count() == 4


def test_a_knob_answers_at_once(page):
    before, flips = at_rest(page), number(page.get_by_test_id("camera-1"), "flipped")
    page.get_by_test_id("knob-rho").fill("0.125")
    answered(page, before)
    tile = page.get_by_test_id("camera-1")
    assert number(tile, "payload") == 224 * 224 * 3
    assert number(tile, "flipped") < flips
    assert "rho=0.125" in page.url
    assert float(page.get_by_test_id("lag").get_attribute("data-ms")) > 0


def test_the_channel_is_set_for_one_camera(page):
    before = at_rest(page)
    page.get_by_test_id("scope").select_option("camera-2")
    drawn(page)
    page.get_by_test_id("knob-ber").fill("0")
    answered(page, before)
    assert number(page.get_by_test_id("camera-2"), "flipped") == 0
    assert number(page.get_by_test_id("camera-3"), "flipped") > 0
    before = at_rest(page)
    page.get_by_role("button", name="camera-2 meets what all do").click()
    answered(page, before)
    assert number(page.get_by_test_id("camera-2"), "flipped") > 0
    page.get_by_test_id("scope").select_option("default")


def test_another_source_coder_has_its_own_knobs(page):
    before = at_rest(page)
    page.get_by_test_id("source").select_option("codec")
    answered(page, before)
    expect(page.get_by_test_id("knob-rho")).to_have_count(0)
    assert number(page.get_by_test_id("camera-1"), "on air") <= 8 * 1505
    before = at_rest(page)
    page.get_by_test_id("knob-policy").select_option("ask")
    answered(page, before)
    assert number(page.get_by_test_id("camera-1"), "opinion") == 128
    before = at_rest(page)
    page.get_by_test_id("source").select_option("iaq")
    answered(page, before)
    expect(page.get_by_test_id("knob-policy")).to_have_value("all")
    expect(page.get_by_test_id("camera-1").locator("dl.bits")).not_to_contain_text("opinion")


def test_a_hovered_patch_is_outlined_everywhere_also_by_keys(page):
    tile = page.get_by_test_id("camera-1")
    tile.locator(".canvas").first.hover()
    expect(page.locator(".patch")).to_have_count(16)
    expect(tile.get_by_test_id("patch")).to_contain_text("gain of one more bit")
    page.get_by_test_id("camera-3").locator(".canvas").first.focus()
    page.mouse.move(0, 0)
    expect(page.locator(".patch")).to_have_count(0)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(tile.get_by_test_id("patch")).to_contain_text("row 1, column 0")


def test_a_clicked_patch_shows_its_arithmetic_also_by_keys(page):
    canvas = page.get_by_test_id("camera-2").locator(".canvas").nth(2)
    box = canvas.bounding_box()
    canvas.click(position={"x": 7.5 / 14 * box["width"], "y": 7.5 / 14 * box["height"]})
    arithmetic = page.get_by_test_id("arithmetic")
    expect(arithmetic.get_by_role("heading").first).to_contain_text("camera-2, patch 105 (row 7, column 7)")
    maps = page.evaluate(
        "fetch('v1/state').then(answer => answer.json()).then(state => state.round.views['camera-2'].maps)"
    )
    bits, flips = int(maps["bits"][105]), int(maps["flips"][105])
    expect(arithmetic).to_contain_text(f"768 values · {bits} bit = {768 * bits:,} bit of payload")
    expect(arithmetic).to_contain_text(f"{flips} bit of {768 * bits:,} arrived inverted")
    expect(arithmetic.locator("li")).to_have_count(6)
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(arithmetic.get_by_role("heading").first).to_contain_text("camera-2, patch 106")
    page.keyboard.press("Escape")
    expect(arithmetic).to_have_count(0)
    page.get_by_test_id("vote").hover()
    canvas.blur()


def test_an_address_shows_the_same_again(page, browser, studio):
    before = at_rest(page)
    address = page.url
    page.get_by_test_id("preset-burst").click()
    answered(page, before)
    assert page.get_by_test_id("channel").input_value() == "burst"
    with browser.page(address) as other:
        expect(other.get_by_test_id("channel")).to_have_value("bsc")
    expect(page.get_by_test_id("channel")).to_have_value("bsc")


def test_the_radio_view_shows_subchannels_and_blocks(page):
    before = at_rest(page)
    page.get_by_test_id("preset-mimo").click()
    answered(page, before)
    page.get_by_text("Radio view").click()
    expect(page.get_by_test_id("camera-1").locator("dl.bits")).to_contain_text("air time")
    radio = page.get_by_test_id("radio")
    expect(radio).to_contain_text("784 subcarriers × 4 streams")
    radio.locator("canvas.strip").first.hover()
    expect(page.get_by_test_id("camera-1").get_by_test_id("patch")).to_contain_text("subchannels 16")
    page.get_by_text("Radio view").click()
    before = at_rest(page)
    page.get_by_test_id("preset-paper").click()
    answered(page, before)


def test_a_scenario_plays_pauses_and_is_scrubbed(page):
    page.get_by_text("Scenario", exact=True).click()
    page.get_by_test_id("preset-burst").click()
    expect(page.get_by_test_id("scenario")).to_contain_text("control plane: default: burst")
    page.get_by_test_id("scenario-bursts").click()
    expect(page.get_by_test_id("channel")).to_have_value("none")  # its first step: clear
    page.get_by_test_id("scenario-play").click()
    expect(page.get_by_test_id("scenario-play")).to_have_text("Play")
    page.get_by_test_id("scenario-position").fill("5")
    expect(page.get_by_test_id("channel")).to_have_value("burst")
    expect(page.get_by_test_id("scenario-step")).to_have_text("step 2 of 5")
    page.get_by_test_id("scenario-loop").click()
    expect(page.get_by_test_id("scenario-loop")).not_to_be_checked()
    expect(page.get_by_test_id("scenario")).to_contain_text("scenario loop off")
    expect(page.get_by_test_id("scenario")).to_contain_text("scenario: default: burst")
    page.get_by_test_id("scenario-remove").click()
    expect(page.get_by_test_id("scenario-play")).to_have_count(0)
    page.get_by_text("Scenario", exact=True).click()


def test_a_scenario_is_scrubbed_while_it_plays(page, browser, studio):
    """And where a change of it is refused, what holds is there again."""
    page.get_by_text("Scenario", exact=True).click()
    page.get_by_test_id("scenario-bursts").click()
    expect(page.get_by_test_id("scenario-play")).to_have_text("Pause")
    position = page.get_by_test_id("scenario-position")
    position.scroll_into_view_if_needed()
    box = position.bounding_box()
    with client_of(studio[0]) as client:
        page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + box["height"] / 2)
        there = position.input_value()
        began = client.get("/v1/channel/scenario").json()["position"]
        until(page, lambda: client.get("/v1/channel/scenario").json()["position"] != began)
    with page.expect_response("**/v1/channel/scenario") as answer:
        page.mouse.up()
    assert answer.value.request.post_data_json == {"position": float(there)}
    assert float(there) > 10
    browser.expected = ("Failed to load resource: the server responded with a status of 503",)
    away = {"status": 503, "json": {"detail": "the channel emulator does not answer: is it running?"}}
    page.route("**/v1/channel/scenario", lambda route: route.fulfill(**away))
    page.get_by_test_id("scenario-loop").click()
    expect(page.get_by_test_id("problem")).to_contain_text("does not answer")
    expect(page.get_by_test_id("scenario-loop")).to_be_checked()
    page.unroute("**/v1/channel/scenario")
    browser.expected = ()
    file = page.get_by_test_id("scenario-file")
    file.set_input_files({"name": "scenario.json", "mimeType": "application/json", "buffer": b"?"})
    expect(page.get_by_test_id("problem")).to_contain_text("the file holds no JSON")
    expect(file).to_have_value("")  # so that it may be chosen again
    page.get_by_test_id("scenario-remove").click()
    expect(page.get_by_test_id("scenario-play")).to_have_count(0)
    page.get_by_text("Scenario", exact=True).click()


def test_what_others_tell_the_emulator_shows(page, studio):
    before = at_rest(page)
    with client_of(studio[0]) as client:
        client.patch("/v1/channel/impairments", json={"default": {"preset": "paper"}}).raise_for_status()
    answered(page, before)
    expect(page.get_by_test_id("knob-ber")).to_have_value("0.05")


def test_own_pictures_are_seen_four_ways_or_one_each(page, studio):
    photos = [str(path) for path in find_photos(["coffee", "astronaut"])]
    page.get_by_text("Own pictures").click()
    before = at_rest(page)
    page.get_by_test_id("picture-files").set_input_files(photos[0])
    answered(page, before)
    expect(page.get_by_test_id("camera-1").locator(".classes")).to_contain_text("espresso")
    page.get_by_test_id("picture-files").set_input_files(photos)
    expect(page.get_by_test_id("picture-files")).to_have_value("")  # so that the same may be chosen again
    expect(page.get_by_test_id("camera-2").locator(".classes")).not_to_contain_text("espresso")
    before = at_rest(page)
    page.get_by_test_id("picture-camera").click()
    page.get_by_label("what the camera sees").evaluate(
        "video => video.readyState > 1 || new Promise(done => video.addEventListener('loadeddata', done))"
    )
    page.get_by_test_id("picture-take").click()
    answered(page, before)
    before = at_rest(page)
    page.get_by_test_id("picture-forget").click()
    answered(page, before)
    with client_of(studio[0]) as client:
        number = client.post(f"/v1/rounds/{before}/replay").raise_for_status().json()["number"]
        assert client.get(f"/v1/rounds/{number}").json()["identical"]  # its picture is held
    track = page.get_by_label("what the camera sees").evaluate_handle("video => video.srcObject.getTracks()[0]")
    page.get_by_text("Own pictures").click()
    until(page, lambda: track.evaluate("track => track.readyState") == "ended")
    expect(page.get_by_test_id("picture-camera")).to_have_attribute("aria-pressed", "false")


def test_what_became_of_each_of_several_files_is_said_at_the_end(page, browser, studio):
    browser.expected = ("Failed to load resource: the server responded with a status of 400",)
    coffee, astronaut = (path.read_bytes() for path in find_photos(["coffee", "astronaut"]))

    def file(name, data=astronaut, kind="image/png"):
        return {"name": name, "mimeType": kind, "buffer": data}

    def seen(holds):
        """Digests of the pictures that the cameras look at, in their order, once four are there and it holds."""
        found = []

        def is_there():
            views = ask(studio[0], "GET", "/v1/state")["round"]["views"]
            found[:] = [view["images"]["picture"] for _, view in sorted(views.items())]
            return len(found) == 4 and holds(found)

        until(page, is_there)
        return found

    page.get_by_text("Own pictures").click()
    before = at_rest(page)
    page.get_by_test_id("picture-forget").click()
    answered(page, before)
    first, problem = seen(bool), page.get_by_test_id("problem")
    chosen = [file("first.png", b"?"), file("2.png", coffee), file("of a phone.heic", kind="image/heic")]
    page.get_by_test_id("picture-files").set_input_files([*chosen, file("3.png"), file("4.png"), file("5.png")])
    expect(problem).to_contain_text("5.png: more pictures than cameras, which are 4")
    expect(problem).to_contain_text("of a phone.heic: a picture is a JPEG, PNG or WebP")
    expect(problem).to_contain_text("first.png: ")
    several = seen(lambda found: not {*found[1:]} & {*first})
    assert several[0] == first[0]
    page.get_by_test_id("picture-files").set_input_files([chosen[1], chosen[2]])
    expect(problem).to_have_text(re.compile("^of a phone.heic: a picture is a JPEG, PNG or WebP file"))
    seen(lambda found: found == [several[1], *several[1:]])
    before = at_rest(page)
    page.get_by_test_id("picture-forget").click()
    answered(page, before)
    page.get_by_text("Own pictures").click()
    browser.expected = ()


def test_a_browser_that_has_no_camera_says_so(browser, studio):
    """As over plain HTTP from another machine."""
    with browser.page("about:blank") as other:
        other.add_init_script("Object.defineProperty(Navigator.prototype, 'mediaDevices', { value: undefined })")
        other.goto(studio[0])
        other.get_by_text("Own pictures").click()
        other.get_by_test_id("picture-camera").click()
        expect(other.get_by_test_id("problem")).to_contain_text("no camera can be opened")
        expect(other.get_by_test_id("picture-camera")).to_have_attribute("aria-pressed", "false")


def test_files_are_dropped_anywhere_and_text_into_fields(page):
    dropped = """(target, isFile) => {
        const dataTransfer = new DataTransfer();
        if (isFile) dataTransfer.items.add(new File(["?"], "notes.txt", { type: "text/plain" }));
        else dataTransfer.setData("text/plain", "cat");
        const options = { dataTransfer, bubbles: true, cancelable: true };
        return ["dragover", "drop"].map((kind) => !target.dispatchEvent(new DragEvent(kind, options)));
    }"""
    problem = page.get_by_test_id("problem")
    assert page.get_by_test_id("label").evaluate(dropped, False) == [False, False]
    assert page.locator("header.top").evaluate(dropped, True) == [True, True]
    expect(problem).to_contain_text("a picture is a JPEG, PNG or WebP file")
    page.get_by_role("button", name="dismiss").click()
    assert page.get_by_test_id("label").evaluate(dropped, False) == [False, False]
    expect(problem).to_have_count(0)


def test_what_dies_is_shown_and_heals(page, studio, browser):
    browser.expected = ("Failed to load resource",)
    killed = processes_of(studio[0])
    before = at_rest(page)
    os.kill(killed["camera-4"], signal.SIGKILL)
    kill(page, studio[0], "channel")
    is_started_anew(page, studio[0], **{name: killed[name] for name in ("camera-4", "channel")})
    expect(page.get_by_test_id("process-channel")).to_contain_text("ready")
    expect(page.get_by_test_id("camera-4").locator(".standing")).to_contain_text("ready")
    with client_of(studio[0]) as client:  # as it was set before
        until(page, lambda: client.get("/v1/channel/impairments").json().get("default", {}).get("ber") == 0.05)
    expect(page.get_by_test_id("knob-ber")).to_have_value("0.05")
    page.get_by_test_id("step").click()
    answered(page, before)
    all_vote(page, studio[0])
    healed = processes_of(studio[0])
    assert {name for name in killed if killed[name] != healed[name]} == {"camera-4", "channel"}
    pid = healed["camera-4"]
    expect(page.get_by_test_id("camera-4").locator(".standing")).to_have_attribute("title", f"process id {pid}")
    browser.expected = ()


@pytest.mark.parametrize("width", WIDTHS)
def test_every_width_and_theme_is_readable(browser, page, width, tmp_path, record_property):
    """With a screenshot, by whose path a report tells of it."""
    from axe_playwright_python.sync_playwright import Axe

    theme = "dark" if width == 1280 else "light"
    with browser.page(page.url, width=width, color_scheme=theme, reduced_motion="reduce") as other:
        expect(other.get_by_test_id("vote")).to_contain_text("of 4 views")
        assert other.evaluate("document.documentElement.scrollWidth") <= width
        found = Axe().run(other).response["violations"]
        assert not [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in SERIOUS]
        screenshot = Path(os.environ.get("STUDIO_SCREENSHOTS", tmp_path)) / f"studio-{width}.png"
        other.screenshot(path=screenshot)
        record_property("screenshot", str(screenshot))


def test_what_is_asked_of_others_is_counted_and_reaches_nobody(browser):
    browser.expected = ("Failed to load resource: net::ERR_NAME_NOT_RESOLVED",)
    others = ["http://example.com/", "http://192.0.2.1/"]
    with browser.page("about:blank") as other:
        for url in others:
            with other.expect_event("requestfailed") as failed:
                other.evaluate("url => { fetch(url, { mode: 'no-cors' }).catch(() => {}) }", url)
            assert failed.value.failure == "net::ERR_NAME_NOT_RESOLVED"
    assert browser.foreign == others
    browser.foreign.clear()
    browser.expected = ()


def test_other_sites_are_refused(studio):
    with client_of(studio[0]) as client:
        assert "script-src 'self'" in client.get("/").headers["content-security-policy"]
        foreign = {"Origin": "http://attacker.example"}
        assert client.patch("/v1/settings", json={"rho": 1}, headers=foreign).status_code == 403
        assert client.get("/v1/state", headers={"Sec-Fetch-Site": "same-site"}).status_code == 403
        assert client.get("/v1/state", headers={"Host": "attacker.example"}).status_code == 421
        assert client.get("/", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}).is_success
