"""A browser for tests of the studio's page: the distribution's Chromium, which reaches loopback alone."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)  # fmt: skip
LOOPBACK = ("http://127.0.0.1:", "blob:http://127.0.0.1:", "data:")


def chromium() -> str:
    """The program; without it the test is skipped by name, and fails where CI=true."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        reason = "chromium is missing: apt-get install chromium (Debian, Ubuntu)"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return found


class Watched:
    """Pages of one browser: what they asked of others than loopback, which is aborted, and what went wrong."""

    def __init__(self, browser):
        self._browser, self.foreign, self.problems = browser, [], []
        self.expected = ()
        """Beginnings of messages that a test brings about itself."""

    @contextmanager
    def page(self, url, width=1600, height=1000, **options) -> Iterator:
        context = self._browser.new_context(viewport={"width": width, "height": height}, **options)
        context.route("**/*", self._let_pass)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        try:
            page.goto(url)
            yield page
        finally:
            context.close()

    def _let_pass(self, route):
        if route.request.url.startswith(LOOPBACK):
            route.continue_()
        else:
            self.foreign.append(route.request.url)
            route.abort()

    def _heard(self, message):
        if message.type in ("error", "warning") and not message.text.startswith(tuple(self.expected)):
            self.problems.append(message.text)


@contextmanager
def browsing() -> Iterator[Watched]:
    program = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        try:
            yield Watched(browser)
        finally:
            browser.close()


def child_processes(process: int) -> dict[int, str]:
    """Process ids and command lines of a process's children."""
    if sys.platform != "linux":
        pytest.skip("processes are read from /proc")
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                with open(f"/proc/{entry}/stat") as stat, open(f"/proc/{entry}/cmdline") as command:
                    if int(stat.read().rpartition(")")[2].split()[1]) == process:
                        found[int(entry)] = command.read().replace("\0", " ")
            except OSError:
                continue
    return found
