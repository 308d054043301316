"""uvicorn for strangers: connections bounded in number, and closed when they keep the process waiting."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from semlink.service.problems import problem_response

HEAD_SECONDS = 10.0
"""How long a TLS handshake may take, the head of a request, and what is left of one that has been answered."""
MAX_DISCARDED_BYTES = 32 << 20
"""So much of a body is let go by after its request was refused: hung up on at once, clients miss the answer."""


class HttpServer(uvicorn.Server):
    """Serves until `should_exit` is set; leaves signals to whoever runs it."""

    def __init__(self, app: ASGIApp, max_connections: int, tls: ssl.SSLContext | None) -> None:
        """Requests on more than `max_connections` are answered with 503; more than twice as many are cut off."""
        configuration = uvicorn.Config(
            app,
            ws="none",
            log_config=None,
            access_log=False,
            # Whoever claims to be a proxy would choose the address that it is counted by.
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        super().__init__(configuration)
        self._max_connections, self._tls = max_connections, tls

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens; unlike uvicorn's own, with deadlines for TLS."""
        await self.lifespan.startup()
        limit = HEAD_SECONDS if self._tls else None
        loop = asyncio.get_running_loop()
        connect = partial(
            _Connection, self.config, self.server_state, self.lifespan.state, max_connections=self._max_connections
        )
        self.servers = [
            await loop.create_server(
                connect, sock=each, ssl=self._tls, ssl_handshake_timeout=limit, ssl_shutdown_timeout=limit
            )
            for each in sockets or []
        ]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


class _Connection(H11Protocol):
    """A connection that is closed unless the whole head of its first and of every further request comes soon."""

    def __init__(self, *arguments: Any, max_connections: int) -> None:
        super().__init__(*arguments)
        self._served, self._max_connections = self.app, max_connections
        self._head_timer: asyncio.TimerHandle | None = None
        self._discarded = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio does so only for sockets that name their protocol; a body would wait for the ACK of its head.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > 2 * self._max_connections:
            transport.abort()
        self._expect_a_head()

    def data_received(self, data: bytes) -> None:
        self.app = self._served if len(self.connections) <= self._max_connections else _busy
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._expect_no_head()
            self._discarded = 0
        elif before is None or before.response_complete:
            self._expect_a_head()
            self._discarded += len(data)
            if self._discarded > MAX_DISCARDED_BYTES:
                self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP; unlike uvicorn's own, also where a request or its answer has begun."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # nobody is there any more for the application
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()
        self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_no_head()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self.loop.call_later(HEAD_SECONDS, self.transport.abort)  # though nobody reads the answer

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _expect_a_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _expect_no_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


async def _busy(scope: Scope, receive: Receive, send: Send) -> None:
    detail, headers = "as many connections are open as may be", {"Retry-After": "1"}
    refusal = problem_response(scope["path"], HTTPStatus.SERVICE_UNAVAILABLE, detail, headers)
    await refusal(scope, receive, send)
