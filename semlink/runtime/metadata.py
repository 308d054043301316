"""Metadata of a call that whoever passes the call on passes on too."""

import grpc

PASSED_ON = ("authorization", "x-request-id", "traceparent", "tracestate")
"""Who calls; and the ids under which one request is found in the logs and traces of every process on its way."""


def passed_on(context: grpc.aio.ServicerContext) -> tuple[tuple[str, str | bytes], ...]:
    """What a call brought along of PASSED_ON."""
    return tuple((name, value) for name, value in context.invocation_metadata() or () if name in PASSED_ON)
