"""Traces sent to a collector by OpenTelemetry's protocol (OTLP over gRPC). Loaded only where it is asked for."""

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import structlog
from opentelemetry import trace
from opentelemetry.context import Context, attach
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from semlink.service.tracing import Kind, Tracer

log = structlog.get_logger(__name__)

EXPORT_SECONDS = 5.0
"""How long one batch of spans may take to be taken."""
MAX_SPANS_WAITING = 2048
"""Spans kept for a collector that is slow or away; beyond, the oldest are lost."""
CLOSE_SECONDS = 2.0
"""How long the end of the process waits for the last spans to be taken."""
MAX_ATTRIBUTE_LENGTH = 256
PREFIX = "semlink."

_KINDS = {
    "internal": trace.SpanKind.INTERNAL,
    "client": trace.SpanKind.CLIENT,
    "server": trace.SpanKind.SERVER,
}
_W3C = TraceContextTextMapPropagator()


@contextmanager
def sending(endpoint: str, process: str) -> Iterator[Tracer]:
    """A tracer whose steps go to a collector while the context lasts; one that is away holds up nobody.

    Args:
        endpoint: URL of the collector, https:// for TLS. Headers, certificates, sampling and the rest follow
            OpenTelemetry's own variables, such as OTEL_EXPORTER_OTLP_HEADERS and OTEL_TRACES_SAMPLER.
        process: what it is called there, if OTEL_SERVICE_NAME is not set.
    """
    name = os.environ.get("OTEL_SERVICE_NAME") or f"semlink-{process.replace('_', '-')}"
    provider = TracerProvider(
        resource=Resource.create({SERVICE_NAME: name}),
        shutdown_on_exit=False,
        span_limits=SpanLimits(max_attribute_length=MAX_ATTRIBUTE_LENGTH),
    )
    exporter = _Exporter(endpoint)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=MAX_SPANS_WAITING))
    try:
        yield _OpenTelemetry(provider.get_tracer("semlink"))
    finally:
        # The thread that sends is a daemon: what it has not sent by then is lost.
        closing = threading.Thread(target=provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


class _OpenTelemetry(Tracer):
    """Steps as OpenTelemetry's spans."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    @contextmanager
    def span(
        self, name: str, *, kind: Kind = "internal", caller: Mapping[str, str] | None = None, **attributes: Any
    ) -> Iterator[None]:
        with self._tracer.start_as_current_span(
            name,
            # Of a caller that sends none, or nonsense, a trace of its own.
            context=None if caller is None else _W3C.extract(caller, Context()),
            kind=_KINDS[kind],
            attributes=_named(attributes),
            record_exception=False,
            set_status_on_exception=False,
        ):
            try:
                yield
            except BaseException as error:
                self.fail(_reason(error))
                raise

    def begin(self, name: str, **attributes: Any) -> None:
        root = self._tracer.start_span(name, Context(), attributes=_named(attributes))
        attach(trace.set_span_in_context(root))

    def end(self, failure: str = "") -> None:
        if failure:
            self.fail(failure)
        trace.get_current_span().end()

    def annotate(self, **attributes: Any) -> None:
        trace.get_current_span().set_attributes(_named(attributes))

    def fail(self, reason: str) -> None:
        current = trace.get_current_span()
        status = current.status if isinstance(current, ReadableSpan) else None
        if status is not None and status.status_code is trace.StatusCode.UNSET:  # what is said first is closest
            current.set_status(trace.StatusCode.ERROR, reason[:MAX_ATTRIBUTE_LENGTH])

    def record(self, name: str, began: float, ended: float, *, parent: Any = None, **attributes: Any) -> None:
        epoch = time.time_ns() - round(1e9 * time.perf_counter())
        context = None if parent is None else trace.set_span_in_context(parent)
        past = self._tracer.start_span(
            name, context, attributes=_named(attributes), start_time=epoch + round(1e9 * began)
        )
        past.end(epoch + round(1e9 * ended))

    def current(self) -> Any:
        return trace.get_current_span()

    def headers(self) -> dict[str, str]:
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        return carrier

    def log_ids(self) -> dict[str, str]:
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return {}
        return {
            "trace_id": trace.format_trace_id(context.trace_id),
            "span_id": trace.format_span_id(context.span_id),
        }


class _Exporter(SpanExporter):
    """OTLP's own, saying once that nobody takes the spans, and once that somebody does again."""

    def __init__(self, endpoint: str) -> None:
        self._otlp = OTLPSpanExporter(endpoint, timeout=EXPORT_SECONDS)
        self._endpoint, self._taken = endpoint, True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._otlp.export(spans)
        except Exception as error:  # whatever it is, it must not end the thread that sends
            log.debug("traces not sent", exc_info=error)
            result = SpanExportResult.FAILURE
        taken = result is SpanExportResult.SUCCESS
        if taken is not self._taken:
            say = log.info if taken else log.warning
            say("traces are taken again" if taken else "nobody takes the traces", endpoint=self._endpoint)
            self._taken = taken
        return result

    def shutdown(self) -> None:
        self._otlp.shutdown()


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
