"""Prometheus metrics of the server. No label names a device or an object: their number has no bound."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from semlink.service.admission import Refusal, refusal_counter
from semlink.source.registry import frame_rules

CLASSIFY_PATH = "/v1/classify"
PROTOCOLS = ("grpc", "http")
OUTCOMES = ("answered", "refused", "overloaded", "expired", "cancelled", "unavailable", "failed")
VOTES = ("unanimous", "majority", "plurality")
REASONS = (*frame_rules(), "lost_patches", "tag")
"""Why a frame is rejected: rules of the format and of the server."""
CALLER_GONE = 499
"""HTTP status of a response to a caller that has hung up."""
_OF_STATUS = {
    HTTPStatus.TOO_MANY_REQUESTS: "overloaded",
    HTTPStatus.GATEWAY_TIMEOUT: "expired",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
    CALLER_GONE: "cancelled",
}
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        """Every label is shown from the start, as 0."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "semlink_server_requests",
            "Requests to classify by what became of them: answered; refused for what they say; overloaded, "
            "refused because too many wait; expired, not answered in time; cancelled by the caller, as at its own "
            "deadline; unavailable, the model is still loading or Redis is away; failed here.",
            ["protocol", "outcome"],
            registry=self.registry,
        )
        for protocol in PROTOCOLS:
            for outcome in OUTCOMES:
                self.requests.labels(protocol, outcome)
        self.request_seconds = Histogram(
            "semlink_server_request_seconds",
            "Time from a request to classify to its answer, whatever it is.",
            ["protocol"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        for protocol in PROTOCOLS:
            self.request_seconds.labels(protocol)
        self.calls_refused = refusal_counter("semlink_server", self.registry)
        self.received_bits = Counter(
            "semlink_server_received_bits",
            "Bits of the frames that arrived, headers, refused and repeated frames included.",
            registry=self.registry,
        )
        self.frames_rejected = Counter(
            "semlink_server_frames_rejected",
            "Frames refused as malformed, of another geometry than the model's, or for their header's tag, by the "
            "rule they break.",
            ["reason"],
            registry=self.registry,
        )
        for reason in REASONS:
            self.frames_rejected.labels(reason)
        self.queue_depth = Gauge(
            "semlink_server_queue_depth", "Requests that wait for the model now.", registry=self.registry
        )
        self.queue_wait_seconds = Histogram(
            "semlink_server_queue_wait_seconds",
            "Time that an image waited, for its decoder and for the model.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.decode_seconds = Histogram(
            "semlink_server_decode_seconds",
            "Time to decode one frame or picture.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "semlink_server_batch_size",
            "Images in one batch of the model.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=self.registry,
        )
        self.inference_seconds = Histogram(
            "semlink_server_inference_seconds",
            "Time of one batch in the vision transformer.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.votes = Counter(
            "semlink_server_votes",
            "Votes by how many of the views named the label: unanimous, all; majority, more than half; plurality, "
            "fewer.",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in VOTES:
            self.votes.labels(outcome)
        self.partial_votes = Counter(
            "semlink_server_partial_votes",
            "Votes taken at their deadline, with views missing; they are among the votes too.",
            registry=self.registry,
        )
        self.late_views = Counter(
            "semlink_server_late_views",
            "Views answered after the vote on their object, which they did not change.",
            registry=self.registry,
        )
        self.store_errors = Counter(
            "semlink_server_store_errors", "Calls that Redis did not answer as it should.", registry=self.registry
        )

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
