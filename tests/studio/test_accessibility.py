"""The page for every reader: by keys alone, in any width, theme and size of text, at rest where that is wished."""

import pytest
from browser import all_vote, answered, ask, at_rest
from playwright.sync_api import expect

WIDTHS = (360, 1280, 2560)
SERIOUS = ("serious", "critical")
MOST_TABS, MORE_TABS = 250, 10  # once round the page, and some
REFUSED = ("Failed to load resource: the server responded with a status of 422",)
PANELS = ("Compare two links", "Radio view", "Scenario", "Own pictures")
# Whatever can be focused, by the browser's own word.
REACHABLE = """() => [...document.querySelectorAll('body *')].filter(
  (each) => each.tabIndex >= 0 && !each.disabled && each.checkVisibility({visibilityProperty: true})
).map((each) => each.dataset.testid ?? each.ariaLabel ?? each.textContent.slice(0, 40))"""
FOCUSED = """() => {
  const each = document.activeElement, style = getComputedStyle(each);
  return each === document.body ? null : {
    name: each.dataset.testid ?? each.ariaLabel ?? each.textContent.slice(0, 40),
    outline: style.outlineStyle === 'none' ? 0 : parseFloat(style.outlineWidth),
  };
}"""
MOVING = """() => [...document.querySelectorAll('*')].filter((each) => {
  const style = getComputedStyle(each);
  return `${style.transitionDuration},${style.animationDuration}`.split(',').some((text) => parseFloat(text) > 0);
}).map((each) => each.outerHTML.slice(0, 80))"""


def open_all(page):
    """Every panel, what is there on demand, and a problem, which is told of."""
    for name in PANELS:
        page.get_by_text(name, exact=True).click()
    for button in page.get_by_role("button", name="about ").all():
        button.click()
    page.get_by_test_id("camera-1").locator(".stagebar").click()
    page.get_by_test_id("camera-1").locator(".canvas").first.click()  # the arithmetic of a patch
    page.get_by_test_id("knob-rho").fill("7")
    expect(page.get_by_test_id("problem")).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_everything_that_can_be_opened_is_readable(browser, page, width, theme):
    from axe_playwright_python.sync_playwright import Axe

    browser.expected = REFUSED
    with browser.page(page.url, width=width, color_scheme=theme, reduced_motion="reduce") as other:
        expect(other.get_by_test_id("vote")).to_contain_text("of 4 views")
        open_all(other)
        assert other.evaluate("document.documentElement.scrollWidth") <= width
        found = Axe().run(other).response["violations"]
        assert not [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in SERIOUS]
    browser.expected = ()


def test_a_plan_and_a_scenario_fit_into_a_narrow_page(browser, page, studio):
    browser.expected = REFUSED
    kept = ask(studio[0], "GET", "/v1/channel/impairments")
    steps = [{"at": 0, "default": {"preset": "clear"}}, {"at": 3600}]
    ask(studio[0], "PUT", "/v1/channel/scenario", json={"loop": True, "steps": steps})
    before = at_rest(page)
    met = {"type": "mimo_ofdm", "coding": "uncoded"}
    ask(studio[0], "PATCH", "/v1/channel/impairments", json={"default": met, "devices": {"camera-2": met}})
    answered(page, before)
    all_vote(page, studio[0])
    with browser.page(page.url, width=WIDTHS[0]) as other:
        expect(other.get_by_test_id("vote")).to_contain_text("of 4 views")
        open_all(other)
        for name in ("constellation", "scenario-position"):
            expect(other.get_by_test_id(name)).to_be_visible()
        expect(other.locator(".own")).to_be_visible()
        assert other.evaluate("document.documentElement.scrollWidth") <= WIDTHS[0]
    before = at_rest(page)
    ask(studio[0], "DELETE", "/v1/channel/scenario")
    ask(studio[0], "PUT", "/v1/channel/impairments", json=kept)
    answered(page, before)
    all_vote(page, studio[0])
    browser.expected = ()


@pytest.mark.parametrize("width", WIDTHS)
def test_the_focus_goes_as_the_page_is_seen(browser, page, width):
    """Down the page where all is in one column, and else not up again within a column."""
    with browser.page(page.url, width=width) as other:
        expect(other.get_by_test_id("vote")).to_contain_text("of 4 views")
        found = other.evaluate(
            "[...document.querySelectorAll('.cameras, .panel')].map(each => each.getBoundingClientRect())"
            ".map(({ left, top }) => [left, top])"
        )
        for column in {left for left, _ in found}:
            tops = [top for left, top in found if left == column]
            assert tops == sorted(tops)
        assert len({left for left, _ in found}) == {360: 1, 1280: 2, 2560: 4}[width]
        if width > 360:  # what is below the cameras begins there, however long the knobs beside them are
            edges = "[document.querySelector('.upper'), document.querySelector('.lower')]"
            upper, lower = other.evaluate(f"{edges}.map(each => each.getBoundingClientRect().toJSON())")
            assert 0 < lower["top"] - upper["bottom"] < 20
        other.keyboard.press("Tab")
        expect(other.get_by_test_id("skip")).to_be_focused()
        other.keyboard.press("Enter")
        other.keyboard.press("Tab")
        assert other.evaluate("document.activeElement.closest('.knobs') !== null")


@pytest.mark.parametrize("width", [720, 1280])
def test_text_may_be_twice_as_large(browser, page, width):
    browser.expected = REFUSED
    with browser.page(page.url, width=width) as other:
        expect(other.get_by_test_id("vote")).to_contain_text("of 4 views")
        size = "parseFloat(getComputedStyle(document.querySelector('.panel p')).fontSize)"
        before = other.evaluate(size)
        other.evaluate("document.documentElement.style.fontSize = '175%'")  # of it, pages are 87.5 %
        assert other.evaluate(size) == pytest.approx(2 * before)
        open_all(other)
        assert other.evaluate("document.documentElement.scrollWidth") <= width
    browser.expected = ()


def test_nothing_moves_where_motion_is_unwelcome(browser, page):
    for motion in ("reduce", "no-preference"):
        with browser.page(page.url, reduced_motion=motion) as other:
            expect(other.get_by_test_id("vote")).to_contain_text("of 4 views")
            assert bool(other.evaluate(MOVING)) == (motion == "no-preference")


def test_every_control_is_reached_by_tab_and_seen(browser, page):
    with browser.page(page.url, width=1280) as other:
        expect(other.get_by_test_id("vote")).to_contain_text("of 4 views")
        for name in PANELS:
            other.get_by_text(name, exact=True).click()
        wanted, found = other.evaluate(REACHABLE), set()
        for _ in range(len(wanted) + MORE_TABS):
            other.keyboard.press("Tab")
            focused = other.evaluate(FOCUSED)
            if focused is not None:
                assert focused["outline"] >= 2, f"the focus is not seen: {focused}"
                found.add(focused["name"])
        assert set(wanted) <= found, set(wanted) - found


def reach(page, wanted):
    """Presses Tab until an element that matches is focused."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", wanted):
            return
    raise AssertionError(f"Tab does not lead to {wanted}")


def by_id(name):
    return f"[data-testid='{name}']"


def test_rounds_are_steered_by_keys(page):
    reach(page, by_id("freeze"))
    page.keyboard.press("Space")
    expect(page.get_by_test_id("freeze")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Space")
    expect(page.get_by_test_id("freeze")).to_have_attribute("aria-pressed", "false")
    before = at_rest(page)
    reach(page, by_id("step"))
    page.keyboard.press("Enter")
    answered(page, before)
    before = at_rest(page)
    reach(page, by_id("run"))
    page.keyboard.press("Enter")
    answered(page, before + 1)
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("run")).to_have_text("Run")
    assert page.get_by_test_id("run").get_attribute("aria-pressed") is None  # its text says what it does


def test_knobs_are_turned_by_keys_and_a_problem_is_dismissed(page, browser):
    browser.expected = REFUSED
    payload = page.get_by_test_id("camera-1").locator("dl.bits")
    reach(page, by_id("knob-rho"))
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("7")
    expect(page.get_by_test_id("problem")).to_be_visible()
    reach(page, "[aria-label='dismiss']")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("problem")).to_have_count(0)
    expect(page.get_by_test_id("knob-rho")).to_be_focused()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("0.125")
    expect(payload).to_contain_text(f"{224 * 224 * 3:,} bit")
    reach(page, by_id("knob-rho-slider"))
    page.keyboard.press("End")
    expect(payload).to_contain_text(f"{224 * 224 * 3 * 8:,} bit")
    expect(page.get_by_test_id("knob-rho")).to_have_value("1")
    reach(page, "[aria-label='about gamma']")
    page.keyboard.press("Enter")
    expect(page.locator(".about .equation")).to_be_visible()
    page.keyboard.press("Enter")
    browser.expected = ()


def test_a_problem_gives_the_focus_back_however_soon_that_moves_to_it(page, browser):
    browser.expected = REFUSED
    knob = page.get_by_test_id("knob-rho")
    page.evaluate("""new MutationObserver((_, observer) => {
        const dismiss = document.querySelector("[aria-label='dismiss']");
        if (dismiss) { observer.disconnect(); dismiss.focus(); }
    }).observe(document.body, { childList: true, subtree: true })""")
    knob.focus()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("7")
    expect(page.locator("[aria-label='dismiss']")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("problem")).to_have_count(0)
    expect(knob).to_be_focused()
    browser.expected = ()


def test_patches_and_stages_are_read_by_keys(page):
    tile = page.get_by_test_id("camera-1")
    reach(page, f"{by_id('camera-1')} .canvas")
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    expect(tile.get_by_test_id("patch")).to_contain_text("row 1, column 1")
    reach(page, f"{by_id('camera-1')} .stagebar")
    page.keyboard.press("Enter")
    expect(tile.locator(".stages li").first).to_contain_text("ms")
    page.keyboard.press("Enter")


def test_keys_stay_within_a_row_and_the_tile_in_which_they_are_pressed_tells_of_the_patch(page, studio):
    tile, other = page.get_by_test_id("camera-1"), page.get_by_test_id("camera-2")
    canvas = tile.locator(".canvas").first
    box = canvas.bounding_box()
    canvas.hover(position={"x": 13.5 / 14 * box["width"], "y": 2.5 / 14 * box["height"]})
    canvas.focus()
    expect(tile.locator(".reading")).to_have_attribute("aria-live", "off")
    expect(canvas).to_have_role("application")
    for key, place in (("ArrowRight", "row 2, column 13"), ("ArrowDown", "row 3, column 13")):
        page.keyboard.press(key)
        expect(tile.get_by_test_id("patch")).to_contain_text(place)
        expect(tile.locator(".reading")).to_have_attribute("aria-live", "polite")
        expect(other.locator(".reading")).to_have_attribute("aria-live", "off")
    before = at_rest(page)
    ask(studio[0], "POST", "/v1/rounds")
    answered(page, before)
    expect(tile.get_by_test_id("patch")).to_contain_text("row 3, column 13")
    expect(tile.locator(".reading")).to_have_attribute("aria-live", "off")  # not told anew of every round
    page.keyboard.press("ArrowDown")
    expect(tile.locator(".reading")).to_have_attribute("aria-live", "polite")
    canvas.blur()
    expect(tile.locator(".reading")).to_have_attribute("aria-live", "off")
    page.get_by_test_id("vote").hover()


def test_what_closes_gives_the_focus_back(page):
    canvas = page.get_by_test_id("camera-2").locator(".canvas").first
    arithmetic = page.get_by_test_id("arithmetic")
    for key in ("Enter", "Escape"):
        canvas.focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(arithmetic).to_be_visible()
        arithmetic.get_by_role("button", name="close the arithmetic").focus()
        page.keyboard.press(key)
        expect(arithmetic).to_have_count(0)
        expect(canvas).to_be_focused()
    canvas.blur()


def test_a_past_round_is_opened_by_keys(page):
    oldest = page.get_by_test_id("scrub").get_attribute("min")
    reach(page, by_id("scrub"))
    page.keyboard.press("Home")
    expect(page.get_by_test_id("vote")).to_contain_text(f"round {oldest},")
    page.keyboard.press("End")
    expect(page.get_by_test_id("vote")).not_to_contain_text("A past round is shown")


def test_panels_open_and_the_divider_moves_by_keys(page):
    for name in ("compare", "radio", "scenario"):
        reach(page, f"{by_id(name)} > summary")
        page.keyboard.press("Enter")
        expect(page.get_by_test_id(name)).to_have_attribute("open", "")
    expect(page.get_by_test_id("divider")).to_have_value("0.5")
    reach(page, by_id("divider"))
    page.keyboard.press("ArrowRight")
    expect(page.get_by_test_id("divider")).to_have_value("0.51")
    for name in ("compare", "radio", "scenario"):
        reach(page, f"{by_id(name)} > summary")
        page.keyboard.press("Enter")
        expect(page.get_by_test_id(name)).not_to_have_attribute("open", "")
