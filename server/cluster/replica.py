"""Ray Serve replica: one server of several, with its own model and queue."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, TypeVar

import grpc
import structlog
from fastapi import FastAPI
from grpc_health.v1 import health_pb2
from ray.serve.grpc_util import RayServegRPCContext

from semlink.service.admission import LOOPBACK, NotAdmitted
from semlink.service.interceptor import address_of, admit, answering
from semlink.service.logs import configure_logs
from semlink.service.tracing import traced
from semlink.v1 import link_pb2 as pb
from server.assembly import assembled
from server.cluster.ingress import ReplicaContext
from server.settings import ServerSettings

Answer = TypeVar("Answer")
Method = Callable[[Any, Any], Awaitable[Answer]]


class NotFromHere(NotAdmitted):
    """A call from another machine, where --host says that there are none."""

    reason = "origin"
    code = grpc.StatusCode.PERMISSION_DENIED
    status = HTTPStatus.FORBIDDEN


class Replica:
    """The same as a server that runs on its own: a model with its queue, the link service and the REST API.

    Ray Serve sends it calls from the time that it is made, and finds its methods by the names of the contracts.
    """

    async def __init__(self, settings: ServerSettings) -> None:  # type: ignore[misc]  # Ray Serve awaits it
        """Ready once the model is.

        Raises:
            EngineError, StartupError, WeightsError: as a server would say.
        """
        configure_logs(settings, "server")
        self._stack = AsyncExitStack()
        self._stack.enter_context(traced(settings, "server"))
        self._server = await self._stack.enter_async_context(assembled(settings))
        self._only_from_here = settings.host in LOOPBACK
        await self._server.recognizer.start()
        self._server.health.ready = True

    async def __del__(self) -> None:
        """Called by Ray Serve once the calls under way have ended."""
        await self._stack.aclose()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """What Ray Serve's HTTP ingress serves."""
        return self._server.app

    async def Classify(
        self, request: pb.ClassifyRequest, grpc_context: RayServegRPCContext
    ) -> pb.ClassifyResponse:
        """As `LinkService.Classify`."""
        return await self._answer(self._server.link.Classify, request, grpc_context, pb.ClassifyResponse())

    async def WaitVote(
        self, request: pb.WaitVoteRequest, grpc_context: RayServegRPCContext
    ) -> pb.WaitVoteResponse:
        """As `LinkService.WaitVote`."""
        return await self._answer(self._server.link.WaitVote, request, grpc_context, pb.WaitVoteResponse())

    async def Check(self, request: health_pb2.HealthCheckRequest) -> health_pb2.HealthCheckResponse:
        """The health of the whole: there is a replica, and it is ready."""
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    async def _answer(
        self, method: Method[Answer], request: Any, grpc_context: RayServegRPCContext, nothing: Answer
    ) -> Answer:
        context: Any = ReplicaContext(grpc_context)
        structlog.contextvars.clear_contextvars()
        try:
            async with answering(method.__name__, context, self._server.admission):
                if self._only_from_here:
                    check_origin(context.peer())
                admit(self._server.admission, context)
                return await method(request, context)
        except grpc.aio.AbortError:
            return nothing


def check_origin(peer: str) -> None:
    """Bars callers from elsewhere: Ray Serve's gRPC ingress knows no --host, and takes their calls too.

    Raises:
        NotFromHere: `peer`, as gRPC names it, is not on this machine.
    """
    try:
        from_here = ip_address(address_of(peer)).is_loopback
    except ValueError:
        from_here = False
    if not from_here:
        raise NotFromHere("calls are taken from this machine only: start the server with another --host")
