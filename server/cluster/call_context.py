"""A call that came through Ray Serve's gRPC ingress, as the link service knows calls."""

from collections.abc import Sequence
from typing import Any, NoReturn

import grpc
from ray.serve.grpc_util import RayServegRPCContext

TIME_LEFT = "semlink-time-left"
"""Metadata by which server/cluster/ingress.py tells how many seconds the caller waits."""

Metadata = Sequence[tuple[str, Any]]


class CallContext:
    """Of `grpc.aio.ServicerContext` what is used here.

    Ray Serve carries code, details and trailing metadata to the caller only where a method returns, so whoever
    catches the AbortError of `abort` has to return some message, which the caller does not get.
    """

    def __init__(self, inner: RayServegRPCContext) -> None:
        """On top of what Ray Serve hands to a method."""
        self._inner = inner
        self._code, self._details = 0, ""
        self._trailing: Metadata = ()

    def invocation_metadata(self) -> Metadata:
        """What the caller sent beside its message."""
        return self._inner.invocation_metadata()

    def peer(self) -> str:
        """Who called Ray Serve, such as `ipv4:127.0.0.1:40000`."""
        return self._inner.peer()

    def time_remaining(self) -> float | None:
        """Seconds that the caller still waited when the ingress had the call; None: for as long as it takes."""
        said = dict(self.invocation_metadata()).get(TIME_LEFT)
        return None if said is None else float(said)

    def done(self) -> bool:
        """It is not, while its method runs."""
        return False

    def code(self) -> int:
        """The number of the status code; 0 before `abort`."""
        return self._code

    def details(self) -> str:
        """What the caller is told of the code."""
        return self._details

    def trailing_metadata(self) -> Metadata:
        """What goes to the caller after the answer."""
        return self._trailing

    def set_trailing_metadata(self, trailing: Metadata) -> None:
        """In place of what was set before."""
        self._trailing = tuple(trailing)
        self._inner.set_trailing_metadata(list(self._trailing))

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing: Metadata = ()) -> NoReturn:
        """Ends the method.

        Raises:
            grpc.aio.AbortError: always.
        """
        self._code, self._details = code.value[0], details
        self._inner.set_code(code)
        self._inner.set_details(details)
        if trailing:
            self.set_trailing_metadata(trailing)
        raise grpc.aio.AbortError(details)
