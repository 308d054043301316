"""A browser for tests of the studio's page: the distribution's Chromium, which reaches loopback alone."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from processes import LIMITS, has_ended, wait_until

from benchmarks.chromium import FLAGS
from benchmarks.page_trace import tracing

ANSWER_SECONDS = 180
LOOPBACK = ("http://127.0.0.1:", "https://127.0.0.1:", "blob:http://127.0.0.1:", "data:")


def chromium() -> str:
    """The program; without it the test is skipped by name, and fails where CI=true."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        reason = "chromium is missing: apt-get install chromium (Debian, Ubuntu)"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return found


class Watched:
    """Pages of one browser: what they asked of others than loopback, which fails, and what else went wrong."""

    def __init__(self, browser):
        self._browser, self.foreign, self.problems = browser, [], []
        self.expected = ()
        """Beginnings of messages that a test brings about itself."""

    @contextmanager
    def page(self, url, width=1600, height=1000, **options) -> Iterator:
        context = self._browser.new_context(viewport={"width": width, "height": height}, **options)
        context.on("request", self._asked)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        try:
            page.goto(url)
            yield page
        finally:
            context.close()

    def tracing(self, page, path):
        """Within the context, a performance trace of a page is recorded into a file."""
        return tracing(self._browser, page, path)

    def _asked(self, request):
        # Not by routes, which would abort them: a route of a test that ends in mid-request hands that to the next
        # one, which then finds it answered already.
        if not request.url.startswith(LOOPBACK):
            self.foreign.append(request.url)

    def _heard(self, message):
        if message.type in ("error", "warning") and not message.text.startswith(tuple(self.expected)):
            self.problems.append(f"{message.text} ({message.location['url']})")


@contextmanager
def browsing() -> Iterator[Watched]:
    program = chromium()
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=1000 * ANSWER_SECONDS)  # other tests run beside
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        try:
            yield Watched(browser)
        finally:
            browser.close()


@contextmanager
def running_studio(out, *flags, port=0, **environment) -> Iterator[tuple[str, subprocess.Popen]]:
    """A studio, its HOST:PORT and its process, with its logs in `out`; it leaves no process behind."""
    command = [sys.executable, "-m", "studio", "--http-port", str(port), "--out", str(out), *map(str, flags)]
    with open(out / "studio.log", "ab") as logs:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=logs, env=os.environ | {"HF_HUB_OFFLINE": "1"} | environment
        )
        try:
            yield json.loads(process.stdout.readline())["http"], process
        finally:
            left = descendants(process.pid)
            process.send_signal(signal.SIGTERM)
            # It has 5 s for requests, 5 s for its forks and 10 s for all processes, on a free machine.
            process.wait(ANSWER_SECONDS)
            wait_until(lambda: all(map(has_ended, left)))  # its children's children end by themselves
            assert process.returncode == 0


def client_of(url: str) -> httpx.Client:
    """A client of a studio."""
    return httpx.Client(base_url=url, trust_env=False, timeout=60, limits=LIMITS)


def ask(url: str, method: str, path: str, **content) -> dict:
    """What a studio answers, over a connection of its own; nothing is an empty one."""
    with client_of(url) as client:
        answer = client.request(method, path, **content).raise_for_status()
        return answer.json() if answer.content else {}


def processes_of(url: str) -> dict[str, int]:
    """Process ids of what a studio runs, by name."""
    return {each["name"]: each["pid"] for each in ask(url, "GET", "/v1/state")["processes"]}


def descendants(process: int) -> set[int]:
    """Process ids of those that a process has started, and of those that they have."""
    if sys.platform != "linux":
        pytest.skip("processes are read from /proc")
    parents = {}
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if entry.isdecimal():
                parents[int(entry)] = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
    found, size = {process}, 0
    while len(found) > size:
        size = len(found)
        found |= {pid for pid, parent in parents.items() if parent in found}
    return found - {process}


def until(page, condition) -> None:
    """Waits for a condition, which the page goes on meanwhile to fulfil; its policy forbids wait_for_function."""
    wait_until(lambda: (page.wait_for_timeout(25), condition())[1], ANSWER_SECONDS)


def round_of(page) -> int:
    """Number of the round whose view the first camera shows; 0 while it shows none, as where a round failed."""
    return int(page.get_by_test_id("camera-1").get_attribute("data-round") or 0)


def shown(page) -> int:
    """Number of the newest round that all cameras show, and the vote; 0: there is none."""
    return page.evaluate(
        "Math.min(...[document.querySelector('[data-testid=vote]'), ...document.querySelectorAll('.tiles > *')]"
        ".map(each => Number(each?.dataset.round ?? 0)))"
    )


def answered(page, after) -> int:
    """Waits until all have answered in a round later than `after`, and it is voted on; returns its number."""
    until(page, lambda: shown(page) > after)
    return round_of(page)


def at_rest(page) -> int:
    """Waits until the newest round is over, and all of it is shown; returns its number."""
    state = "fetch('v1/state').then(answer => answer.json())"
    newest = f"{state}.then(({{ round }}) => round?.is_over ? round.number : -1)"
    until(page, lambda: page.evaluate(newest) == shown(page))
    return round_of(page)


def all_vote(page, url) -> int:
    """Has rounds sent until all four have voted on one, not some of them too late; returns its number."""
    while at_rest(page) and "of 4 views" not in page.get_by_test_id("vote").inner_text():
        ask(url, "POST", "/v1/rounds")  # answers when it is over
    return round_of(page)


def texts_of(element) -> Callable[[], list[str]]:
    """Reads every text that an element shows from now on, however briefly; `expect` looks twice a second."""
    texts = element.evaluate_handle("""element => {
        const texts = [];
        new MutationObserver(() => texts.push(element.textContent)).observe(
            element, { characterData: true, childList: true, subtree: true });
        return texts;
    }""")
    return lambda: texts.evaluate("texts => texts")


def standing(page, name):
    """Where the page says how a process stands."""
    is_camera = name.startswith("camera-")
    return page.get_by_test_id(name if is_camera else f"process-{name}").locator(".standing")


def kill(page, url, name) -> None:
    """Kills a process, and what is started in its place, until the page has said so: that shows only briefly."""
    said, killed = texts_of(standing(page, name)), []

    def is_told() -> bool:
        if (pid := processes_of(url)[name]) is not None and pid not in killed:
            with contextlib.suppress(ProcessLookupError):  # that is known already, and not here
                os.kill(pid, signal.SIGKILL)
            killed.append(pid)
        return any("exit status -9" in text for text in said())

    until(page, is_told)


def is_started_anew(page, url, **before: int) -> None:
    """Waits until processes have other ids than before."""
    until(page, lambda: all(processes_of(url)[name] not in (None, pid) for name, pid in before.items()))


def drawn(page) -> None:
    """Waits until the page has drawn what it knows."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def number(tile, name) -> int:
    """What a tile says of a number of bits."""
    text = tile.locator("dl.bits div", has_text=name).locator("dd").inner_text()
    return int(re.sub(r"\D", "", text))
