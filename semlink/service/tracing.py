"""OpenTelemetry traces: which step of which process took how long for one frame.

Without a collector in the settings nothing is recorded, and only OpenTelemetry's API is loaded. Its
instrumentation packages for gRPC and ASGI aren't used: their spans have other names, lack the attributes that name
a frame, and include health checks and every ASGI message.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry import trace
from opentelemetry.context import Context, attach
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from semlink.service.settings import ProcessSettings

MAX_ATTRIBUTE_LENGTH = 256
PREFIX = "semlink."
W3C = TraceContextTextMapPropagator()

OFF: trace.Tracer = trace.NoOpTracer()
tracer = OFF
"""Makes this process's spans: none, but within `traced`."""


@contextmanager
def traced(settings: ProcessSettings, process: str) -> Iterator[None]:
    """Sends the traces of this process where its settings want them, while the context lasts."""
    global tracer
    if settings.otlp_endpoint is None:
        yield
        return
    from semlink.service.otlp import sending

    with sending(settings.otlp_endpoint, process) as provider:
        before, tracer = tracer, provider.get_tracer("semlink")
        try:
            yield
        finally:
            tracer = before


@contextmanager
def span(
    name: str, *, kind: SpanKind = SpanKind.INTERNAL, caller: Mapping[str, str] | None = None, **attributes: Any
) -> Iterator[None]:
    """A step that lasts as long as the context; an exception that leaves it makes it a failed one.

    Args:
        name: of the step; one of few.
        kind: a call of another process is CLIENT there and SERVER here.
        caller: headers or metadata of a call that is served: the span is part of the caller's trace, or of one of
            its own where they name none. Without `caller`, it is part of the current span.
        attributes: more about the step, never the frame itself; what is empty is left out.
    """
    if tracer is OFF:
        yield
        return
    with tracer.start_as_current_span(
        name,
        context=None if caller is None else W3C.extract(caller, Context()),
        kind=kind,
        attributes=_named(attributes),
        record_exception=False,
        set_status_on_exception=False,
    ):
        try:
            yield
        except BaseException as error:
            fail(_reason(error))
            raise


def begin(name: str, **attributes: Any) -> None:
    """Begins a trace: its first span is the current one of this task until `end`."""
    attach(trace.set_span_in_context(tracer.start_span(name, Context(), attributes=_named(attributes))))


def end(failure: str = "") -> None:
    """Ends the current span, as a failed one if there is a reason; see `begin`."""
    if failure:
        fail(failure)
    trace.get_current_span().end()


def annotate(**attributes: Any) -> None:
    """Adds attributes to the current span."""
    if (current := trace.get_current_span()).is_recording():
        current.set_attributes(_named(attributes))


def fail(reason: str) -> None:
    """Makes the current span a failed one; the reason that is given first stands, as the closest to the cause."""
    current = trace.get_current_span()
    status = getattr(current, "status", None)  # of the SDK's spans only
    if status is not None and status.is_unset:
        current.set_status(trace.StatusCode.ERROR, reason[:MAX_ATTRIBUTE_LENGTH])


def record(name: str, began: float, ended: float, *, parent: trace.Span | None = None, **attributes: Any) -> None:
    """A step that is over.

    Args:
        name: of the step.
        began: when, by `time.perf_counter`.
        ended: likewise.
        parent: the span that it was part of; without it, the current one.
        attributes: more about the step.
    """
    if tracer is OFF:
        return
    epoch = time.time_ns() - round(1e9 * time.perf_counter())
    context = None if parent is None else trace.set_span_in_context(parent)
    past = tracer.start_span(name, context, attributes=_named(attributes), start_time=epoch + round(1e9 * began))
    past.end(epoch + round(1e9 * ended))


def name_trace(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Adds the ids of the current span to a log line; a structlog processor."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return event
    trace_id, span_id = trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)
    return {"trace_id": trace_id, "span_id": span_id, **event}


def _reason(error: BaseException) -> str:
    """The error in a line, as gRPC's own text has many."""
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return f"{type(error).__name__}: {error}"


def _named(attributes: dict[str, Any]) -> dict[str, Any]:
    return {PREFIX + name: _value(value) for name, value in attributes.items() if value not in (None, "")}


def _value(value: Any) -> Any:
    """As OTLP takes it: a frame's number may be larger than its integers."""
    return str(value) if isinstance(value, int) and value >= 2**63 else value
