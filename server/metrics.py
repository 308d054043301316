"""Prometheus metrics of the server. No label names a device or an object: their number has no bound."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from itertools import product
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from semlink.service.admission import Refusal, refusal_counter
from semlink.source.registry import frame_rules

CLASSIFY_PATH = "/v1/classify"
PROTOCOLS = ("grpc", "http")
OUTCOMES = ("answered", "refused", "overloaded", "expired", "cancelled", "unavailable", "failed")
VOTES = ("unanimous", "majority", "plurality")
REASONS = (*frame_rules(), "layer", "lost_patches", "no_decoder", "tag")
"""Why a frame is rejected: rules of the format and of the server."""
CALLER_GONE = 499
"""HTTP status of a response to a caller that has hung up."""
_OF_STATUS = {
    HTTPStatus.TOO_MANY_REQUESTS: "overloaded",
    HTTPStatus.GATEWAY_TIMEOUT: "expired",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
    CALLER_GONE: "cancelled",
}
Metric = TypeVar("Metric", Counter, Histogram)
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        """Every label is shown from the start, as 0."""
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, text: str, **labels: Sequence[str]) -> Counter:
            made = Counter(f"semlink_server_{name}", text, list(labels), registry=registry)
            return _with_labels(made, labels)

        def histogram(name: str, text: str, **labels: Sequence[str]) -> Histogram:
            made = Histogram(f"semlink_server_{name}", text, list(labels), buckets=_SECONDS, registry=registry)
            return _with_labels(made, labels)

        self.requests = counter(
            "requests",
            "Requests to classify by what became of them: answered; refused for what they say; overloaded, "
            "refused because too many wait; expired, not answered in time; cancelled by the caller, as at its own "
            "deadline; unavailable, the model is still loading or Redis is away; failed here.",
            protocol=PROTOCOLS,
            outcome=OUTCOMES,
        )
        text = "Time from a request to classify to its answer, whatever it is."
        self.request_seconds = histogram("request_seconds", text, protocol=PROTOCOLS)
        self.calls_refused = refusal_counter("semlink_server", registry)
        text = "Bits of the frames that arrived, headers, refused and repeated frames included."
        self.received_bits = counter("received_bits", text)
        self.frames_rejected = counter(
            "frames_rejected",
            "Frames refused as malformed, of another geometry than the model's, or for their header's tag, by the "
            "rule they break.",
            reason=REASONS,
        )
        text = "Requests that wait for the model now."
        self.queue_depth = Gauge("semlink_server_queue_depth", text, registry=registry)
        text = "Time that an image waited, for its decoder and for the model."
        self.queue_wait_seconds = histogram("queue_wait_seconds", text)
        self.decode_seconds = histogram("decode_seconds", "Time to decode one frame or picture.")
        text = "Ordinary pictures that are decoded or wait for it now."
        self.pictures_waiting = Gauge("semlink_server_pictures_waiting", text, registry=registry)
        text = "Processes that decode pictures and were replaced: slow, stuck, dead, or holding too much memory."
        self.decoders_replaced = counter("decoders_replaced", text)
        self.batch_size = Histogram(
            "semlink_server_batch_size",
            "Images in one batch of the model.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=registry,
        )
        self.inference_seconds = histogram("inference_seconds", "Time of one batch in the vision transformer.")
        self.votes = counter(
            "votes",
            "Votes by how many of the views named the label: unanimous, all; majority, more than half; plurality, "
            "fewer.",
            outcome=VOTES,
        )
        text = "Votes taken at their deadline, with views missing; they are among the votes too."
        self.partial_votes = counter("partial_votes", text)
        text = "Votes taken while a wish was not fulfilled in time; they are among the votes too."
        self.overdue_votes = counter("overdue_votes", text)
        text = "Wishes for one more layer of a view, before the vote on its object is taken."
        self.wishes = counter("wishes", text)
        text = "Opinions that were taken, repeated ones left out."
        self.opinions = counter("opinions", text)
        text = "Views, or layers of them, answered after the vote on their object, which they did not change."
        self.late_views = counter("late_views", text)
        text = "1 while the store of views and votes answers; 0 while Redis is away, and what needs it is refused."
        self.store_up = Gauge("semlink_server_store_up", text, registry=registry)
        self.store_up.set(1)
        self.store_errors = counter("store_errors", "Calls that Redis did not answer as it should.")

    def count_request(self, protocol: str, status: int, seconds: float) -> None:
        """Counts a request to classify by the HTTP status that it had, or would have had."""
        other = "answered" if status < 400 else "refused" if status < 500 else "failed"
        self.requests.labels(protocol, _OF_STATUS.get(status, other)).inc()
        self.request_seconds.labels(protocol).observe(seconds)

    def count_vote(self, votes: int, views: int, expected_views: int) -> None:
        """Counts a vote that so many of the counted views were for."""
        outcome = "unanimous" if votes == views else "majority" if 2 * votes > views else "plurality"
        self.votes.labels(outcome).inc()
        if views < expected_views:
            self.partial_votes.inc()

    @contextmanager
    def call(self) -> Iterator[None]:
        """Counts a call over gRPC by how it ends."""
        began, status = time.perf_counter(), int(HTTPStatus.INTERNAL_SERVER_ERROR)
        try:
            yield
            status = HTTPStatus.OK
        except Refusal as refusal:
            status = refusal.status
            raise
        except asyncio.CancelledError:
            status = CALLER_GONE
            raise
        finally:
            self.count_request("grpc", status, time.perf_counter() - began)


def _with_labels(metric: Metric, labels: Mapping[str, Sequence[str]]) -> Metric:
    for values in product(*labels.values()) if labels else ():
        metric.labels(*values)
    return metric


class CountingMiddleware:
    """ASGI middleware that counts the admitted requests to classify by their HTTP status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        """Around `app`."""
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http" or (scope["method"], scope["path"]) != ("POST", CLASSIFY_PATH):
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), int(HTTPStatus.INTERNAL_SERVER_ERROR)

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            self._metrics.count_request("http", status, time.perf_counter() - began)
