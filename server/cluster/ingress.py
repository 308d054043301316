"""What Ray Serve's gRPC proxies are told to serve; runs in them."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2

from semlink.runtime.correlation import REQUEST_ID
from semlink.v1 import link_pb2_grpc

Handler = Callable[[Any, grpc.aio.ServicerContext], Any]


def add_to_server(servicer: Any, server: Any) -> None:
    """Adds the link service and the health check to a proxy; `serve.config.gRPCOptions` names this function."""
    make = server.service_handler_factory

    def make_handler(**named: Any) -> Handler:
        return _or_unavailable(make(**named))

    server.service_handler_factory = make_handler
    link_pb2_grpc.add_LinkServiceServicer_to_server(servicer, server)
    check = grpc.unary_unary_rpc_method_handler(
        servicer.Check, health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString
    )
    # Without Watch: each watcher would take the place of a call for as long as it likes.
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(health.SERVICE_NAME, {"Check": check}),))
    server.service_handler_factory = make


def _or_unavailable(handler: Handler) -> Handler:
    """Tells callers to try again where a replica is gone: Ray Serve says INTERNAL, after which nobody would."""

    @wraps(handler)
    async def serve(request: Any, context: grpc.aio.ServicerContext) -> Any:
        response = await handler(request, context)
        told_by_replica = REQUEST_ID in dict(context.trailing_metadata() or ())
        if context.code() is grpc.StatusCode.INTERNAL and not told_by_replica:
            context.set_code(grpc.StatusCode.UNAVAILABLE)
            context.set_details("the replica that had the call is gone; send it again")
        return response

    return serve
