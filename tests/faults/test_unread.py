"""Answers that nobody reads, and connections that say nothing: all others are served meanwhile."""

import contextlib
import socket
from collections.abc import Iterator

import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from http2 import Unread
from processes import Running, running, wait_until
from stub_server import GREY

from semlink.source.iaq.coder import encode
from semlink.v1.link_pb2 import ClassifyRequest

ALICE, MALLORY = "correct-horse-battery-staple", "0123456789abcdef0123456789"
CLASSIFY, CHECK = "/semlink.v1.LinkService/Classify", "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
MAX_HTTP_CONNECTIONS = 8
REQUEST = ClassifyRequest(
    frame=encode(np.zeros((224, 224, 3), np.uint8), np.ones(196), rho=0.001).frame.to_bytes()
)
HASTY = """
from semlink.service import interceptor
interceptor.STREAM_WRITE_SECONDS, interceptor.PROMPT_SECONDS = 0.2, 0.1
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    keys, flags = f"alice {ALICE}, mallory {MALLORY}", ["--max-http-connections", MAX_HTTP_CONNECTIONS]
    with running("-c", HASTY + GREY, *flags, SEMLINK_API_KEYS=keys) as process:
        wait_until(lambda: process.is_ready)
        yield process


def is_serving(server: Running) -> bool:
    answer = health_pb2_grpc.HealthStub(server.channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
    return answer.status == health_pb2.HealthCheckResponse.SERVING


def classify(server: Running, key: str) -> str:
    answer = server.link.Classify(REQUEST, timeout=30, metadata=(("authorization", f"Bearer {key}"),))
    return answer.predictions[0].name


def metrics_over(client: httpx.Client, key: str) -> int:
    return client.get("/metrics", headers={"authorization": f"Bearer {key}"}).status_code


class TestGrpc:
    def test_health_checks(self, server):
        """16 were enough to keep out every other one."""
        with Unread(server.grpc_address) as attacker:
            for _ in range(60):
                attacker.call(CHECK, b"")
            attacker.take_heads(60)
            assert is_serving(server)
            assert classify(server, ALICE) == "grey"

    def test_classifications(self, server):
        """256 of one key were enough to fill the server; now whoever does not read is refused, and nobody else."""
        with Unread(server.grpc_address) as attacker:
            for _ in range(256):
                attacker.call(CLASSIFY, REQUEST.SerializeToString(), MALLORY)
            attacker.take_heads(256)
            assert is_serving(server)
            assert classify(server, ALICE) == "grey"

            def is_refused() -> bool:
                with contextlib.suppress(grpc.RpcError):
                    return not classify(server, MALLORY)
                return True

            wait_until(is_refused)
            with pytest.raises(grpc.RpcError, match="wait for you to take them"):
                classify(server, MALLORY)
            assert classify(server, ALICE) == "grey"
        wait_until(lambda: not is_refused())

    def test_messages_that_never_come_leave_half_of_the_places(self, server):
        with Unread(server.grpc_address) as attacker:
            for _ in range(256):
                attacker.call(CLASSIFY, b"", MALLORY, ends=False)
            attacker.take_heads(128)  # half are refused
            assert classify(server, ALICE) == "grey"
            assert is_serving(server)

    def test_streams_lose_their_places(self, server):
        with Unread(server.grpc_address) as attacker:
            for _ in range(16):
                attacker.call(WATCH, b"")
            attacker.take_heads(16)
            watch = health_pb2_grpc.HealthStub(server.channel).Watch

            def is_watched() -> bool:
                watcher = watch(health_pb2.HealthCheckRequest(), timeout=30)
                with contextlib.suppress(grpc.RpcError):
                    return next(watcher).status == health_pb2.HealthCheckResponse.SERVING
                return False

            wait_until(is_watched)

    def test_nothing_was_logged_but_refusals(self, server):
        """After all of the above."""
        assert "Traceback" not in server.logs
        assert "error" not in server.logs


def unread(server: Running) -> socket.socket:
    """A connection that asks for much, and takes nothing of it."""
    host, _, port = server.http_address.rpartition(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((host, int(port)))
    connection.setblocking(False)
    connection.send(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
    return connection


class TestHttp:
    def test_pipelined_requests(self, server):
        """As many as there may be connections were enough to have every other request answered with 503."""
        with contextlib.ExitStack() as stack:
            client = stack.enter_context(httpx.Client(base_url=f"http://{server.http_address}", timeout=30))
            for _ in range(3 * MAX_HTTP_CONNECTIONS):
                stack.enter_context(unread(server))
                assert client.get("/v2/health/ready").status_code == 200
                assert metrics_over(client, ALICE) == 200

    def test_silent_connections(self, server):
        """They are closed, and not the one that has shown a key."""
        host, _, port = server.http_address.rpartition(":")
        with contextlib.ExitStack() as stack:
            head = f"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ALICE}\r\n\r\n".encode()
            known = stack.enter_context(socket.create_connection((host, int(port)), timeout=30))
            known.sendall(head)
            assert known.recv(15) == b"HTTP/1.1 200 OK"
            silent = [
                stack.enter_context(socket.create_connection((host, int(port)), timeout=30))
                for _ in range(3 * MAX_HTTP_CONNECTIONS)
            ]
            with contextlib.suppress(ConnectionError):
                assert silent[0].recv(1) == b""
            with httpx.Client(base_url=f"http://{server.http_address}", timeout=30) as newcomer:
                assert metrics_over(newcomer, ALICE) == 200
            known.sendall(head)
            said = b""
            while said.count(b"HTTP/1.1 200 OK") < 1:
                more = known.recv(65536)
                assert more
                said += more
