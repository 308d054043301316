"""Ray Serve application and deployment: for `python -m server --cluster ray`, `serve run` and `serve deploy`."""

from typing import Any

from ray import serve
from ray.serve import Application

from semlink.service.listener import GRACE_SECONDS
from semlink.service.settings import StartupError
from server.cluster.replica import Replica
from server.settings import ServerSettings

HEALTH_SECONDS = 2.0
"""Interval of Serve's health checks of a replica; a dead one is replaced."""


def application(settings: ServerSettings) -> Application:
    """As many replicas as the settings say; settings that Ray Serve can't fulfil are refused before any starts.

    Raises:
        StartupError: the settings contradict each other or what Ray Serve can do.
    """
    most = settings.max_replicas or settings.replicas
    if most < settings.replicas:
        raise StartupError(f"--max-replicas {most} must be no less than --replicas {settings.replicas}")
    if most > 1 and not settings.redis:
        raise StartupError(
            "several replicas need --redis redis://HOST:PORT/DATABASE: views of one object reach any of them"
        )
    if settings.tls_certificate or settings.tls_key or settings.tls_client_authority:
        raise StartupError(
            "Ray Serve's gRPC ingress speaks no TLS: leave out --tls-certificate, --tls-key and "
            "--tls-client-authority, and put a proxy that does before it (docs/cluster.md)"
        )
    scale: dict[str, Any] = {"num_replicas": settings.replicas}
    if settings.max_replicas:
        scale = {
            "autoscaling_config": {
                "min_replicas": settings.replicas,
                "max_replicas": settings.max_replicas,
                # A replica with a full batch under way and none waiting is as busy as it should be.
                "target_ongoing_requests": settings.max_batch,
            }
        }
    # A replica's own bounds come first: they say when to try again.
    calls = settings.max_concurrent_calls + settings.max_waiting_calls
    make_deployment: Any = serve.deployment(
        **scale,
        ray_actor_options={"num_cpus": cpus_of_replica(settings)},
        max_ongoing_requests=calls,
        max_queued_requests=calls,
        graceful_shutdown_timeout_s=GRACE_SECONDS,
        graceful_shutdown_wait_loop_s=0.2,
        health_check_period_s=HEALTH_SECONDS,
        logging_config={"enable_access_log": False},
    )
    return make_deployment(serve.ingress()(Replica)).bind(settings)


def cpus_of_replica(settings: ServerSettings) -> int:
    """CPUs that a replica reserves in the cluster."""
    return max(1, settings.threads)
