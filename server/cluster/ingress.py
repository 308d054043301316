"""Ray Serve's gRPC ingress: the link service in its proxies, and the context of a call on both sides of it."""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, NoReturn

import grpc
from grpc_health.v1 import health, health_pb2

from semlink.service.correlation import REQUEST_ID
from semlink.v1 import link_pb2_grpc

Handler = Callable[[Any, Any], Any]

TIME_LEFT = "semlink-time-left"
"""Metadata in which a proxy sends to the replica how many seconds the caller waits."""


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


class ProxyContext:
    """The context of a call in a proxy, with TIME_LEFT, which Ray Serve would not pass on to the replica."""

    def __init__(self, context: grpc.aio.ServicerContext) -> None:
        """Around the context of gRPC."""
        self._context = context

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The caller's metadata, and the seconds left; a TIME_LEFT that the caller sent is removed."""
        received = [(key, value) for key, value in self._context.invocation_metadata() or () if key != TIME_LEFT]
        seconds = self._context.time_remaining()
        return tuple(received) if seconds is None else (*received, (TIME_LEFT, str(seconds)))

    def __getattr__(self, name: str) -> Any:
        """All else is gRPC's."""
        return getattr(self._context, name)


class ReplicaContext:
    """The context of a call in a replica, with those methods of `grpc.aio.ServicerContext` that Ray Serve lacks.

    Ray Serve sends code, details and trailing metadata to the caller only when a method returns. So after the
    AbortError of `abort` the method must return some message, which the caller does not get.
    """

    def __init__(self, context: Any) -> None:
        """Around the context that Ray Serve makes."""
        self._context = context
        self._code, self._details = 0, ""
        self._trailing: tuple[tuple[str, Any], ...] = ()

    def time_remaining(self) -> float | None:
        """Seconds that the caller still waited when the proxy had the call; None: without limit."""
        seconds = dict(self._context.invocation_metadata()).get(TIME_LEFT)
        return None if seconds is None else float(seconds)

    def done(self) -> bool:
        """False: a method runs until the call is done."""
        return False

    def code(self) -> int:
        """The number of the status code; 0 before `abort`."""
        return self._code

    def details(self) -> str:
        """The message beside the code."""
        return self._details

    def trailing_metadata(self) -> tuple[tuple[str, Any], ...]:
        """Metadata that go to the caller after the answer."""
        return self._trailing

    def set_trailing_metadata(self, trailing: Iterable[tuple[str, Any]]) -> None:
        """Replaces them."""
        self._trailing = tuple(trailing)
        self._context.set_trailing_metadata(list(self._trailing))

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing: tuple[tuple[str, Any], ...] = ()
    ) -> NoReturn:
        """Ends the method.

        Raises:
            grpc.aio.AbortError: always.
        """
        self._code, self._details = code.value[0], details
        self._context.set_code(code)
        self._context.set_details(details)
        if trailing:
            self.set_trailing_metadata(trailing)
        raise grpc.aio.AbortError(details)

    def __getattr__(self, name: str) -> Any:
        """All else is Ray Serve's."""
        return getattr(self._context, name)


def _guarded(handler: Handler) -> Handler:
    """Makes UNAVAILABLE of the INTERNAL by which Ray Serve says that a replica is gone: callers try again then."""

    @wraps(handler)
    async def serve(request: Any, context: grpc.aio.ServicerContext) -> Any:
        response = await handler(request, ProxyContext(context))
        is_of_replica = REQUEST_ID in dict(context.trailing_metadata() or ())
        if context.code() is grpc.StatusCode.INTERNAL and not is_of_replica:
            context.set_code(grpc.StatusCode.UNAVAILABLE)
            context.set_details("the replica that had the call is gone; send it again")
        return response

    return serve
