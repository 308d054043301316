"""The studio: its start beside the demo's, a turned knob to pictures on screen, the page's script, faults, memory.

python -m benchmarks studio. Needs Chromium. Memory is watched once all that is held is full, and is flat where the
second half of the run adds nothing; the page's script is traced at the end, over a full timeline.
"""

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from benchmarks.chromium import FLAGS
from benchmarks.page_trace import read_trace, tracing
from benchmarks.tables import show
from studio.rounds import MOST_ROUNDS

STARTS = 3
"""Of each, in turns."""
TURNS = 30
LAG = "document.querySelector('[data-testid=lag]')?.dataset.ms ?? ''"
STANDING = "name => document.querySelector(`[data-testid=${name}] .standing`)?.className ?? ''"
MOST_SECONDS, MOST_RATIO, MOST_SCRIPT_MS, MOST_SHOWN_SECONDS = 12.0, 1.5, 8.0, 3.0
"""Bars: of the start, of a turn's time to that of the stages, of the page's script in a frame, of what fails."""
FAILING = {"server": "process-server", "channel": "process-channel", "camera-1": "camera-1"}
"""Processes that are stopped and killed, and where the page shows them."""
SOAK_SECONDS, SAMPLES, TRACE_SECONDS = 600.0, 20, 20.0
WAIT_SECONDS, FILL_SECONDS = 120.0, 3600.0


def run(soak_seconds: float | None = None) -> dict[str, Any]:
    """Measures all, and prints a table.

    Args:
        soak_seconds: of the run that memory is watched in; None: SEMLINK_SOAK_SECONDS, or 10 minutes.
    """
    seconds = float(os.environ.get("SEMLINK_SOAK_SECONDS", SOAK_SECONDS)) if soak_seconds is None else soak_seconds
    starts: dict[str, list[float]] = {"studio": [], "demo": []}
    for _ in range(STARTS):
        starts["demo"].append(_demo_seconds())
        with _studio() as (_, _, began):
            starts["studio"].append(began)
    result: dict[str, Any] = {"start_seconds": starts}
    with _studio() as (url, process, _), _page(url) as (browser, page):
        result["turn"] = _turns(page)
        result["faults"] = {name: _fault(page, url, name, place) for name, place in FAILING.items()}
        result["memory"] = _memory(page, url, process, seconds)
        result["script"] = _script(browser, page)
    turn, script, memory = result["turn"], result["script"], result["memory"]
    show(
        "The studio",
        ["measured", "bar"],
        [
            ["start, four answered views, s", f"{min(starts['studio']):.1f}", f"{MOST_SECONDS:.0f}"],
            ["the demo's whole time, s", f"{min(starts['demo']):.1f}", ""],
            ["knob to pictures, ms (median)", f"{turn['ms']:.0f}", ""],
            ["over its stages (median)", f"{turn['ratio']:.2f}", f"{MOST_RATIO}"],
            ["script in a frame, ms (99 %)", f"{script['script_ms_99']:.1f}", f"{MOST_SCRIPT_MS:.0f}"],
            ["script in a frame, ms (most)", f"{script['script_ms_most']:.1f}", ""],
            *_fault_rows(result["faults"]),
            ["rounds meanwhile", f"{memory['rounds']}", ""],
        ],
    )
    show(
        f"Memory over {memory['seconds']:.0f} s, MiB",
        ["start", "half", "end"],
        [[name, *(f"{mib[at]:.1f}" for at in (0, SAMPLES // 2, -1))] for name, mib in memory["mib"].items()],
    )
    return result


def _fault_rows(faults: dict[str, dict[str, float]]) -> list[list[str]]:
    bar = f"{MOST_SHOWN_SECONDS:.0f}"
    return [
        row
        for name, found in faults.items()
        for row in (
            [f"{name} stopped -> shown on the page, s", f"{found['silent']:.1f}", bar],
            [f"{name} killed -> shown on the page, s", f"{found['ended']:.1f}", bar],
            [f"{name} killed -> healed, s", f"{found['healed']:.1f}", ""],
        )
    ]


def _demo_seconds() -> float:
    """From the start of the demo until it has its vote and has stopped everything."""
    with tempfile.TemporaryDirectory() as out:
        began = time.monotonic()
        command = [str(Path(sys.executable).with_name("semlink")), "demo", "--out", out]
        subprocess.run(command, check=True, capture_output=True, timeout=WAIT_SECONDS * 3)
        return time.monotonic() - began


@contextmanager
def _studio() -> Iterator[tuple[str, subprocess.Popen[bytes], float]]:
    """A studio whose first round is over: its page, its process, and the seconds that it took."""
    with tempfile.TemporaryDirectory() as out:
        began = time.monotonic()
        command = [sys.executable, "-m", "studio", "--http-port", "0", "--out", out, "--log-level", "error"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                url = f"http://{json.loads(process.stdout.readline())['http']}/"
                _until(lambda: _newest(url).get("is_over", False), pause=0.1)
                assert len(_newest(url)["views"]) == 4
                yield url, process, time.monotonic() - began
            finally:
                process.terminate()


@cache
def _client() -> httpx.Client:
    """One for all: each takes more processor time to make than an answer to get."""
    return httpx.Client(trust_env=False, timeout=10)


def _state(url: str) -> dict[str, Any]:
    found: dict[str, Any] = _client().get(f"{url}v1/state").json()
    return found


def _newest(url: str) -> dict[str, Any]:
    return _state(url)["round"] or {}


def _processes(url: str) -> dict[str, int]:
    """Process ids of what the studio runs, by name."""
    return {each["name"]: each["pid"] for each in _state(url)["processes"]}


def _until(holds: Any, seconds: float = WAIT_SECONDS, pause: float = 0.02) -> float:
    """Waits for a condition; returns the seconds that it took."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() > began + seconds:
            raise TimeoutError(f"nothing within {seconds:.0f} s")
        time.sleep(pause)
    return time.monotonic() - began


@contextmanager
def _page(url: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        try:
            page = browser.new_page(viewport={"width": 1600, "height": 1000})
            page.goto(url)
            page.get_by_test_id("camera-4").locator("canvas").first.wait_for()
            yield browser, page
        finally:
            browser.close()


def _turns(page: Any) -> dict[str, Any]:
    """Turns ρ up and down; the page says how long its pictures took, and what the stages report."""
    times, ratios = [], []
    for turn in range(TURNS):
        before = page.evaluate(LAG)
        page.get_by_test_id("knob-rho").fill(str(0.1 + 0.01 * (turn % 7)))
        while page.evaluate(LAG) == before:
            page.wait_for_timeout(5)
        ms, stages = page.evaluate(
            "(({ms, stages}) => [Number(ms), Number(stages)])(document.querySelector('[data-testid=lag]').dataset)"
        )
        times.append(ms)
        ratios.append(ms / stages)
    return {"ms": statistics.median(times), "ratio": statistics.median(ratios)}


def _fault(page: Any, url: str, name: str, place: str) -> dict[str, float]:
    """Stops a process and lets it go on, then kills it: seconds until the page shows each, and until it healed."""

    def stands(*standings: str) -> bool:
        return page.evaluate(STANDING, place).split()[-1:] in [[each] for each in standings]

    stopped = _processes(url)[name]
    os.kill(stopped, signal.SIGSTOP)
    try:
        silent = _until(lambda: stands("silent", "ended"))
    finally:
        os.kill(stopped, signal.SIGCONT)
    _until(lambda: stands("ready"))
    killed = _processes(url)[name]
    os.kill(killed, signal.SIGKILL)
    ended = _until(lambda: stands("silent", "ended", "starting"))
    healed = ended + _until(lambda: stands("ready") and _processes(url)[name] != killed)
    return {"silent": silent, "ended": ended, "healed": healed}


def _script(browser: Any, page: Any) -> dict[str, float]:
    """Traces the page while rounds follow each other as fast as answers come, over a full timeline."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        with tracing(browser, page, path), _running(page):
            page.wait_for_timeout(1e3 * TRACE_SECONDS)
        return read_trace(path).report()


@contextmanager
def _running(page: Any) -> Iterator[None]:
    """Within the context, rounds follow each other as fast as answers come."""
    page.get_by_test_id("knob-every").fill("0")
    page.get_by_test_id("run").click()
    yield
    page.get_by_test_id("run").click()


def _memory(page: Any, url: str, process: subprocess.Popen[bytes], seconds: float) -> dict[str, Any]:
    """Runs as fast as answers come; memory of all processes and of the page, once all that is held is full."""
    tools = page.context.new_cdp_session(page)
    tools.send("Performance.enable")
    mib: dict[str, list[float]] = {}
    with _running(page):
        full = _newest(url)["number"] + MOST_ROUNDS
        _until(lambda: _newest(url)["number"] >= full, FILL_SECONDS, pause=1)
        first = _newest(url)["number"]
        for sample in range(SAMPLES + 1):
            if sample:
                page.wait_for_timeout(1e3 * seconds / SAMPLES)
            tools.send("HeapProfiler.collectGarbage")
            metrics = {each["name"]: each["value"] for each in tools.send("Performance.getMetrics")["metrics"]}
            mib.setdefault("page's heap", []).append(metrics["JSHeapUsedSize"] / 2**20)
            for name, number in ({"studio": process.pid} | _processes(url)).items():
                mib.setdefault(name, []).append(_resident_mib(number))
        last = _newest(url)["number"]
    return {"seconds": seconds, "rounds": last - first, "mib": mib}


def _resident_mib(process: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
    return int(found[1]) / 2**10 if found else float("nan")
