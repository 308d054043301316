"""Listener: gRPC and HTTP in one event loop, health on both, graceful shutdown on SIGTERM."""

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import grpc
import structlog
from fastapi import APIRouter, FastAPI
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from semlink.service.admission import Admission
from semlink.service.http_connections import HttpServer
from semlink.service.interceptor import MAX_STREAMS, AuthInterceptor
from semlink.service.problems import ProblemError, problem_responses
from semlink.service.settings import ListenSettings, StartupError
from semlink.service.tls import server_context, server_credentials
from semlink.v1 import link_pb2, link_pb2_grpc

log = structlog.get_logger(__name__)

MAX_MESSAGE_BYTES = 2 << 20
"""Largest gRPC message taken; a frame of 1 MiB fits."""
GRACE_SECONDS = 5.0
"""Deadline of calls under way after SIGTERM."""
WATCH_SECONDS = 1.0
"""Interval at which a call that watches the health is sent what has changed."""
LINK_SERVICE = link_pb2.DESCRIPTOR.services_by_name["LinkService"].full_name
CHANNEL_SERVICE = link_pb2.DESCRIPTOR.services_by_name["ChannelService"].full_name

_OPTIONS = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # For the TLS handshake and HTTP/2's preface.
    ("grpc.server_handshake_timeout_ms", 10_000),
    # Connections without a call are closed: whoever is silent keeps others out for no longer.
    ("grpc.max_connection_idle_ms", 30_000),
    # Old ones are too, with clients that never read their answers.
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.max_connection_age_grace_ms", 90_000),
    # Finds clients that vanished without closing their connection.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]


@dataclass
class Health:
    """Whether the process is ready to serve; it is alive as long as it answers.

    Attributes:
        ready: it takes requests.
        checks: each says what is not served now, though the process is ready for all else; empty: nothing.
    """

    ready: bool = False
    checks: list[Callable[[], str]] = field(default_factory=list)

    def router(self) -> APIRouter:
        """The health endpoints of the Open Inference Protocol."""
        router = APIRouter(prefix="/v2/health", tags=["health"])
        not_ready = problem_responses(service_unavailable="Still starting, or about to stop.")

        @router.get("/live", summary="Is the process alive?")
        async def live() -> dict[str, bool]:
            return {"live": True}

        @router.get("/ready", summary="Is the process ready to serve?", responses=not_ready)
        async def ready() -> dict[str, bool | list[str]]:
            """With `degraded` where a part is not served: why not."""
            if not self.ready:
                raise ProblemError(503, "not_ready", "not ready yet: still starting, or about to stop")
            degraded = [problem for check in self.checks if (problem := check())]
            return {"ready": True} | ({"degraded": degraded} if degraded else {})

        return router


class _GrpcHealth(health.aio.HealthServicer):
    """gRPC's own, except for Watch: there, a watcher that reads nothing blocks all others and every change."""

    _ends = False

    async def enter_graceful_shutdown(self) -> None:
        """Reports that nothing is served any more, and ends the calls that watch."""
        await super().enter_graceful_shutdown()
        self._ends = True

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The status now, and whenever it has changed."""
        sent = None
        while True:
            unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            status = self._server_status.get(request.service, unknown)
            if status != sent:
                yield health_pb2.HealthCheckResponse(status=status)
                sent = status
            if self._ends:
                return
            await asyncio.sleep(WATCH_SECONDS)


async def listen(
    servicer: link_pb2_grpc.LinkServiceServicer,
    app: FastAPI,
    health_state: Health,
    admission: Admission,
    settings: ListenSettings,
    *,
    prepare: Callable[[], Awaitable[None]],
    stopping: Callable[[], None] = lambda: None,
    channel_servicer: link_pb2_grpc.ChannelServiceServicer | None = None,
) -> None:
    """Serves `servicer` (and `channel_servicer`) over gRPC and `app` over HTTP until SIGTERM or SIGINT.

    Port 0 means any free one. Once both listen, one JSON line on standard output names their addresses:
    {"event": "listening", "grpc": "HOST:PORT", "http": "HOST:PORT"}. Health answers from then on, and is ready
    once `prepare` is done. Over gRPC, `admission` is applied here; over HTTP, `app` applies it itself. At the end,
    calls under way have GRACE_SECONDS; `stopping` ends those that would wait for longer.

    Raises:
        StartupError: a port is taken, a file for TLS is unfit, or `prepare` failed so.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    tls = server_context(settings)
    services = [LINK_SERVICE] if channel_servicer is None else [LINK_SERVICE, CHANNEL_SERVICE]
    # Calls that wait for votes have a limit of their own, which leaves max_concurrent_calls for frames.
    max_calls = settings.max_concurrent_calls + settings.max_waiting_calls
    server = grpc.aio.server(
        interceptors=[AuthInterceptor(admission, max_calls, tuple(services))],
        options=[
            *_OPTIONS,
            ("grpc.max_allowed_incoming_connections", settings.max_grpc_connections),
            # Of one connection; calls whose answers are not taken are among them.
            ("grpc.max_concurrent_streams", max_calls + 2 * MAX_STREAMS),
        ],
    )
    link_pb2_grpc.add_LinkServiceServicer_to_server(servicer, server)
    grpc_health = _GrpcHealth()
    health_pb2_grpc.add_HealthServicer_to_server(grpc_health, server)
    if channel_servicer is not None:
        link_pb2_grpc.add_ChannelServiceServicer_to_server(channel_servicer, server)
    reflection.enable_server_reflection([*services, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    bound_grpc_port = _add_port(server, settings)
    with bind(settings.host, settings.http_port) as http_socket:
        bound_http_port = http_socket.getsockname()[1]
        await _set_serving(grpc_health, services, serving=False)
        await server.start()
        http = HttpServer(app, settings.max_http_connections, tls)
        http_task = asyncio.create_task(http.serve(sockets=[http_socket]))
        host = in_url(settings.host)
        where = {"grpc": f"{host}:{bound_grpc_port}", "http": f"{host}:{bound_http_port}"}
        print(json.dumps({"event": "listening", **where}), flush=True)
        log.info("listening", **where, tls=tls is not None, keys=admission.wants_keys)

        preparing = asyncio.ensure_future(prepare())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({preparing, stopped, http_task}, return_when=asyncio.FIRST_COMPLETED)
            if preparing.done():
                preparing.result()
                health_state.ready = True
                await _set_serving(grpc_health, services, serving=True)
                log.info("ready")
                await asyncio.wait({stopped, http_task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            log.info("stopping")
            health_state.ready = False
            preparing.cancel()
            stopped.cancel()
            await grpc_health.enter_graceful_shutdown()
            stopping()
            http.should_exit = True
            await asyncio.gather(server.stop(GRACE_SECONDS), http_task)
            log.info("stopped")


async def _set_serving(servicer: health.aio.HealthServicer, services: Sequence[str], *, serving: bool) -> None:
    status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
    for service in ("", *services):
        await servicer.set(service, status)


def _add_port(server: grpc.aio.Server, settings: ListenSettings) -> int:
    address, credentials = f"{in_url(settings.host)}:{settings.grpc_port}", server_credentials(settings)
    try:
        if credentials is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, credentials))
    except RuntimeError:
        raise StartupError(f"cannot listen on {address} (--grpc-port): is it taken?") from None


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens on a port for HTTP; port 0: any free one.

    Raises:
        StartupError: the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise StartupError(f"cannot listen on {in_url(host)}:{port} (--http-port): {error.strerror}") from None


def in_url(host: str) -> str:
    """As it stands before a port: an address of IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host
