"""Local Ray Serve: on this machine only, started for the server and ended with it."""

import json
import logging
import os
import secrets
import signal
import socket
import threading

# Read when Ray is first imported. What follows is for a Ray of this process's own, on one machine.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DEDUP_LOGS", "0")
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on any system: no other machines, loopback only
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray writes one into the home directory

import ray
import structlog
from ray import serve
from ray.serve.config import HTTPOptions, gRPCOptions

from semlink.service.interceptor import MAX_WAIT_SECONDS
from semlink.service.listener import MAX_MESSAGE_BYTES
from semlink.service.settings import StartupError
from server.cluster.application import application, cpus_of_replica
from server.settings import ServerSettings

log = structlog.get_logger(__name__)

OBJECT_STORE_BYTES = 100 << 20
"""Requests and answers pass by it; it holds pictures on their way to a replica."""
MARGIN_SECONDS = 5.0
"""Ray Serve gives up so long after a replica would have."""


def run(settings: ServerSettings) -> None:
    """Serves on replicas of this machine until SIGTERM or SIGINT.

    Port 0 means any free one. Once there are replicas, which have their models, one JSON line on standard output
    says where they are reached, as the server's own does.

    Raises:
        StartupError: the settings contradict each other, a port is taken, or Ray or its replicas did not start.
    """
    app = application(settings)
    grpc_port, http_port = _free_port(settings, "grpc_port"), _free_port(settings, "http_port")
    seconds = max(settings.request_timeout_seconds, MAX_WAIT_SECONDS) + MARGIN_SECONDS
    os.environ.setdefault("RAY_SERVE_GRPC_MAX_MESSAGE_SIZE", str(MAX_MESSAGE_BYTES))
    try:
        _start_ray(settings)
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        serve.start(
            http_options=HTTPOptions(host=settings.host, port=http_port, request_timeout_s=seconds),
            grpc_options=gRPCOptions(
                port=grpc_port,
                grpc_servicer_functions=["server.cluster.ingress.add_to_server"],
                request_timeout_s=seconds,
            ),
            logging_config={"log_level": "WARNING", "enable_access_log": False},
        )
        try:
            serve.run(app, name="server")
        except (RuntimeError, TimeoutError) as error:
            raise StartupError(f"no replica started: {error}") from None
        where = {"grpc": f"{settings.host}:{grpc_port}", "http": f"{settings.host}:{http_port}"}
        print(json.dumps({"event": "listening", **where}), flush=True)
        log.info("listening", **where, replicas=settings.replicas, max_replicas=settings.max_replicas)
        stop.wait()
        log.info("stopping")
        serve.shutdown()
    finally:
        ray.shutdown()
    log.info("stopped")


def _start_ray(settings: ServerSettings) -> None:
    try:
        ray.init(
            address="local",
            # Ray counts reserved CPUs, and not those of this machine: as many as the replicas reserve.
            num_cpus=(settings.max_replicas or settings.replicas) * cpus_of_replica(settings),
            num_gpus=0,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            logging_level=logging.WARNING,
        )
    except Exception as error:  # Ray raises no narrower one; its own processes have 15 s to start
        raise StartupError(f"Ray did not start: {error}") from None


def _free_port(settings: ServerSettings, name: str) -> int:
    """A port that Ray Serve can have."""
    port: int = getattr(settings, name)
    try:
        with socket.create_server((settings.host, port)) as found:
            return found.getsockname()[1]
    except OSError as error:
        flag = f"--{name.replace('_', '-')}"
        raise StartupError(f"cannot listen on {settings.host}:{port} ({flag}): {error.strerror}") from None
