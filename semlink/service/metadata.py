"""Metadata that goes along with calls from process to process."""

import grpc

from semlink.service import tracing
from semlink.service.correlation import REQUEST_ID, current_request

PASSED_ON = ("authorization", REQUEST_ID, "traceparent", "tracestate")
"""Who calls; and the ids under which one request is found in the logs and traces of every process on its way."""

Metadata = tuple[tuple[str, str], ...]


def outgoing(context: grpc.aio.ServicerContext | None = None) -> Metadata:
    """The metadata of a call that is made for the request that this task has begun.

    Args:
        context: the call that is passed on, if one is; what it brought along of PASSED_ON goes on.
    """
    received = (context and context.invocation_metadata()) or ()
    sent = {name: value for name, value in received if name in PASSED_ON}
    if request_id := current_request():
        sent[REQUEST_ID] = request_id
    return tuple((sent | tracing.tracer.headers()).items())
