"""Ingress of Ray Serve: the services of its gRPC proxies; runs in them."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2

from semlink.service.correlation import REQUEST_ID
from semlink.v1 import link_pb2_grpc
from server.cluster.call_context import TIME_LEFT

Handler = Callable[[Any, Any], Any]


def add_to_server(servicer: Any, server: Any) -> None:
    """Adds the link service and the health check to a proxy; `serve.config.gRPCOptions` names this function."""
    make = server.service_handler_factory

    def make_handler(**named: Any) -> Handler:
        return _guarded(make(**named))

    server.service_handler_factory = make_handler
    link_pb2_grpc.add_LinkServiceServicer_to_server(servicer, server)
    check = grpc.unary_unary_rpc_method_handler(
        servicer.Check, health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString
    )
    # Without Watch: each watcher would take the place of a call for as long as it likes.
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(health.SERVICE_NAME, {"Check": check}),))
    server.service_handler_factory = make


class WithTimeLeft:
    """A call whose metadata say for how long its caller waits, which Ray Serve would not tell the replica."""

    def __init__(self, context: grpc.aio.ServicerContext) -> None:
        """The call `context`, of which all else stays as it is."""
        self._context = context

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """What the caller sent, and the seconds left; what a caller sent in their place is taken out."""
        received = [(key, value) for key, value in self._context.invocation_metadata() or () if key != TIME_LEFT]
        seconds = self._context.time_remaining()
        return tuple(received) if seconds is None else (*received, (TIME_LEFT, str(seconds)))

    def __getattr__(self, name: str) -> Any:
        """All else."""
        return getattr(self._context, name)


def _guarded(handler: Handler) -> Handler:
    """Tells replicas how long callers wait, and callers to try again where a replica is gone.

    Ray Serve says INTERNAL then, after which nobody would.
    """

    @wraps(handler)
    async def serve(request: Any, context: grpc.aio.ServicerContext) -> Any:
        response = await handler(request, WithTimeLeft(context))
        told_by_replica = REQUEST_ID in dict(context.trailing_metadata() or ())
        if context.code() is grpc.StatusCode.INTERNAL and not told_by_replica:
            context.set_code(grpc.StatusCode.UNAVAILABLE)
            context.set_details("the replica that had the call is gone; send it again")
        return response

    return serve
