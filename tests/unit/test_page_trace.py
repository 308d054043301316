"""Unit tests of a page's trace: small ones, made by hand, whose sums are known."""

import json

import pytest

from benchmarks.page_trace import FRAME, PAGE_THREAD, analysed, read_trace


def named(name, pid=1, tid=1):
    return {"name": "thread_name", "ph": "M", "pid": pid, "tid": tid, "ts": 0, "args": {"name": name}}


def frame(ts, pid=1):
    return {"name": FRAME, "ph": "I", "pid": pid, "tid": 1, "ts": ts}


def ran(name, ts, dur, tid=1, **more):
    return {"name": name, "ph": "X", "pid": 1, "tid": tid, "ts": ts, "dur": dur} | more  # µs


def test_script_counts_once_and_in_its_frame():
    events = [
        named(PAGE_THREAD), frame(1000), frame(20_000),
        ran("FunctionCall", 10, 500),  # before the first frame
        ran("RunTask", 1100, 9000),
        ran("FireAnimationFrame", 1200, 4000), ran("FunctionCall", 1300, 3000),
        ran("RunMicrotasks", 5300, 1000),
        ran("TimerFire", 21_000, 2000),
    ]  # fmt: skip
    assert analysed(events).script_ms == pytest.approx([5, 2])


def test_forced_layout_and_garbage_are_not_script():
    events = [
        named(PAGE_THREAD), frame(0),
        ran("FunctionCall", 100, 5000), ran("UpdateLayoutTree", 200, 1000), ran("Layout", 1300, 500),
        ran("MinorGC", 2000, 700), ran("V8.GC_SCAVENGER", 2100, 600),
        ran("MajorGC", 6000, 300), ran("Paint", 7000, 900),
    ]  # fmt: skip
    found = analysed(events)
    assert found.script_ms == pytest.approx([5 - 1 - 0.5 - 0.7])
    assert found.garbage_ms == pytest.approx([0.7 + 0.3])


def test_script_that_a_rendering_step_calls_is_script():
    events = [named(PAGE_THREAD), frame(0), ran("Layout", 100, 3000), ran("FunctionCall", 200, 1000)]
    assert analysed(events).script_ms == pytest.approx([1])


def test_the_threads_own_clock_counts():
    events = [named(PAGE_THREAD), frame(0), ran("FunctionCall", 100, 9000, tdur=2000)]
    assert analysed(events).script_ms == pytest.approx([2])


def test_other_threads_and_spare_renderers_are_left_out(tmp_path):
    events = [
        named(PAGE_THREAD), named("Compositor", tid=2), named(PAGE_THREAD, pid=2),
        frame(0), frame(10), frame(0, pid=2),
        ran("FunctionCall", 5, 1000, tid=2), ran("FunctionCall", 20, 1000), ran("FunctionCall", 5, 7000, pid=2),
    ]  # fmt: skip
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"traceEvents": events}))
    assert read_trace(path).script_ms == pytest.approx([0, 1])


def test_a_report_has_median_99th_percentile_and_most():
    durations = list(range(1, 201))
    events = [named(PAGE_THREAD)]
    for number, ms in enumerate(durations):
        events += [frame(1e6 * number), ran("FunctionCall", 1e6 * number + 1, 1000 * ms)]
    found = analysed(events).report()
    assert found["frames"] == 200
    assert found["script_ms"] == 100.5
    assert found["script_ms_99"] == 198
    assert found["script_ms_most"] == 200
    assert found["garbage_ms_most"] == 0


@pytest.mark.parametrize("events", [[], [named(PAGE_THREAD)], [named("Compositor"), frame(0)]])
def test_a_trace_without_a_page_is_refused(events):
    with pytest.raises(ValueError, match="no frame of a page"):
        analysed(events)
