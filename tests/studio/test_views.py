"""What the page shows in a real browser where answers are late, fail, or are of another round than it looks at."""

import pytest
from browser import all_vote, answered, at_rest, until
from playwright.sync_api import expect

FAILED = ("Failed to load resource",)


@pytest.fixture
def failing(page, browser):
    """Answers requests whose path matches with a status of a failure, until it is told that all is well."""
    browser.expected, patterns = FAILED, []

    def fail(pattern, status=500):
        patterns.append(pattern)
        page.route(pattern, lambda route: route.fulfill(status=status, json={"detail": "made to fail"}))

    def heal():
        while patterns:
            page.unroute(patterns.pop())

    yield fail, heal
    heal()
    browser.expected = ()


def painted(canvas) -> bool:
    """Whether anything is."""
    script = """canvas => {
        const { width, height } = canvas;
        const pen = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
        pen.drawImage(canvas, 0, 0);
        return pen.getImageData(0, 0, width, height).data.some(Boolean);
    }"""
    return canvas.evaluate(script)


def test_links_are_compared_while_rounds_run_one_comparison_at_a_time(page):
    asked, most = set(), 0

    def begins(request):
        nonlocal most
        if request.url.endswith("/v1/comparisons"):
            asked.add(request)
            most = max(most, len(asked))

    def ends(request):
        asked.discard(request)

    page.on("request", begins)
    page.on("requestfinished", ends)
    page.get_by_test_id("knob-every").fill("0")
    page.get_by_test_id("run").click()
    page.get_by_text("Compare two links").click()
    for name in ("fixed", "top-k"):
        page.get_by_test_id("compare-right").select_option(name)
        expect(page.get_by_test_id("compared-right").locator("h3")).to_have_text(f"right: {name}")
    page.get_by_test_id("run").click()
    expect(page.get_by_test_id("run")).to_have_text("Run")
    page.get_by_text("Compare two links").click()
    page.remove_listener("request", begins)
    page.remove_listener("requestfinished", ends)
    assert most == 1


def test_what_a_comparison_lacks_is_asked_for_again(page, failing):
    fail, heal = failing
    fail("**/v1/links")
    fail("**/v1/curves")
    page.get_by_text("Compare two links").click()
    expect(page.get_by_test_id("point-right")).to_have_text("right: the committed curves are not here yet")
    expect(page.get_by_test_id("compare-left").locator("option")).to_have_count(0)
    heal()
    expect(page.get_by_test_id("compare-left").locator("option")).not_to_have_count(0)
    expect(page.get_by_test_id("point-right")).to_contain_text("fixed")
    divided = page.locator(".divided")
    until(page, lambda: painted(divided.locator("canvas")))
    fail("**/v1/images/*")
    page.get_by_test_id("compare-right").select_option("top-k")
    expect(divided).to_contain_text("the pictures could not be fetched")
    assert not painted(divided.locator("canvas"))
    heal()
    expect(divided).not_to_contain_text("the pictures could not be fetched")
    assert painted(divided.locator("canvas"))
    page.get_by_text("Compare two links").click()


def test_a_comparison_that_is_refused_does_not_leave_that_of_other_links(page, failing):
    fail, heal = failing
    page.get_by_text("Compare two links").click()
    expect(page.get_by_test_id("compared-right").locator("h3")).to_have_text("right: fixed")
    fail("**/v1/comparisons", status=422)
    page.get_by_test_id("compare-right").select_option("top-k")
    expect(page.get_by_test_id("compare-problem")).to_have_text("made to fail")
    expect(page.get_by_test_id("compared-right")).to_have_count(0)
    heal()
    page.get_by_text("Compare two links").click()


def test_an_image_that_could_not_be_fetched_is_asked_for_again(page, failing):
    fail, heal = failing
    fail("**/v1/images/*")
    page.get_by_test_id("panel-sent").click()
    sent = page.get_by_test_id("camera-1").locator("figure", has_text="sent")
    expect(sent).to_contain_text("could not be fetched")
    fail("**/v1/images/*", status=404)  # is asked before the other
    expect(sent).to_contain_text("no longer held: play the round again")
    heal()
    page.get_by_test_id("panel-sent").click()
    expect(sent).to_have_count(0)
    page.get_by_test_id("panel-sent").click()
    until(page, lambda: painted(sent.locator("canvas")))
    expect(sent).to_have_text("sent")
    page.get_by_test_id("panel-sent").click()


def test_a_studio_that_refuses_to_tell_says_why(page, browser):
    browser.expected = FAILED
    with browser.page("about:blank") as other:
        refusal = {"status": 429, "json": {"detail": "as many pages follow as may"}}
        other.route("**/v1/events", lambda route: route.fulfill(**refusal))
        other.goto(page.url)
        expect(other.get_by_role("status")).to_contain_text("as many pages follow as may")
        other.unroute("**/v1/events")
        expect(other.get_by_test_id("vote")).to_contain_text("of 4 views")
    browser.expected = ()


def test_a_past_round_is_told_with_its_own_cameras(page, studio):
    vote = page.get_by_test_id("vote")
    page.get_by_test_id("knob-cameras").fill("2")
    expect(vote).to_contain_text("of 2 views")
    past = int(vote.get_attribute("data-round"))
    before = at_rest(page)
    page.get_by_test_id("knob-cameras").fill("4")
    answered(page, before)
    all_vote(page, studio[0])
    assert vote.locator("tbody tr").count() == 4
    page.get_by_test_id("scrub").fill(str(past))
    expect(vote).to_contain_text(f"round {past},")
    expect(vote.locator("tbody tr")).to_have_count(2)
    expect(vote.get_by_test_id("missing")).to_have_count(0)
    expect(vote.get_by_role("img", name="agrees").or_(vote.get_by_role("img", name="differs"))).to_have_count(2)
    page.get_by_test_id("scrub").press("End")
    expect(vote.locator("tbody tr")).to_have_count(4)


def test_arithmetic_stays_until_the_next_view_is_there(page):
    page.get_by_test_id("camera-1").locator(".canvas").first.click()
    arithmetic = page.get_by_test_id("arithmetic")
    expect(arithmetic.locator("li")).to_have_count(6)
    said = """element => {
        window.said = [];
        const watcher = new MutationObserver(() => window.said.push(element.textContent));
        watcher.observe(element, { subtree: true, childList: true, characterData: true });
    }"""
    arithmetic.evaluate(said)
    before = at_rest(page)
    page.get_by_test_id("knob-gamma").fill("2")
    answered(page, before)
    expect(arithmetic.locator("sup").first).to_have_text("γ")
    expect(arithmetic.locator("sup").nth(1)).to_have_text("2")
    assert not [text for text in page.evaluate("window.said") if "no view in this round" in text]


def test_arithmetic_tells_of_the_plan_that_chose_the_bits(page):
    arithmetic = page.get_by_test_id("arithmetic")
    expect(arithmetic).to_contain_text("by the method incremental")
    before = at_rest(page)
    page.get_by_test_id("preset-mimo").click()
    answered(page, before)
    expect(arithmetic).to_contain_text("by the plan's method ia-qsmpa")
    expect(arithmetic.locator("sup").nth(1)).to_have_text("1")  # γ is 2, and no plan's
    for knob in ("preset-paper", "knob-gamma"):
        before = at_rest(page)
        page.get_by_test_id(knob).fill("1") if knob == "knob-gamma" else page.get_by_test_id(knob).click()
        answered(page, before)


def test_arithmetic_says_where_inverted_bits_are_not_known(page, first):
    arithmetic = page.get_by_test_id("arithmetic")
    expect(arithmetic).to_contain_text("arrived inverted, a share of")

    def without_flips(route):
        told = route.fetch().json()
        for view in told["views"].values():
            del view["maps"]["flips"]
        route.fulfill(json=told)

    page.route(f"**/v1/rounds/{first}", without_flips)
    page.get_by_test_id("scrub").fill(str(first))
    expect(page.get_by_test_id("vote")).to_contain_text(f"round {first},")
    expect(arithmetic).to_contain_text("it is not known which arrived inverted")
    page.unroute(f"**/v1/rounds/{first}")
    page.get_by_test_id("scrub").press("End")
    arithmetic.get_by_role("button").click()
    expect(arithmetic).to_have_count(0)
