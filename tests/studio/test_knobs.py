"""Knobs, comparison and vote in a real browser: what each knob says, what two links become, how it was decided."""

import json

import pytest
from browser import answered, at_rest, client_of, number
from playwright.sync_api import expect

SIDES = ("left", "right")


def test_knobs_have_their_symbol_and_equation(page):
    page.get_by_role("button", name="about gamma").click()
    expect(page.locator(".about math mfrac")).to_be_visible()
    expect(page.locator(".knobs p code").first).to_have_text("ber")
    expect(page.locator(".knobs")).not_to_contain_text("`")
    assert page.locator("label[for=knob-knob-gamma] math mi").text_content() == "γ"
    page.get_by_role("button", name="about gamma").click()
    assert page.evaluate("document.querySelector('label math').namespaceURI").endswith("Math/MathML")


def test_what_is_refused_is_told_at_the_knob_and_goes_back(page, browser):
    browser.expected = ("Failed to load resource: the server responded with a status of 422",)
    rho = page.get_by_test_id("knob-rho")
    rho.fill("7")
    refused = page.get_by_test_id("knob-rho-refused")
    expect(refused).to_contain_text("must be at most 1")
    expect(page.get_by_test_id("problem")).to_contain_text("rho: must be at most 1")
    expect(rho).to_have_attribute("aria-invalid", "true")
    assert rho.get_attribute("aria-describedby") == refused.get_attribute("id")
    rho.blur()
    expect(rho).to_have_value("0.25")
    before = at_rest(page)
    rho.fill("0.2")
    answered(page, before)
    expect(refused).to_have_count(0)
    expect(page.get_by_test_id("problem")).to_have_count(0)
    expect(rho).to_have_attribute("aria-invalid", "false")
    before = at_rest(page)
    rho.fill("0.25")
    answered(page, before)
    browser.expected = ()


def test_sliders_and_typing_turn_the_same(page):
    before = at_rest(page)
    page.get_by_test_id("knob-ber-slider").fill("500")
    answered(page, before)
    expect(page.get_by_test_id("knob-ber")).to_have_value("0.125")  # finer near 0: (1/2)³
    before = at_rest(page)
    page.get_by_test_id("knob-ber").fill("0.01")
    answered(page, before)
    expect(page.get_by_test_id("knob-ber-slider")).to_have_value("215")


def test_every_press_of_an_arrow_key_moves_a_slider(page):
    before = at_rest(page)
    slider = page.get_by_test_id("knob-ber-slider")
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    expect(slider).to_have_value("220")
    answered(page, before)
    expect(page.get_by_test_id("knob-ber")).to_have_value("0.0106")
    expect(slider).to_have_value("220")
    before = at_rest(page)
    page.get_by_test_id("knob-ber").fill("0.01")
    answered(page, before)


def test_a_slider_that_is_dragged_stays_where_it_is(page):
    before = at_rest(page)
    slider, knob = page.get_by_test_id("knob-rho-slider"), page.get_by_test_id("knob-rho")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.4 * box["width"], middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], middle)
    there = slider.input_value()
    assert 400 < int(there) < 600
    answered(page, before)
    assert slider.input_value() == there
    assert float(knob.input_value()) == pytest.approx(int(there) / 1000, abs=0.001)
    page.mouse.up()
    before = at_rest(page)
    knob.fill("0.25")
    answered(page, before)


def test_ranges_say_what_is_in_them(page):
    for name, label, said in (
        ("knob-seed", "seed", "At least 0, at most 1,048,575."),
        ("knob-design-ber", "design ber", "At least 0, at most 0.2307."),
        ("knob-gamma", "gamma", "Above 0."),
    ):
        knob = page.locator(".knob", has=page.get_by_test_id(name))
        what = knob.get_by_role("button", name=f"about {label}")
        what.click()
        expect(knob.locator(".about")).to_contain_text(said)
        what.click()


def test_a_channel_that_is_refused_does_not_stay_chosen(page, browser):
    browser.expected = ("Failed to load resource: the server responded with a status of 503",)
    away = {"status": 503, "json": {"detail": "the channel emulator does not answer: is it running?"}}
    page.route("**/v1/channel/impairments", lambda route: route.fulfill(**away))
    page.get_by_test_id("channel").select_option("mimo_ofdm")
    expect(page.get_by_test_id("problem")).to_contain_text("does not answer")
    expect(page.get_by_test_id("channel")).to_have_value("bsc")
    page.unroute("**/v1/channel/impairments")
    page.get_by_role("button", name="dismiss").click()
    browser.expected = ()


def test_knobs_show_where_they_have_an_effect(page):
    expect(page.get_by_test_id("knob-protect-for")).to_have_count(0)
    expect(page.get_by_test_id("knob-plan")).to_have_count(0)
    expect(page.get_by_test_id("knob-code-ber")).to_have_count(0)
    before = at_rest(page)
    page.get_by_test_id("knob-access").select_option("ldpc")
    answered(page, before)
    expect(page.get_by_test_id("knob-protect-for")).to_be_visible()
    expect(page.get_by_test_id("knob-code-ber")).to_be_visible()
    before = at_rest(page)
    page.get_by_test_id("knob-method").select_option("attention-sum-threshold")
    answered(page, before)
    expect(page.get_by_test_id("knob-threshold")).to_have_value("0.6")
    expect(page.get_by_test_id("knob-gamma")).to_have_count(0)
    before = at_rest(page)
    page.get_by_test_id("preset-mimo").click()
    answered(page, before)
    expect(page.get_by_test_id("knob-plan")).to_be_visible()
    for name in ("method", "threshold", "total-bits", "protect-for", "order"):
        expect(page.get_by_test_id(f"knob-{name}")).to_have_count(0)
    before = at_rest(page)
    page.get_by_test_id("preset-paper").click()
    answered(page, before)
    before = at_rest(page)
    page.get_by_test_id("knob-method").select_option("incremental")
    answered(page, before)


def test_a_preset_is_for_the_camera_that_is_chosen(page):
    before = at_rest(page)
    page.get_by_test_id("scope").select_option("camera-2")
    page.get_by_test_id("preset-clear").click()
    answered(page, before)
    assert number(page.get_by_test_id("camera-2"), "flipped") == 0
    assert number(page.get_by_test_id("camera-3"), "flipped") > 0
    assert "camera-2=none" in page.url
    scope = page.get_by_test_id("scope")
    assert scope.locator("option").all_inner_texts()[:3] == ["all other cameras", "camera-1", "camera-2 (its own)"]
    scope.select_option("default")
    expect(page.locator(".own")).to_contain_text("camera-2 meets a channel of its own: none")
    before = at_rest(page)
    page.get_by_role("button", name="camera-2 meets what all do").click()
    answered(page, before)
    assert number(page.get_by_test_id("camera-2"), "flipped") > 0
    expect(page.locator(".own")).to_have_count(0)
    assert scope.locator("option").first.inner_text() == "all cameras"


def test_whose_channel_is_turned_is_there(page):
    """A camera that is taken away by keys: a slider of whole numbers has a step for each."""
    page.get_by_test_id("scope").select_option("camera-4")
    slider = page.get_by_test_id("knob-cameras-slider")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_test_id("knob-cameras")).to_have_value("3")
    expect(page.get_by_test_id("camera-4")).to_have_count(0)
    expect(page.get_by_test_id("scope")).to_have_value("default")
    before = at_rest(page)
    page.keyboard.press("ArrowRight")
    expect(page.get_by_test_id("camera-4").locator(".standing")).to_contain_text("ready")
    answered(page, before)


def test_two_links_are_compared_over_equal_bits(page, browser, studio):
    page.get_by_test_id("preset-paper").click()
    expect(page.get_by_test_id("knob-ber")).to_have_value("0.05")
    page.get_by_text("Compare two links").click()
    right, told = page.get_by_test_id("compared-right"), page.get_by_test_id("compare-bits")
    for name in ("fixed", "iaq behind LDPC"):
        page.get_by_test_id("compare-right").select_option(name)
        expect(right.locator("h3")).to_have_text(f"right: {name}")
        left, bits = (int(page.get_by_test_id(f"compared-{side}").get_attribute("data-bits")) for side in SIDES)
        assert 0.9 * left < bits <= left
        expect(told).to_have_attribute("data-equal", "true")
        expect(told).to_contain_text(f"{left:,} and {bits:,} bit")
    assert number(right, "flipped") == 0
    expect(page.get_by_test_id("curves").locator("canvas")).to_be_visible()
    expect(page.get_by_test_id("point-left")).to_contain_text("% (")
    expect(page.get_by_test_id("point-left")).to_contain_text("of 500 photographs")
    expect(page.get_by_test_id("point-right")).to_contain_text("no curve was committed")
    page.get_by_test_id("divider").fill("0.2")
    expect(page.locator(".divider")).to_have_attribute("style", "left: 20%;")
    page.get_by_test_id("divider").press("ArrowRight")
    expect(page.locator(".divider")).to_have_attribute("style", "left: 21%;")
    page.get_by_test_id("compare-right").select_option("learned")
    expect(right.locator("h3")).to_have_text("right: learned")
    page.get_by_test_id("compare-equal").click()
    expect(told).to_contain_text("as both are set")


def test_an_address_shows_the_same_comparison(page, browser):
    page.get_by_test_id("compare-camera").select_option("2")
    assert "compare=as+set%2Clearned%2C2%2Cfree" in page.url
    with browser.page(page.url) as other:
        expect(other.get_by_test_id("compared-right").locator("h3")).to_have_text("right: learned")
        expect(other.get_by_test_id("compare-camera")).to_have_value("2")
        expect(other.get_by_test_id("compare-equal")).not_to_be_checked()
    page.get_by_text("Compare two links").click()
    expect(page.get_by_test_id("compared-right")).to_have_count(0)
    assert "compare=" not in page.url


@pytest.mark.parametrize(
    ("said", "votes", "expected"),
    [
        ([(1, 0.5), (1, 0.4), (1, 0.3), (2, 0.9)], 3, "a majority of 3 of 4"),
        ([(1, 0.5), (1, 0.5), (2, 0.4), (2, 0.3)], 2, "a tie of 2 and 2, decided by the higher summed confidence: "
         "class 1 1.000, class 2 0.700"),
        ([(1, 0.2), (1, 0.2), (2, 0.9), (3, 0.9)], 2, "the most views, 2 of 4: no other class has as many"),
        ([(1, 0.2), (1, 0.2), (1, 0.9), (1, 0.9)], 4, "all views agree"),
        ([(1, 0.2), (2, 0.1)], 1, "a tie of 1 and 1, decided by the higher summed confidence: "
         "class 1 0.200, class 2 0.100"),
    ],
)  # fmt: skip
def test_how_it_was_decided_is_said(page, browser, studio, said, votes, expected):
    """Of rounds that are made up, told to the page in place of the studio's events."""
    with client_of(studio[0]) as client:
        state = client.get("/v1/state").json()
    told = state["round"]
    views = sorted(told["views"].items())[: len(said)]
    for (_, view), (label, confidence) in zip(views, said, strict=True):
        view["top1"] = {"label": label, "name": f"class {label}", "confidence": confidence}
    told["views"], told["is_over"] = dict(views), True
    told["vote"] = {"label": 1, "name": "class 1", "votes": votes, "views": len(said), "fused": None}
    event = f"id: made-1\nevent: state\ndata: {json.dumps(state)}\n\n"
    with browser.page("about:blank") as other:
        other.route("**/v1/events", lambda route: route.fulfill(body=event, content_type="text/event-stream"))
        other.goto(studio[0])
        expect(other.get_by_test_id("decided")).to_have_text(expected)
        missing = other.get_by_test_id("missing")
        expect(missing).to_have_count(0 if len(said) == 4 else 1)
        if len(said) == 2:
            expect(missing).to_have_text("missing: camera-3, camera-4")
