"""A connection to whoever serves the link service."""

import grpc

_OPTIONS = [
    # A server that comes back is found within about a second, also under a new address.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
    # A host that vanished without a word is noticed while calls wait for it. More often than every 30 s,
    # a server would take the pings for abuse and hang up.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # A ping that measures the connection keeps that one back, by default for a minute; a call waits no longer.
    ("grpc.http2.ping_timeout_ms", 10_000),
    # The other end is a neighbour: a web proxy named in the environment is not on the way.
    ("grpc.enable_http_proxy", 0),
]


def connect(target: str, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
    """The one connection to HOST:PORT, made when first needed and again whenever it is lost; None: without TLS."""
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=_OPTIONS)
    return grpc.aio.secure_channel(target, credentials, options=_OPTIONS)
