"""A relay of TCP connections between two processes, which does to them what networks do."""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Literal, Self

CHUNK_BYTES = 4096


class Relay:
    """Passes each connection on to the next of `upstreams` that takes it, in turn.

    Attributes:
        fault: what happens to all that passes. "delay": each piece of 4 KiB waits for 30 ms; "throttle": 256 KiB a
            second pass; "black hole": nothing does, on connections that are open now also not later, and nobody is
            told.
        cut_after: a connection is cut after so many more bytes, in the middle of whatever they are; None: never.
        accepted: connections that came.
        cuts: those that were cut after so many bytes.
        swallowed: pieces that went into the black hole.
    """

    def __init__(self, upstreams: Sequence[str]) -> None:
        """`upstreams`: their addresses, HOST:PORT."""
        self._upstreams, self._turn = list(upstreams), itertools.count()
        self.fault: Literal["", "delay", "throttle", "black hole"] = ""
        self.cut_after: int | None = None
        self.accepted = self.cuts = self.swallowed = 0
        self._writers: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Self:
        """Relays, in a thread of its own; `address` says where."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        return self

    def __exit__(self, *error: object) -> None:
        """Cuts all connections, and takes none any more."""
        try:
            self.cut()
            self._do(self._ended())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def cut(self) -> None:
        """Cuts all connections: both ends are told at once."""

        async def abort() -> None:
            for writer in self._writers:
                writer.transport.abort()

        self._do(abort())

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _ended(self) -> None:
        self._server.close()  # its connections are counted in this thread
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        upstream = await self._connect()
        if upstream is None:
            writer.transport.abort()
            return
        ends = {writer, upstream[1]}
        self._writers |= ends
        abort: Callable[[], None] = lambda: [end.transport.abort() for end in ends]  # noqa: E731
        try:
            await asyncio.gather(self._pass(reader, upstream[1], abort), self._pass(upstream[0], writer, abort))
        finally:
            abort()
            self._writers -= ends

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for _ in self._upstreams:
            host, _, port = self._upstreams[next(self._turn) % len(self._upstreams)].rpartition(":")
            with contextlib.suppress(OSError):
                return await asyncio.open_connection(host, port)
        return None

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, abort: Callable[[], None]
    ) -> None:
        is_lost = False
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(CHUNK_BYTES):
                is_lost = is_lost or self.fault == "black hole"
                if is_lost:
                    self.swallowed += 1
                    continue
                if self.fault:
                    await asyncio.sleep(0.03 if self.fault == "delay" else len(piece) / (256 << 10))
                if self.cut_after is not None:
                    self.cut_after -= len(piece)
                    if self.cut_after < 0:
                        self.cut_after = None
                        self.cuts += 1
                        writer.write(piece[: len(piece) // 2])
                        break
                writer.write(piece)
                await writer.drain()
        abort()
