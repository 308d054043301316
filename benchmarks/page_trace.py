"""Performance trace of a page, recorded by Chromium: script in each frame, and garbage collection.

A frame's script is all that ran on the page's thread from its beginning to that of the next one: callbacks,
timers, microtasks, effects. Left out are style, layout and paint, also where script forced them; garbage
collection is told apart. Times are processor times of the thread: what other programs took
meanwhile does not count.
"""

import json
import statistics
from bisect import bisect
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CATEGORIES = (
    "-*", "devtools.timeline", "disabled-by-default-devtools.timeline",
    "disabled-by-default-devtools.timeline.frame", "v8", "v8.execute",
)  # fmt: skip
PAGE_THREAD = "CrRendererMain"
FRAME = "BeginMainThreadFrame"
SCRIPT = frozenset({
    "EvaluateScript", "EventDispatch", "FireAnimationFrame", "FireIdleCallback", "FunctionCall", "RunMicrotasks",
    "TimerFire", "v8.callFunction", "v8.compile", "v8.run",
})  # fmt: skip
RENDERING = frozenset({
    "Commit", "HitTest", "Layerize", "Layout", "Paint", "PrePaint", "RecalculateStyles", "UpdateLayoutTree",
})  # fmt: skip
GARBAGE = frozenset({"MajorGC", "MinorGC", "V8.GCFinalizeMC", "V8.GCIncrementalMarking", "V8.GCScavenger"})


@dataclass(frozen=True)
class PageTrace:
    """What a page's thread did.

    Attributes:
        script_ms: of each frame, in order, ms >= 0.
        garbage_ms: likewise, garbage collection.
    """

    script_ms: list[float]
    garbage_ms: list[float]

    def report(self) -> dict[str, float]:
        """Frames, and the median, the 99th percentile and the largest of script and garbage collection in ms."""
        found: dict[str, float] = {"frames": len(self.script_ms)}
        for name, values in (("script", self.script_ms), ("garbage", self.garbage_ms)):
            ordered = sorted(values) or [0.0]
            found[f"{name}_ms"] = statistics.median(ordered)
            found[f"{name}_ms_99"] = ordered[int(0.99 * (len(ordered) - 1))]
            found[f"{name}_ms_most"] = ordered[-1]
        return {name: round(value, 3) for name, value in found.items()}


@contextmanager
def tracing(browser: Any, page: Any, path: Path) -> Iterator[None]:
    """Records a trace of a page into a file, which Chromium's and Perfetto's viewers open.

    Args:
        browser: Playwright's, a Chromium.
        page: of it.
        path: of the file, JSON.
    """
    browser.start_tracing(page=page, path=path, categories=list(CATEGORIES))
    try:
        yield
    finally:
        browser.stop_tracing()


def read_trace(path: Path) -> PageTrace:
    """Reads the file of a trace.

    Raises:
        ValueError: no thread of a page is in it, or no frame.
    """
    return analysed(json.loads(path.read_text())["traceEvents"])


def analysed(events: Iterable[dict[str, Any]]) -> PageTrace:
    """Sums up the page's thread: of several, as of spare renderers, the one with most frames.

    Args:
        events: in the Trace Event Format: `ts`, `dur` and `tdur` (by the thread's own clock) in µs.

    Raises:
        ValueError: no thread of a page is among them, or no frame.
    """
    threads: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    pages = set()
    for event in events:
        key = event.get("pid", 0), event.get("tid", 0)
        threads[key].append(event)
        if event["name"] == "thread_name" and event["args"]["name"] == PAGE_THREAD:
            pages.add(key)
    frames = {key: sorted(each["ts"] for each in threads[key] if each["name"] == FRAME) for key in pages}
    page = max(frames, key=lambda key: len(frames[key]), default=None)
    if page is None or not frames[page]:
        raise ValueError(f"no frame of a page is in the trace: no {FRAME} in a thread {PAGE_THREAD}")
    return _in_frames(threads[page], frames[page])


def _in_frames(events: list[dict[str, Any]], frames: list[float]) -> PageTrace:
    """Gives each event's own time, which is without that of the events in it, to its frame and its kind."""
    spent = {"script": [0.0] * len(frames), "garbage": [0.0] * len(frames)}
    around: list[tuple[float, str, int]] = []  # end, kind and frame of each event that goes on
    timed = [each for each in events if each["ph"] == "X" and "dur" in each]
    for event in sorted(timed, key=lambda each: (each["ts"], -each["dur"])):
        while around and event["ts"] >= around[-1][0]:
            around.pop()
        frame = bisect(frames, event["ts"]) - 1
        _, outer, before = around[-1] if around else (0.0, "", -1)
        kind = _kind(event["name"]) or outer
        milliseconds = event.get("tdur", event["dur"]) / 1e3
        if frame >= 0 and kind in spent:
            spent[kind][frame] += milliseconds
        if before >= 0 and outer in spent:
            spent[outer][before] -= milliseconds
        around.append((event["ts"] + event["dur"], kind, frame))
    return PageTrace(*([max(value, 0.0) for value in spent[kind]] for kind in ("script", "garbage")))


def _kind(name: str) -> str:
    """The kind of an event by its name; empty: it is of the kind of what it happens in."""
    for kind, names in (("script", SCRIPT), ("garbage", GARBAGE), ("rendering", RENDERING)):
        if name in names:
            return kind
    return ""
