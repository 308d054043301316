"""An OpenTelemetry collector as tests need it: it takes spans over gRPC, and keeps them."""

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Spans that have arrived, each with the process that it comes from."""

    def __init__(self, hold: threading.Event) -> None:
        self._hold = hold
        self.spans: list[tuple[str, Span]] = []

    def Export(self, request, context):
        self._hold.wait(60)
        for resource in request.resource_spans:
            (process,) = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
            self.spans += [(process, span) for scope in resource.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    def let_go(self) -> None:
        """Answers from now on."""
        self._hold.set()

    def of(self, process: str, name: str) -> list[Span]:
        return [span for of, span in self.spans if (of, span.name) == (process, name)]

    def one(self, process: str, name: str) -> Span:
        (span,) = self.of(process, name)
        return span


@contextmanager
def collecting(*, held: bool = False) -> Iterator[tuple[Collector, str]]:
    """A collector, and its address as a URL; one that is held takes what it gets, and answers nothing."""
    hold = threading.Event()
    if not held:
        hold.set()
    collector = Collector(hold)
    server = grpc.server(futures.ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, f"http://127.0.0.1:{port}"
    hold.set()
    server.stop(None).wait()


def attributes(span: Span) -> dict[str, object]:
    """What is said of a span, without the prefix of its names."""
    return {
        each.key.removeprefix("semlink."): getattr(each.value, each.value.WhichOneof("value"))
        for each in span.attributes
    }
