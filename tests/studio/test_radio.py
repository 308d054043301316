"""The radio view in a real browser: constellations of what arrived, plans, and moving over both by keys."""

import re

import pytest
from browser import answered, ask, at_rest, until
from playwright.sync_api import expect

SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def radio(page):
    page.get_by_text("Radio view", exact=True).click()
    return page.get_by_test_id("radio")


def set_channel(page, studio, **channel):
    """Tells the emulator through the studio, as the page does, and waits for the next answered round."""
    before = at_rest(page)
    ask(studio[0], "PATCH", "/v1/channel/impairments", json={"default": channel})
    return answered(page, before)


def number(radio, name):
    return int(radio.get_by_test_id("constellation").get_attribute(f"data-{name}"))


def painted(canvas) -> int:
    """Pixels of a canvas that are not empty."""
    return canvas.evaluate("""canvas => {
        const { width, height } = canvas;
        const pen = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
        pen.drawImage(canvas, 0, 0);
        return pen.getImageData(0, 0, width, height).data.filter((value, at) => at % 4 === 3 && value).length;
    }""")


def test_a_channel_of_bits_says_that_it_has_no_symbols(page, radio):
    expect(radio.get_by_test_id("no-constellation")).to_contain_text("carries bits")
    expect(radio.locator("canvas")).to_have_count(0)


def test_symbols_that_arrived_over_awgn_are_drawn_over_their_grid(page, studio, radio):
    set_channel(page, studio, type="awgn", snr_db=10, order=16)
    shown = radio.get_by_test_id("constellation")
    expect(shown).to_have_attribute("data-order", "16")
    symbols, wrong = number(radio, "symbols"), number(radio, "wrong")
    assert symbols == 1024
    # With q = Q(√2) = 0.0786 a corner of 16-QAM is missed with 2q - q², an inner point with 4q - 4q².
    assert 0.151 * symbols - 6 * (0.151 * 0.849 * symbols) ** 0.5 < wrong
    assert wrong < 0.290 * symbols + 6 * (0.290 * 0.710 * symbols) ** 0.5
    payload = 224 * 224 * 3 * 8 // 4
    expect(shown).to_contain_text(f"16-QAM at 10 dB, 1,024 of {payload // 4:,} symbols of the frame")
    until(page, lambda: painted(shown.locator("canvas")) > 10 * symbols)
    set_channel(page, studio, type="rayleigh", snr_db=25, order=4)
    expect(shown).to_have_attribute("data-order", "4")
    expect(shown).to_contain_text("4-QAM at 25 dB")


def test_a_plan_shows_with_the_symbols_of_the_outlined_patch(page, studio, radio):
    set_channel(page, studio, type="mimo_ofdm", snr_db=20, coding="uncoded", order=64)
    shown = radio.get_by_test_id("constellation")
    expect(shown).to_have_attribute("data-order", "64")
    assert number(radio, "symbols") == 1024
    assert number(radio, "marked") == 0
    expect(radio).to_contain_text("784 subcarriers × 4 streams")
    expect(radio).to_contain_text(re.compile(r"the line is at Td = [\d.]+ ms"))
    strip = radio.locator("canvas.strip").first
    strip.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    expect(radio).to_contain_text(re.compile(r"subcarrier 1, stream 2: [\d.]+, of patch \d+"))
    live = radio.locator(".reading[aria-live=polite]")
    expect(live).to_have_count(1)
    expect(live).to_contain_text("subcarrier 1, stream 2")
    before = at_rest(page)
    ask(studio[0], "POST", "/v1/rounds")
    answered(page, before)
    expect(live).to_have_count(0)
    patch = page.get_by_test_id("camera-1").get_by_test_id("patch")
    expect(patch).to_contain_text("subchannels 16")
    expect(patch).to_contain_text("of a mean of 1")
    expect(patch).to_contain_text("squared grey levels")
    bars = radio.locator("canvas.bars").last
    bars.focus()
    page.keyboard.press("Home")
    expect(radio).to_contain_text(re.compile(r"patch \d+, block 1 of 196: [\d.]+ ms"))
    # The patch with most attention has its bits, and so some of the symbols that are spread over the frame.
    expect(shown).not_to_have_attribute("data-marked", "0")
    first = patch.inner_text()
    page.keyboard.press("ArrowRight")
    expect(radio).to_contain_text(re.compile(r"patch \d+, block 2 of 196"))
    assert patch.inner_text() != first
    bars.blur()
    expect(page.locator(".patch")).to_have_count(0)


def test_blocks_that_are_taken_as_coded_have_no_symbols(page, studio, radio):
    set_channel(page, studio, type="mimo_ofdm", coding="ideal")
    expect(radio.get_by_test_id("no-constellation")).to_contain_text("taken as coded")
    expect(radio.get_by_test_id("constellation")).to_have_count(0)
    expect(radio.locator("canvas")).to_have_count(4)


def test_a_plan_that_is_not_known_any_more_is_not_taken_for_a_channel_of_bits(page, studio, radio):
    page.route("**/radio/*", lambda route: route.fulfill(json={"plan": None, "constellation": None}))
    page.get_by_text("Radio view", exact=True).click()
    page.get_by_text("Radio view", exact=True).click()
    expect(radio.get_by_test_id("channel-changed")).to_contain_text("its channel was changed while it was sent")
    expect(radio.get_by_test_id("no-constellation")).to_have_count(0)
    page.unroute("**/radio/*")
    page.get_by_text("Radio view", exact=True).click()
    page.get_by_text("Radio view", exact=True).click()
    expect(radio.locator("canvas.strip")).to_have_count(2)


def test_it_says_nothing_of_a_view_before_it_is_known(page, radio):
    held = []
    page.route("**/radio/*", lambda route: held.append(route))
    page.get_by_text("Radio view", exact=True).click()
    page.get_by_text("Radio view", exact=True).click()
    until(page, lambda: held)
    expect(radio.locator("p")).to_have_count(0)
    expect(radio.locator("canvas")).to_have_count(0)
    for route in held:
        route.continue_()
    page.unroute("**/radio/*")
    expect(radio.locator("canvas")).to_have_count(4)


def test_it_shows_a_camera_that_there_is(page, studio, radio):
    set_channel(page, studio, type="awgn", snr_db=10, order=16)
    page.get_by_test_id("radio-camera").select_option("camera-3")
    expect(radio.get_by_test_id("constellation")).to_be_visible()
    vote, asked = page.get_by_test_id("vote"), []
    page.on("request", lambda request: asked.append(request.url) if "/radio/" in request.url else None)
    page.get_by_test_id("knob-cameras").fill("2")
    expect(vote).to_contain_text("of 2 views")
    past = int(vote.get_attribute("data-round"))
    expect(page.get_by_test_id("radio-camera")).to_have_value("camera-1")
    until(page, lambda: any(url.endswith(f"/{past}/radio/camera-1") for url in asked))
    before = at_rest(page)
    page.get_by_test_id("knob-cameras").fill("4")
    answered(page, before)
    page.get_by_test_id("radio-camera").select_option("camera-3")
    expect(radio.get_by_test_id("constellation")).to_be_visible()
    page.get_by_test_id("scrub").fill(str(past))
    expect(radio).to_contain_text("No view of camera-3 in this round.")
    expect(radio.get_by_test_id("constellation")).to_have_count(0)
    page.get_by_test_id("scrub").press("End")
    expect(radio.get_by_test_id("constellation")).to_be_visible()


def test_it_is_accessible(page, studio, radio):
    from axe_playwright_python.sync_playwright import Axe

    set_channel(page, studio, type="mimo_ofdm", coding="uncoded")
    expect(radio.get_by_test_id("constellation")).to_be_visible()
    found = Axe().run(page).response["violations"]
    assert not [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in SERIOUS]
