"""The studio attached to what runs, behind keys and TLS, in a real browser; what stops and what comes back."""

import json
import os
import re
import signal
import ssl
from contextlib import ExitStack

import httpx
import pytest
from browser import ANSWER_SECONDS, browsing, chromium, round_of, running_studio, until
from closed_site import KEY, OTHER, addresses, emulator, grey_server, make_site
from playwright.sync_api import expect
from processes import LIMITS, keep_port

UNAUTHORIZED = "Failed to load resource: the server responded with a status of 401"
AWAY = "Failed to load resource: net::ERR_"
GONE = "Failed to load resource: the server responded with a status of 404"  # a picture of the studio before


class Site:
    """A server and an emulator that want certificates and keys; the emulator can be started again on its ports."""

    def __init__(self, folder, stack):
        self.folder = make_site(folder)
        self.server = stack.enter_context(grey_server(self.folder))
        self._stack, self.channel = stack.enter_context(ExitStack()), None
        self.start_channel("0.03")

    def start_channel(self, ber):
        ports = self.channel.ports if self.channel else (0, 0)
        self._stack.close()
        with keep_port(ports[0]), keep_port(ports[1]):
            started = emulator(self.folder, self.server.grpc_address, "--ber", ber, ports=ports)
            self.channel = self._stack.enter_context(started)

    def calling(self) -> list[object]:
        """Flags of a studio that calls these, and whose page is served over TLS, too."""
        return [
            *("--tls-server-authority", self.folder / "authority.pem", "--api-key-file", self.folder / "key"),
            *("--tls-certificate", self.folder / "studio.pem", "--tls-key", self.folder / "studio.key"),
            *("--channel", addresses(self.channel)),
        ]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    chromium()
    with ExitStack() as stack:
        yield Site(tmp_path_factory.mktemp("site"), stack)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def studio(site, out):
    flags = [*site.calling(), "--server", addresses(site.server), "--api-keys-file", site.folder / "keys"]
    with running_studio(out, *flags) as (address, process), of(site, address, KEY) as client:
        client.patch("/v1/settings", json={"cameras": 1}).raise_for_status()
        yield f"https://{address}/", process


@pytest.fixture(scope="module")
def page(studio):
    with browsing() as watched:
        watched.expected = (UNAUTHORIZED, AWAY, GONE)
        with watched.page(studio[0], ignore_https_errors=True) as page:
            yield page
    assert not watched.foreign
    assert not watched.problems


def of(site, address, key) -> httpx.Client:
    context = ssl.create_default_context(cafile=str(site.folder / "authority.pem"))
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.Client(
        base_url=f"https://{address}",
        verify=context,
        headers=headers,
        trust_env=False,
        timeout=60,
        limits=LIMITS,
    )


def answered(page, after):
    """Waits for a round later than `after` of the one camera."""
    until(page, lambda: round_of(page) > after)


def test_the_page_asks_for_a_key_and_says_that_another_is_none(page):
    expect(page.get_by_test_id("key")).to_be_visible()
    expect(page.get_by_test_id("key-refused")).to_have_count(0)
    page.get_by_test_id("key").fill(OTHER)
    page.get_by_test_id("use-key").click()
    expect(page.get_by_test_id("key-refused")).to_be_visible()
    page.get_by_test_id("key").fill("no key – at all")
    page.get_by_test_id("use-key").click()
    assert page.get_by_test_id("key").evaluate("field => !field.validity.valid")
    page.get_by_test_id("key").fill(f" {KEY}")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("camera-1")).to_have_attribute("data-round", re.compile("[1-9]"))


def test_with_it_all_is_watched_steered_and_seen(page):
    for name in ("server", "channel"):
        expect(page.get_by_test_id(f"process-{name}")).to_contain_text("ready")
    expect(page.get_by_test_id("knob-ber")).to_have_value("0.03")  # as the emulator was started by others
    expect(page.get_by_test_id("camera-1").locator(".classes")).to_contain_text("grey")
    before = round_of(page)
    page.get_by_test_id("knob-ber").fill("0.2")
    answered(page, before)
    assert page.get_by_test_id("camera-1").locator("canvas").count() == 4


def test_the_key_is_neither_in_the_address_nor_in_a_log(page, out):
    asked = page.evaluate("performance.getEntriesByType('resource').map(each => each.name)")
    assert any("/v1/events" in each for each in asked)
    assert KEY not in json.dumps([page.url, *asked])
    logs = [path.read_text() for path in out.rglob("*.log")]
    assert any("open the page" in each for each in logs)
    assert not any(KEY in each for each in logs)


def test_a_server_that_stands_still_is_silent_until_it_goes_on(page, site):
    os.kill(site.server.process.pid, signal.SIGSTOP)
    try:
        expect(page.get_by_test_id("process-server")).to_contain_text("silent: does not answer")
        expect(page.get_by_test_id("process-channel")).to_contain_text("ready")
    finally:
        os.kill(site.server.process.pid, signal.SIGCONT)
    expect(page.get_by_test_id("process-server")).to_contain_text("ready")
    before = round_of(page)
    page.get_by_test_id("step").click()
    answered(page, before)


def test_an_emulator_that_was_killed_is_found_again_as_it_is_then(page, site):
    before = round_of(page)
    site.channel.process.kill()
    expect(page.get_by_test_id("process-channel")).to_contain_text("silent: cannot be reached")
    site.start_channel("0.07")
    expect(page.get_by_test_id("process-channel")).to_contain_text("ready")
    expect(page.get_by_test_id("knob-ber")).to_have_value("0.07")
    answered(page, before)


def test_a_studio_started_anew_with_another_key_asks_for_it(page, studio, site, out):
    """On the same port, attached to the emulator alone: the page says that the server behind is not watched."""
    studio[1].send_signal(signal.SIGTERM)
    assert studio[1].wait(ANSWER_SECONDS) == 0
    port = int(studio[0].rstrip("/").rpartition(":")[2])
    flags = site.calling()
    with keep_port(port), running_studio(out, *flags, port=port, SEMLINK_API_KEYS=f"reader {OTHER}"):
        expect(page.get_by_test_id("key-refused")).to_be_visible()
        page.get_by_test_id("key").fill(OTHER)
        page.get_by_test_id("use-key").click()
        expect(page.get_by_test_id("process-server")).to_contain_text("unwatched: behind the channel")
        expect(page.get_by_test_id("process-channel")).to_contain_text("ready")
