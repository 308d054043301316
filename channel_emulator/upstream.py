"""Upstream: calls passed on to it in the caller's name, within a deadline, and with all that it answers."""

from typing import Any

import grpc
import structlog
from opentelemetry.trace import SpanKind

from channel_emulator.settings import Settings
from semlink.service import tracing
from semlink.service.correlation import outgoing
from semlink.service.interceptor import abort
from semlink.service.tls import tls_hint

log = structlog.get_logger(__name__)

STATUS_DETAILS = "grpc-status-details-bin"
"""Trailing metadata with a google.rpc.Status."""


def patience(settings: Settings, context: grpc.aio.ServicerContext, wait_seconds: float = 0.0) -> float:
    """Seconds that a call may take from now on, of which the upstream is asked to wait for `wait_seconds`."""
    longest, remaining = settings.upstream_timeout_seconds + wait_seconds, context.time_remaining()
    return longest if remaining is None else min(longest, remaining)


async def pass_on(
    stub: Any,
    method: str,
    request: Any,
    context: grpc.aio.ServicerContext,
    settings: Settings,
    wait_seconds: float = 0.0,
) -> Any:
    """What the upstream's `stub` answers to a call that came here, see `patience`; its error aborts the call."""
    timeout = patience(settings, context, wait_seconds)
    try:
        with tracing.span(method, kind=SpanKind.CLIENT):
            return await getattr(stub, method)(request, timeout=timeout, metadata=outgoing(context))
    except grpc.aio.AioRpcError as error:
        code, details, note = error.code(), error.details(), log.warning
        # Whether the upstream said so itself or could not be asked, gRPC does not tell.
        if code is grpc.StatusCode.UNAVAILABLE:
            hint = await tls_hint(settings.upstream, details or "", settings.tls_server_authority is not None)
            details = f"upstream {settings.upstream} is unavailable, try again: {details}{hint}"
        elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
            details = f"upstream {settings.upstream} did not answer in time: {details}"
        elif code is grpc.StatusCode.UNIMPLEMENTED:  # no fault: servers don't know of channels
            details, note = f"upstream {settings.upstream} does not serve {method}: {details}", log.debug
        note("upstream failed", code=code.name, details=details)
        # With it travels what else the server says: when to try again, and the request's id.
        trailing = tuple(error.trailing_metadata() or ())
        if STATUS_DETAILS not in dict(trailing):
            context.set_trailing_metadata(trailing or context.trailing_metadata())
            await abort(context, code, details or "", "upstream")
        await context.abort(code, details, trailing)
