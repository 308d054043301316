"""The studio: its start beside the demo's, a turned knob to pictures on screen, the page's script, memory of both.

python -m benchmarks studio. Needs Chromium. Memory is flat where the second half of the run adds nothing.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.tables import show

STARTS = 3
"""Of each, in turns."""
TURNS = 30
LAG = "document.querySelector('[data-testid=lag]')?.dataset.ms ?? ''"
MOST_SECONDS, MOST_RATIO, MOST_SCRIPT_MS = 12.0, 1.5, 8.0
"""Bars: of the start, of a turn's time to that of the stages, and of the page's script in a frame."""
SOAK_SECONDS, SAMPLES = 600.0, 20
WAIT_SECONDS = 120.0
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


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
    with _studio() as (url, process, _), _page(url) as page:
        result["turn"] = _turns(page)
        result["memory"] = _memory(page, process, seconds)
    turn, memory = result["turn"], result["memory"]
    show(
        "The studio",
        ["measured", "bar"],
        [
            ["start, four answered views, s", f"{min(starts['studio']):.1f}", f"{MOST_SECONDS:.0f}"],
            ["the demo's whole time, s", f"{min(starts['demo']):.1f}", ""],
            ["knob to pictures, ms (median)", f"{turn['ms']:.0f}", ""],
            ["over its stages (median)", f"{turn['ratio']:.2f}", f"{MOST_RATIO}"],
            ["script in a frame, ms (99 %)", f"{turn['script_ms_99']:.1f}", f"{MOST_SCRIPT_MS:.0f}"],
            ["studio, MiB, half and end", f"{memory['studio_mib'][0]:.0f}, {memory['studio_mib'][1]:.0f}", "flat"],
            [
                "page's heap, MiB, half and end",
                f"{memory['page_mib'][0]:.1f}, {memory['page_mib'][1]:.1f}",
                "flat",
            ],
            ["rounds meanwhile", f"{memory['rounds']}", ""],
        ],
    )
    return result


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
                _until(lambda: _newest(url).get("is_over", False))
                assert len(_newest(url)["views"]) == 4
                yield url, process, time.monotonic() - began
            finally:
                process.terminate()


def _newest(url: str) -> dict[str, Any]:
    import httpx

    found: dict[str, Any] = httpx.get(f"{url}v1/state", trust_env=False, timeout=10).json()["round"] or {}
    return found


def _until(holds: Any) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"nothing within {WAIT_SECONDS:.0f} s")
        time.sleep(0.02)


@contextmanager
def _page(url: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        try:
            page = browser.new_page(viewport={"width": 1600, "height": 1000})
            page.goto(url)
            page.get_by_test_id("camera-4").locator("canvas").first.wait_for()
            yield page
        finally:
            browser.close()


def _turns(page: Any) -> dict[str, Any]:
    """Turns ρ up and down; the page says how long its pictures took, and what the stages report."""
    page.evaluate("performance.clearMeasures()")
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
    scripts = sorted(page.evaluate("performance.getEntriesByName('studio-frame').map(each => each.duration)"))
    return {
        "ms": statistics.median(times),
        "ratio": statistics.median(ratios),
        "script_ms": statistics.median(scripts),
        "script_ms_99": scripts[int(0.99 * (len(scripts) - 1))],
        "frames": len(scripts),
    }


def _memory(page: Any, process: subprocess.Popen[bytes], seconds: float) -> dict[str, Any]:
    """Runs as fast as answers come; memory of the studio's process and of the page, halfway and at the end."""
    page.get_by_test_id("knob-every").fill("0")
    page.get_by_test_id("run").click()
    tools = page.context.new_cdp_session(page)
    tools.send("Performance.enable")
    first = int(page.get_by_test_id("camera-1").get_attribute("data-round"))
    studio, heap = [], []
    for _ in range(SAMPLES):
        page.wait_for_timeout(1e3 * seconds / SAMPLES)
        page.evaluate("performance.clearMeasures()")
        tools.send("HeapProfiler.collectGarbage")
        metrics = {each["name"]: each["value"] for each in tools.send("Performance.getMetrics")["metrics"]}
        heap.append(metrics["JSHeapUsedSize"] / 2**20)
        status = Path(f"/proc/{process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        studio.append(int(found[1]) / 2**10 if found else float("nan"))
    last = int(page.get_by_test_id("camera-1").get_attribute("data-round"))
    page.get_by_test_id("run").click()
    half = SAMPLES // 2
    return {
        "seconds": seconds,
        "rounds": last - first,
        "studio_mib": [studio[half], studio[-1]],
        "page_mib": [heap[half], heap[-1]],
        "all_studio_mib": studio,
        "all_page_mib": heap,
    }
