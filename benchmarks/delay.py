"""Delay: a relay of TCP connections that passes on every byte a fixed time after it came, as a long line does."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

CHUNK_BYTES = 1 << 16


@contextmanager
def delayed(target: str, seconds: float) -> Iterator[str]:
    """Address of a relay to `target` on this machine, whose bytes arrive so many seconds later, either way.

    Pieces wait beside each other: throughput is as without the relay.

    Args:
        target: HOST:PORT.
        seconds: half of what it adds to a round trip.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection(*target.rsplit(":", 1))
        await asyncio.gather(_pass_on(reader, to_writer, seconds), _pass_on(to_reader, writer, seconds))

    server = asyncio.run_coroutine_threadsafe(asyncio.start_server(serve, "127.0.0.1", 0), loop).result()
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    while piece := await reader.read(CHUNK_BYTES):
        loop.call_later(seconds, writer.write, piece)
    loop.call_later(seconds, writer.close)
