"""A process that listens: gRPC and HTTP in one event loop, health on both, a graceful end."""

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import grpc
import structlog
import uvicorn
from fastapi import APIRouter, FastAPI, HTTPException
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from semlink.runtime.problems import problem_responses
from semlink.v1 import link_pb2, link_pb2_grpc

log = structlog.get_logger(__name__)

MAX_MESSAGE_BYTES = 2 << 20
"""Largest gRPC message taken; a frame of 1 MiB fits."""
GRACE_SECONDS = 5.0
"""How long calls under way may take to end after SIGTERM."""
LINK_SERVICE = link_pb2.DESCRIPTOR.services_by_name["LinkService"].full_name
CHANNEL_SERVICE = link_pb2.DESCRIPTOR.services_by_name["ChannelService"].full_name


class StartupError(Exception):
    """The process can't start; the message says why and what to do."""


@dataclass
class Health:
    """Whether the process is ready to serve; it is alive as long as it answers."""

    ready: bool = False

    def router(self) -> APIRouter:
        """The health endpoints of the Open Inference Protocol."""
        router = APIRouter(prefix="/v2/health", tags=["health"])
        not_ready = problem_responses(service_unavailable="Still starting, or about to stop.")

        @router.get("/live", summary="Is the process alive?")
        async def live() -> dict[str, bool]:
            return {"live": True}

        @router.get("/ready", summary="Is the process ready to serve?", responses=not_ready)
        async def ready() -> dict[str, bool]:
            if not self.ready:
                raise HTTPException(503, "not ready yet: still starting, or about to stop")
            return {"ready": True}

        return router


class _HttpServer(uvicorn.Server):
    """uvicorn, leaving the signals to `listen`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def listen(
    servicer: link_pb2_grpc.LinkServiceServicer,
    app: FastAPI,
    health_state: Health,
    *,
    host: str,
    grpc_port: int,
    http_port: int,
    max_concurrent_calls: int,
    prepare: Callable[[], Awaitable[None]],
    channel_servicer: link_pb2_grpc.ChannelServiceServicer | None = None,
    max_http_connections: int | None = None,
) -> None:
    """Serves `servicer` (and `channel_servicer`) over gRPC and `app` over HTTP until SIGTERM or SIGINT.

    Port 0 means any free one. Once both listen, one JSON line on standard output says where:
    {"event": "listening", "grpc": "HOST:PORT", "http": "HOST:PORT"}. Health answers from then on; ready is
    told after `prepare` is done. A request on more than `max_http_connections` is answered with 503.

    Raises:
        StartupError: a port is taken, or `prepare` failed so.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    server = grpc.aio.server(
        maximum_concurrent_rpcs=max_concurrent_calls,
        options=[("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.so_reuseport", 0)],
    )
    link_pb2_grpc.add_LinkServiceServicer_to_server(servicer, server)
    grpc_health = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(grpc_health, server)
    services = [LINK_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME]
    if channel_servicer is not None:
        link_pb2_grpc.add_ChannelServiceServicer_to_server(channel_servicer, server)
        services.append(CHANNEL_SERVICE)
    reflection.enable_server_reflection(services, server)
    try:
        bound_grpc_port = server.add_insecure_port(f"{host}:{grpc_port}")
    except RuntimeError:
        raise StartupError(f"cannot listen on {host}:{grpc_port} (--grpc-port): is it taken?") from None
    with _bind(host, http_port) as http_socket:
        bound_http_port = http_socket.getsockname()[1]
        await _set_serving(grpc_health, serving=False)
        await server.start()
        configuration = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=5,
            # uvicorn's own number is the first that is too many.
            limit_concurrency=max_http_connections and max_http_connections + 1,
        )
        http = _HttpServer(configuration)
        http_task = asyncio.create_task(http.serve(sockets=[http_socket]))
        where = {"grpc": f"{host}:{bound_grpc_port}", "http": f"{host}:{bound_http_port}"}
        print(json.dumps({"event": "listening", **where}), flush=True)
        log.info("listening", **where)

        preparing = asyncio.ensure_future(prepare())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({preparing, stopping, http_task}, return_when=asyncio.FIRST_COMPLETED)
            if preparing.done():
                preparing.result()
                health_state.ready = True
                await _set_serving(grpc_health, serving=True)
                log.info("ready")
                await asyncio.wait({stopping, http_task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            log.info("stopping")
            health_state.ready = False
            preparing.cancel()
            stopping.cancel()
            await grpc_health.enter_graceful_shutdown()
            await server.stop(GRACE_SECONDS)
            http.should_exit = True
            await http_task
            log.info("stopped")


async def _set_serving(servicer: health.aio.HealthServicer, *, serving: bool) -> None:
    status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
    for service in ("", LINK_SERVICE):
        await servicer.set(service, status)


def _bind(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=128)
    except OSError as error:
        raise StartupError(f"cannot listen on {host}:{port} (--http-port): {error.strerror}") from None
