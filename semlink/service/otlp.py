"""OTLP export of traces to a collector, with OpenTelemetry's SDK; loaded only where the settings ask for it."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import structlog
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from semlink.service.tracing import MAX_ATTRIBUTE_LENGTH

log = structlog.get_logger(__name__)

EXPORT_SECONDS = 5.0
"""Deadline of the export of one batch of spans."""
MAX_SPANS_WAITING = 2048
"""Spans that wait for a collector that is slow or away; beyond, the oldest are lost."""
CLOSE_SECONDS = 2.0
"""Deadline of the last spans when the process ends."""


@contextmanager
def sending(endpoint: str, process: str) -> Iterator[TracerProvider]:
    """A provider whose spans go to a collector while the context lasts; its end waits CLOSE_SECONDS at most.

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
    provider.add_span_processor(BatchSpanProcessor(_Exporter(endpoint), max_queue_size=MAX_SPANS_WAITING))
    try:
        yield provider
    finally:
        # The thread that sends is a daemon: what it has not sent by then is lost.
        closing = threading.Thread(target=provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


class _Exporter(SpanExporter):
    """OTLP's own, with one log line when exports begin to fail, and one when they succeed again."""

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
