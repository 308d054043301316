"""HTTP/1.1 server (uvicorn, h11) for untrusted clients: deadlines and limits of connections."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from semlink.service.http_server import HAS_ROOM
from semlink.service.logs import SparseFilter

HEAD_SECONDS = 10.0
"""Deadline of a TLS handshake, of the head of a request, and of the rest of a request that has been answered."""
CLOSE_SECONDS = 1.0
"""Deadline, at the end, of an idle client to close TLS as well: it may read nothing."""
WRITE_SECONDS = 10.0
"""Deadline of a client that takes nothing of the answers that wait for it, more than 64 KiB."""
MAX_DISCARDED_BYTES = 32 << 20
"""Bytes of a refused request's body that are read and dropped: closed at once, clients would miss the answer."""


class HttpServer(uvicorn.Server):
    """uvicorn with limits on connections; serves until `should_exit` is set, and leaves signals to its caller."""

    def __init__(self, app: ASGIApp, max_connections: int, tls: ssl.SSLContext | None) -> None:
        """Beyond `max_connections`, those that wait for their client are closed, see `_Connection`."""
        configuration = uvicorn.Config(
            app,
            ws="none",
            log_config=None,
            access_log=False,
            # With them, clients could choose the address that their rate is counted by.
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        super().__init__(configuration)
        self._max_connections, self._tls = max_connections, tls

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, with deadlines for TLS, which uvicorn has none of."""
        await self.lifespan.startup()
        limit = HEAD_SECONDS if self._tls else None
        loop = asyncio.get_running_loop()
        logger = logging.Logger(f"{__name__}.connections", logging.WARNING)
        logger.parent = logging.root
        logger.addFilter(SparseFilter())
        connect = partial(
            _Connection,
            self.config,
            self.server_state,
            self.lifespan.state,
            max_connections=self._max_connections,
            logger=logger,
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
    """HTTP/1.1 connection that is closed where its client takes too long to send a head, or to take answers.

    One connection too many closes another that waits for its client, has shown no key, and is of the address that
    has most of them: the one that has waited longest. So strangers keep out nobody. Where there is none, requests
    are answered with 503, but for those about the health, and those that show a key.
    """

    def __init__(self, *arguments: Any, max_connections: int, logger: logging.Logger) -> None:
        super().__init__(*arguments)
        self.logger = logger
        self._served, self.app, self._max_connections = self.app, self._serve, max_connections
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._discarded = 0
        self._is_idle = False
        self.showed_key = False
        self.active = self.loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio sets it only on sockets that name their protocol; without, a body waits for the ACK of its head.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._has_room()
        self._expect_a_head()

    def data_received(self, data: bytes) -> None:
        self.active = self.loop.time()
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

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self._abort_later(WRITE_SECONDS)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.active = self.loop.time()
        self._expect_no_write()

    def send_400_response(self, msg: str) -> None:
        """Answers malformed HTTP; unlike uvicorn's own, also where a request or its answer has begun."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # for the application, the client has gone
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()
        self._abort_later(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_no_head()
        self._expect_no_write()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_later(HEAD_SECONDS)  # even if the client doesn't read the answer

    def timeout_keep_alive_handler(self) -> None:
        self._note_idle()
        super().timeout_keep_alive_handler()
        self._abort_later(HEAD_SECONDS)

    def shutdown(self) -> None:
        """Ends it: at once, or after the answer to what it asks for."""
        self._note_idle()
        if not self.transport.is_closing():  # closed twice, TLS could not be aborted
            super().shutdown()
        if self._is_idle:
            self._abort_later(CLOSE_SECONDS)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("extensions", {})[HAS_ROOM] = self._has_room_for
        await self._served(scope, receive, send)

    def _has_room_for(self, has_key: bool) -> bool:
        """Whether a request may be served; connections that show a key have as many places again."""
        self.showed_key |= has_key
        return self._has_room() or (has_key and len(self.connections) <= 2 * self._max_connections)

    def _has_room(self) -> bool:
        """Whether there are no connections too many; if there are, closes one that waits for its client."""
        every = cast(set[_Connection], self.connections)
        if len(every) <= self._max_connections:
            return True
        of_address = Counter(each.address for each in every)
        waiting = [each for each in every if each is not self and each.may_be_closed]
        if waiting:
            first = min(waiting, key=lambda each: (-of_address[each.address], each.active))
            first.transport.abort()
        return bool(waiting)

    @property
    def address(self) -> str:
        """IP address of the client."""
        return self.client[0] if self.client else ""

    @property
    def may_be_closed(self) -> bool:
        """Whether the client is to send or to take something next, and has shown no key."""
        if self.showed_key or self.transport.is_closing():
            return False
        cycle = self.cycle
        return cycle is None or cycle.response_complete or cycle.more_body or self.flow.write_paused

    def _note_idle(self) -> None:
        if not self.transport.is_closing():
            is_answered = self.cycle is None or self.cycle.response_complete
            self._is_idle = is_answered and not self.transport.get_write_buffer_size()

    def _abort_later(self, seconds: float) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, self.transport.abort)

    def _expect_a_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self._abort_later(HEAD_SECONDS)

    def _expect_no_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _expect_no_write(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
