"""A link service that a test scripts, served in the test's own event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc

from semlink.v1 import link_pb2_grpc


@asynccontextmanager
async def serving(link: link_pb2_grpc.LinkServiceServicer, port: int = 0) -> AsyncIterator[str]:
    """Serves `link` on a port, or on any free one; gives HOST:PORT."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    link_pb2_grpc.add_LinkServiceServicer_to_server(link, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


def unused_address() -> str:
    """HOST:PORT where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{unused.getsockname()[1]}"


async def until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    """Returns once `condition` holds, the test's event loop going on meanwhile; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
