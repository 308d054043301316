"""Traces as one process makes them, seen by a collector; and what they are where nobody asked for any."""

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from collector import attributes, collecting
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.trace import SpanKind

from semlink.service import otlp, tracing
from semlink.service.correlation import outgoing
from semlink.service.settings import ProcessSettings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def spans_of(monkeypatch):
    """Runs steps under a tracer, and gives the spans that a collector gets of them by name."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(otlp, "CLOSE_SECONDS", 60)  # for as long as it takes on a busy machine

    def run(steps) -> dict[str, Span]:
        with collecting() as (collector, endpoint):
            with tracing.traced(ProcessSettings(otlp_endpoint=endpoint), "a_process"):
                steps()
            assert {process for process, _ in collector.spans} == {"semlink-a-process"}
            return {span.name: span for _, span in collector.spans}

    return run


def test_what_is_not_asked_for_notes_nothing_and_loads_nothing():
    code = """
import sys
from opentelemetry import trace
from semlink.service import tracing
from semlink.service.correlation import outgoing
from semlink.service.settings import ProcessSettings
with tracing.traced(ProcessSettings(), "device"):
    tracing.begin("frame", frame_id=1)
    with tracing.span("step", caller={"traceparent": "nonsense"}):
        tracing.annotate(label=1)
        tracing.record("past", 0.0, 1.0, parent=trace.get_current_span())
    tracing.end("why")
    assert (outgoing(), tracing.name_trace(None, "", {"event": "e"})) == ((), {"event": "e"})
print(*(name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_asked_for_where_opentelemetry_is_missing_it_says_what_to_install():
    code = """
import runpy, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("opentelemetry.exporter"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
runpy.run_module("channel_emulator", run_name="__main__", alter_sys=True)
"""
    command = [sys.executable, "-c", code, "--upstream", "127.0.0.1:1", "--otlp-endpoint", "http://127.0.0.1:2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 2
    assert "pip install 'semlink[tracing]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_standard_variable_asks_for_them_too_and_the_flag_comes_first(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")
    assert ProcessSettings().otlp_endpoint == "http://collector:4317"
    assert ProcessSettings(otlp_endpoint="http://other:1").otlp_endpoint == "http://other:1"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")
    with pytest.raises(ValueError, match="must be a URL"):
        ProcessSettings()


def test_steps_are_part_of_what_began_them_in_tasks_and_threads_too(spans_of):
    async def frame():
        tracing.begin("frame", frame_id=2**64 - 1, object_id="x" * 1000, nothing=None, empty="")
        await asyncio.to_thread(tracing.record, "in a thread", 1.0, 1.5)

        async def rest():
            with tracing.span("call", kind=SpanKind.CLIENT, attempt=1):
                tracing.annotate(label=7)
            tracing.end()

        task = asyncio.create_task(rest())
        tracing.begin("next frame")
        await task
        tracing.end("no view")

    spans = spans_of(lambda: asyncio.run(frame()))
    root = spans["frame"]
    assert attributes(root) == {"frame_id": str(2**64 - 1), "object_id": "x" * 256}
    for name in ("in a thread", "call"):
        assert (spans[name].trace_id, spans[name].parent_span_id) == (root.trace_id, root.span_id)
    past = spans["in a thread"]
    assert past.end_time_unix_nano - past.start_time_unix_nano == pytest.approx(5e8, abs=1e3)
    assert attributes(spans["call"]) == {"attempt": 1, "label": 7}
    assert spans["call"].kind == Span.SPAN_KIND_CLIENT
    assert spans["next frame"].trace_id != root.trace_id
    assert not spans["next frame"].parent_span_id
    assert spans["next frame"].status.message == "no view"
    assert root.status.code == Status.STATUS_CODE_UNSET


def test_a_step_that_an_exception_leaves_has_failed_and_what_was_said_first_stands(spans_of):
    def fail():
        with tracing.span("outer"), tracing.span("inner"):
            tracing.fail("INVALID_ARGUMENT: too odd")
            raise ValueError("odd")

    def steps():
        with pytest.raises(ValueError, match="odd"):
            fail()

    spans = spans_of(steps)
    failed = Status.STATUS_CODE_ERROR
    assert (spans["inner"].status.code, spans["inner"].status.message) == (failed, "INVALID_ARGUMENT: too odd")
    assert (spans["outer"].status.code, spans["outer"].status.message) == (failed, "ValueError: odd")


@pytest.mark.parametrize("given", ["", "nonsense", f"00-{0:032x}-{1:016x}-01", "00-" + "f" * 5000])
def test_a_caller_that_names_no_trace_gets_one_of_its_own(spans_of, given):
    def steps():
        with tracing.span("call", kind=SpanKind.SERVER, caller={"traceparent": given}):
            assert dict(outgoing())["traceparent"].count("-") == 3

    call = spans_of(steps)["call"]
    assert any(call.trace_id)
    assert not call.parent_span_id


def test_a_collector_that_answers_nothing_holds_up_nobody(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with collecting(held=True) as (collector, endpoint):
        began = time.monotonic()
        with tracing.traced(ProcessSettings(otlp_endpoint=endpoint), "device"):
            for _ in range(5000):  # more than are kept
                with tracing.span("step"):
                    pass
        assert time.monotonic() - began < 30
        collector.let_go()
        while any(thread.name.startswith("OtelBatch") for thread in threading.enumerate()):
            time.sleep(0.01)
