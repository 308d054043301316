"""The HTTP server on a real socket, before an application that says what it was sent."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from semlink.service.http_server import HttpServer
from semlink.service.problems import install_problems


class Numbers(BaseModel, extra="forbid"):
    numbers: dict[str, int]


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    app = FastAPI()
    install_problems(app)

    @app.post("/body")
    async def body(request: Request) -> int:
        try:
            return len(await request.body())
        except ClientDisconnect:
            return 0

    @app.post("/numbers")
    async def numbers(body: Numbers) -> int:
        return len(body.numbers)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = HttpServer(app, 10, None)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield server
        server.should_exit = True
        await serving


async def connect(server: HttpServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*server.servers[0].sockets[0].getsockname())


def head(path: str, *fields: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *fields, "", ""]).encode()


@pytest.mark.parametrize("before", [b"", b"2\r\nab\r\n"])
async def test_a_body_that_is_no_http_ends_the_request_and_nothing_is_the_matter(server, before, caplog):
    reader, writer = await connect(server)
    writer.write(head("/body", "Transfer-Encoding: chunked") + before + b"zz\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
    assert b"Invalid HTTP request" in await reader.read()
    while server.server_state.tasks:
        await asyncio.sleep(0.01)
    writer.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_what_is_no_http_after_an_answer_hangs_up(server, caplog):
    reader, writer = await connect(server)
    writer.write(head("/nowhere", "Transfer-Encoding: chunked"))
    assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 404 ")
    writer.write(b"zz\r\n")
    assert await reader.read() == b""
    writer.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_answers_do_not_wait_to_be_acknowledged(server):
    reader, writer = await connect(server)
    writer.write(head("/body", "Content-Length: 2") + b"ab")
    await reader.readuntil(b"\r\n\r\n2")
    (connection,) = server.server_state.connections
    taken = connection.transport.get_extra_info("socket")
    assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    writer.close()


async def test_of_many_mistakes_few_are_told(server):
    mistakes = ",".join(f'"{number}{"x" * 500}":"none"' for number in range(100))
    data = f'{{"numbers":{{{mistakes}}}}}'.encode()

    reader, writer = await connect(server)
    fields = "Content-Type: application/json", f"Content-Length: {len(data)}", "Connection: close"
    writer.write(head("/numbers", *fields) + data)
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 422 ")
    assert b"body.numbers.0xxx" in answer
    assert b"; and 95 more" in answer
    assert len(answer) < 2500
    writer.close()
