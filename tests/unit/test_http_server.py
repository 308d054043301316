"""The HTTP server on a real socket, before an application that says what it was sent."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator

import pytest
import trustme
from fastapi import FastAPI, Request, Response
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect

from semlink.service import http_connections
from semlink.service.admission import Admission
from semlink.service.http_connections import HttpServer
from semlink.service.http_server import install_admission, install_service
from semlink.service.keys import ApiKeys
from semlink.service.problems import install_problems


class Numbers(BaseModel, extra="forbid"):
    numbers: dict[str, int]


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    app = FastAPI()
    install_problems(app)
    install_admission(app, Admission())

    @app.post("/body")
    async def body(request: Request) -> int:
        try:
            return len(await request.body())
        except ClientDisconnect:
            return 0

    @app.post("/much")
    async def much() -> Response:
        return Response(bytes(16 << 20))

    app.state.go_on = asyncio.Event()

    @app.post("/hold")
    async def hold() -> None:
        await app.state.go_on.wait()

    @app.post("/v2/health/ready")
    async def ready() -> None:
        pass

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
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode()


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


async def test_an_answer_that_is_not_taken_ends_the_connection(server, monkeypatch):
    monkeypatch.setattr(http_connections, "WRITE_SECONDS", 0.05)
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        await loop.sock_connect(connection, server.servers[0].sockets[0].getsockname())
        await loop.sock_sendall(connection, head("/much", "Content-Length: 0"))
        while not server.server_state.connections:
            await asyncio.sleep(0.01)
        while server.server_state.connections or server.server_state.tasks:
            await asyncio.sleep(0.01)


async def test_where_all_connections_wait_for_the_application_only_health_is_answered(server):
    busy = [await connect(server) for _ in range(10)]
    for _, writer in busy:
        writer.write(head("/hold", "Content-Length: 0"))
    while len(server.server_state.tasks) < 10:
        await asyncio.sleep(0.01)
    reader, writer = await connect(server)
    writer.write(head("/body", "Content-Length: 0"))
    assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")
    writer.write(head("/v2/health/ready", "Content-Length: 0"))
    await reader.readuntil(b"HTTP/1.1 200 ")
    server.config.app.state.go_on.set()
    for reader, _ in busy:
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    for _, each in [*busy, (reader, writer)]:
        each.close()


async def test_of_malformed_requests_few_are_logged(server, caplog):
    for _ in range(20):
        reader, writer = await connect(server)
        writer.write(b"\0\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
        writer.close()
    assert 1 <= len(caplog.records) <= 3


@pytest.mark.parametrize("is_late", [False, True])
async def test_an_idle_client_that_reads_nothing_does_not_hold_up_the_end_of_tls(monkeypatch, is_late):
    monkeypatch.setattr(http_connections, "HEAD_SECONDS", 600.0)
    monkeypatch.setattr(http_connections, "CLOSE_SECONDS", 0.05)
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    app = FastAPI()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = HttpServer(app, 10, tls)
        server.config.timeout_graceful_shutdown = 600
        server.config.timeout_keep_alive = 0 if is_late else 600
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        where = listening.getsockname()

        def answered() -> ssl.SSLSocket:
            client = trusting.wrap_socket(socket.create_connection(where), server_hostname="localhost")
            client.sendall(head("/nowhere", "Content-Length: 0"))
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 404 ")
            return client

        with await asyncio.to_thread(answered):
            (connection,) = server.server_state.connections
            while is_late and not connection.transport.is_closing():
                await asyncio.sleep(0.01)
            server.should_exit = True
            async with asyncio.timeout(60):
                await serving
        assert not server.server_state.connections


class Noting:
    """Middleware that takes down the status of every answer that passes it."""

    def __init__(self, app, statuses):
        self.app, self.statuses = app, statuses

    async def __call__(self, scope, receive, send):
        async def note(message):
            if message["type"] == "http.response.start":
                self.statuses.append(message["status"])
            await send(message)

        await self.app(scope, receive, note if scope["type"] == "http" else send)


def test_the_stack_of_a_process_in_its_order():
    app, everybody, admitted = FastAPI(docs_url=None, redoc_url=None), [], []
    install_service(
        app,
        Admission(ApiKeys({"camera": "k" * 16})),
        longest_body=lambda headers: 100,
        max_held_bytes=1000,
        admitted=Middleware(Noting, statuses=admitted),
        everybody=Middleware(Noting, statuses=everybody),
        public=["/public"],
    )

    @app.get("/public")
    @app.get("/things")
    async def things() -> list[int]:
        return []

    client, key = TestClient(app, base_url="http://localhost"), {"Authorization": f"Bearer {'k' * 16}"}
    answers = [
        client.get("/things"),
        client.get("/public"),
        client.head("/things", headers=key),
        client.post("/things", headers=key, content=bytes(101)),
        client.get("/docs"),
    ]
    assert [each.status_code for each in answers] == everybody == [401, 200, 200, 413, 200]
    assert admitted == [200, 200, 413, 200]
    assert all(each.headers["x-request-id"] for each in answers)
    assert answers[2].content == b""
    assert answers[3].json()["reason"] == "oversized"
