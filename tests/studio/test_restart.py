"""What a page's address says is given to a studio that begins, was started anew, or whose page is open."""

import asyncio
import socket
import threading

import httpx
import pytest
from browser import browsing, until
from playwright.sync_api import expect
from processes import running

from semlink.service.admission import Admission
from semlink.service.http_connections import HttpServer
from semlink.service.listener import Health
from studio.api import create_app
from studio.settings import StudioSettings
from studio.studio import Studio

ADDRESS = "#rho=0.125&channel=bsc&channel.ber=0.03"
LOST = "the studio does not answer; asking again"


class Site:
    """A studio without cameras and a server, in a thread; its emulator is known of once it `knows`."""

    def __init__(self, emulator: str) -> None:
        self._emulator, self.port = emulator, 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", self.port))
        self._socket.listen()
        self.port = self._socket.getsockname()[1]
        self.knows, self._started = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        self._started.wait()

    async def _serve(self) -> None:
        self.studio, health = Studio(StudioSettings()), Health()
        self.studio.running.keep = lambda names: False
        self.studio.running.channel.http, health.ready = self._emulator, True
        self._server = HttpServer(create_app(self.studio, health, Admission()), 64, None)
        following = asyncio.create_task(self._follow())
        self._started.set()
        await self._server.serve(sockets=[self._socket])
        following.cancel()

    async def _follow(self) -> None:
        while True:
            if self.knows.is_set():
                await self.studio.running.control.refresh()
            await asyncio.sleep(0.05)

    def stop(self) -> None:
        self.studio.events.end()
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture
def emulator():
    with running("-m", "channel_emulator", "--upstream", "127.0.0.1:9") as process:
        yield process.http


@pytest.fixture
def site(emulator):
    site = Site(str(emulator.base_url.netloc, "ascii"))
    yield site
    site.stop()


@pytest.fixture(scope="module")
def browser():
    with browsing() as watched:
        watched.expected = ("Failed to load resource",)
        yield watched
    assert not watched.problems
    assert not watched.foreign


def met(emulator) -> dict:
    return emulator.get("/v1/impairments").json()["default"]


def test_the_page_gives_back_what_its_address_says_and_runs_on(emulator, site, browser):
    with browser.page(site.url + ADDRESS) as page:
        until(page, lambda: site.studio.link.rho == 0.125)
        site.knows.set()  # later than the page
        until(page, lambda: met(emulator).get("ber") == 0.03)
        page.get_by_test_id("run").click()
        until(page, lambda: site.studio.link.running)
        site.stop()
        expect(page.get_by_text(LOST)).to_be_visible()
        emulator.put("/v1/impairments", json={"default": {"type": "none"}}).raise_for_status()
        site.start()
        expect(page.get_by_text(LOST)).to_have_count(0)
        until(page, lambda: site.studio.link.rho == 0.125 and site.studio.link.running)
        site.knows.set()
        until(page, lambda: met(emulator).get("ber") == 0.03)
        expect(page.get_by_test_id("knob-ber")).to_have_value("0.03")
        expect(page.get_by_test_id("knob-rho")).to_have_value("0.125")
        assert page.url.endswith(ADDRESS)


def test_a_page_that_begins_anew_leaves_a_scenario_and_other_devices_alone(emulator, site, browser):
    steps = [
        {"at": 0, "default": {"type": "bsc", "ber": 0.03}, "devices": {"drone": {"type": "none"}}},
        {"at": 3600},
    ]
    emulator.put("/v1/scenario", json={"steps": steps}).raise_for_status()
    site.knows.set()
    with browser.page(site.url + ADDRESS) as page:
        until(page, lambda: page.url.endswith("#rho=0.125"))  # it changes by itself
        assert emulator.get("/v1/scenario").json()["playing"]
        with page.expect_response(lambda answer: answer.request.method == "PUT"):  # it undoes what came before
            page.reload()
        expect(page.get_by_test_id("knob-ber")).to_have_value("0.03")
        page.get_by_test_id("knob-every").fill("2")
        until(page, lambda: "every=2" in page.url)
        assert emulator.get("/v1/scenario").json()["playing"]
        page.get_by_test_id("knob-ber").fill("0.04")
        until(page, lambda: page.url.endswith("channel.ber=0.04"))
        assert not emulator.get("/v1/scenario").json()["playing"]
    with browser.page(site.url + ADDRESS) as page:
        until(page, lambda: met(emulator).get("ber") == 0.03)
        assert emulator.get("/v1/impairments").json()["devices"]["drone"]["type"] == "none"


def test_an_address_that_is_pasted_into_an_open_page_holds(emulator, site, browser):
    site.knows.set()
    with browser.page(site.url + ADDRESS) as page:
        until(page, lambda: met(emulator).get("ber") == 0.03)
        page.get_by_test_id("knob-gamma").fill("2")
        until(page, lambda: "gamma=2" in page.url)
        page.evaluate("location.hash = 'rho=0.5&channel=bsc&channel.ber=0.2&compare=as+set,learned,2'")
        until(page, lambda: site.studio.link.rho == 0.5 and met(emulator).get("ber") == 0.2)
        assert site.studio.link.gamma == 1
        expect(page.get_by_test_id("compare-camera")).to_have_value("2")
        until(page, lambda: page.url.endswith("#rho=0.5&channel=bsc&channel.ber=0.2&compare=as+set%2Clearned%2C2"))


def test_why_an_address_is_refused_stays(emulator, site, browser):
    with browser.page(f"{site.url}#rho=7&channel=bsc&channel.ber=0.03") as page:
        problem = page.get_by_test_id("problem")
        expect(problem).to_contain_text("rho: must be at most 1")
        site.knows.set()
        expect(page.get_by_test_id("knob-ber")).to_have_value("0.03")
        until(page, lambda: page.url.endswith("#channel=bsc&channel.ber=0.03"))
        expect(problem).to_contain_text("rho: must be at most 1")
        page.evaluate("location.hash = 'rho=7&channel=bsc&channel.ber=3'")
        expect(problem).to_contain_text("rho: must be at most 1")
        expect(problem).to_contain_text("ber")
        page.evaluate("location.hash = 'rho=0.5'")
        expect(problem).to_have_count(0)


def test_knobs_that_cannot_be_had_are_asked_for_again(site, browser):
    with browser.page("about:blank") as page:
        page.route("**/v1/knobs", lambda route: route.abort())
        page.goto(site.url + ADDRESS)
        expect(page.get_by_role("status")).to_contain_text("waits for the studio")
        expect(page.get_by_test_id("problem")).to_contain_text("the studio does not answer")
        page.unroute("**/v1/knobs")
        expect(page.get_by_test_id("knob-rho")).to_have_value("0.125")
        expect(page.get_by_test_id("problem")).to_have_count(0)


def test_what_an_address_says_is_not_lost_while_knobs_cannot_be_had(site, browser):
    with browser.page(f"{site.url}#rho=0.125") as page:
        expect(page.get_by_test_id("knob-rho")).to_have_value("0.125")
        page.route("**/v1/knobs", lambda route: route.abort())
        site.stop()
        expect(page.get_by_text(LOST)).to_be_visible()
        site.start()
        expect(page.get_by_text(LOST)).to_have_count(0)
        httpx.patch(f"{site.url}v1/settings", json={"every": 2}, trust_env=False).raise_for_status()
        expect(page.get_by_test_id("knob-every")).to_have_value("2")
        page.unroute("**/v1/knobs")
        until(page, lambda: site.studio.link.rho == 0.125)
        until(page, lambda: page.url.endswith("#rho=0.125"))
        assert site.studio.link.every == 1
