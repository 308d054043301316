"""HAProxy as deploy/proxy configures it, before a server: TLS, mutual TLS, limits, deadlines, gRPC and HTTP."""

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import trustme
import yaml
from docs_examples import blocks
from grpc_health.v1 import health_pb2, health_pb2_grpc
from haproxy import CONFIGURATION, Proxy, haproxy_program, running_haproxy
from http2 import Unread
from processes import Running, running, wait_until
from stub_server import FRAME_TYPE, GREY

from semlink.service.keys import read_keys
from semlink.source.iaq.coder import encode
from semlink.v1 import link_pb2_grpc
from semlink.v1.link_pb2 import ClassifyRequest

KEY = "correct-horse-battery-staple"
BEARER = {"authorization": f"Bearer {KEY}"}
FRAME = encode(np.zeros((224, 224, 3), np.uint8), np.ones(196), rho=0.001).frame.to_bytes()
CLASSIFY, CHECK = "/semlink.v1.LinkService/Classify", "/grpc.health.v1.Health/Check"
HASTY = {
    "timeout client 10s": "timeout client 1s",
    "timeout http-request 10s": "timeout http-request 1s",
    "timeout http-keep-alive 10s": "timeout http-keep-alive 1s",
}
"""Shorter deadlines, so that a test need not wait for them."""
STRANGER = "127.0.0.2"
"""Another address of this machine: limits are those of one address."""


@pytest.fixture(scope="module")
def pem(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("proxy")
    for authority, names in (("authority", ("site", "device")), ("other", ("intruder",))):
        issuer = trustme.CA()
        issuer.cert_pem.write_to_path(folder / f"{authority}.pem")
        for name in names:
            issued = issuer.issue_cert("localhost", "127.0.0.1")
            issued.private_key_and_cert_chain_pem.write_to_path(folder / f"{name}.pem")
    return folder


@pytest.fixture(scope="module")
def server(request) -> Iterator[Running]:
    haproxy_program(request.node.nodeid)
    with running("-c", GREY, SEMLINK_API_KEYS=f"camera {KEY}") as process:
        wait_until(lambda: process.is_ready)
        yield process


@pytest.fixture(scope="module")
def proxy(request, server, pem) -> Iterator[Proxy]:
    text = CONFIGURATION.read_text()
    for ours, theirs in HASTY.items():
        assert ours in text
        text = text.replace(ours, theirs)
    with running_haproxy(request.node.nodeid, server, pem, text) as started:
        yield started


def classify_over_grpc(channel: grpc.Channel) -> str:
    link = link_pb2_grpc.LinkServiceStub(channel)
    answer = link.Classify(ClassifyRequest(frame=FRAME), timeout=30, metadata=tuple(BEARER.items()))
    return answer.predictions[0].name


def classify_over_http(client: httpx.Client) -> str:
    answer = client.post("/v1/classify", content=FRAME, headers=BEARER | {"content-type": FRAME_TYPE})
    return answer.json()["predictions"][0]["name"]


def serves_others(proxy: Proxy) -> None:
    with proxy.grpc() as channel, proxy.http() as client:
        assert classify_over_grpc(channel) == "grey"
        assert classify_over_http(client) == "grey"
        check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
        assert check.status == health_pb2.HealthCheckResponse.SERVING
        assert client.get("/v2/health/ready").json()["ready"]


@pytest.fixture(scope="module")
def unchanged(request, server, pem) -> Iterator[Proxy]:
    with running_haproxy(request.node.nodeid, server, pem, CONFIGURATION.read_text()) as started:
        yield started


def test_the_configuration_itself_is_accepted(unchanged):
    serves_others(unchanged)


@pytest.fixture(scope="module")
def mutual(request, server, pem) -> Iterator[Proxy]:
    text, authority = CONFIGURATION.read_text(), str(pem / "authority.pem")
    with running_haproxy(request.node.nodeid, server, pem, text, authority) as started:
        yield started


class TestMutualTls:
    def test_whose_certificate_the_site_has_signed(self, mutual):
        with mutual.grpc("device") as channel, mutual.http("device") as client:
            assert classify_over_grpc(channel) == "grey"
            assert classify_over_http(client) == "grey"

    @pytest.mark.parametrize("certificate", [None, "intruder"])
    def test_nobody_else(self, mutual, certificate):
        with mutual.http(certificate) as client, pytest.raises(httpx.TransportError):
            client.get("/v2/health/live")
        with mutual.grpc(certificate) as channel, pytest.raises(grpc.RpcError) as caught:
            classify_over_grpc(channel)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


class TestAttacks:
    @pytest.mark.parametrize(
        ("path", "message", "calls"),
        [(CHECK, b"", 60), (CLASSIFY, ClassifyRequest(frame=FRAME).SerializeToString(), 12)],
        ids=["checks", "frames"],  # no more frames than may wait for the model
    )
    def test_grpc_answers_that_nobody_reads(self, proxy, path, message, calls):
        with contextlib.ExitStack() as stack:
            attackers = []
            for _ in range(4):
                attackers.append(stack.enter_context(Unread(proxy.address, proxy.tls(None, "h2"), STRANGER)))
                for _ in range(calls):
                    attackers[-1].call(path, message, KEY)
            serves_others(proxy)
            assert all(attacker.has_been_closed(60) for attacker in attackers)
            serves_others(proxy)

    def test_http_answers_that_nobody_reads(self, proxy):
        host, _, port = proxy.address.rpartition(":")
        with contextlib.ExitStack() as stack:
            attackers = []
            for _ in range(30):
                plain = socket.create_connection((host, int(port)), timeout=60, source_address=(STRANGER, 0))
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                attacker = stack.enter_context(proxy.tls(None).wrap_socket(plain, server_hostname="localhost"))
                attacker.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 10)
                attackers.append(attacker)
            serves_others(proxy)

    def test_silent_connections(self, unchanged):
        """More than one address may have are refused, and those that it has are closed, after all were made."""
        proxy = unchanged
        with contextlib.ExitStack() as stack:
            silent = []
            for _ in range(60):
                with contextlib.suppress(OSError):
                    silent.append(stack.enter_context(Unread(proxy.address, proxy.tls(None, "h2"), STRANGER)))
            assert len(silent) <= 32
            serves_others(proxy)
            assert all(connection.has_been_closed(60) for connection in silent)

    def test_a_head_that_drips(self, proxy):
        host, _, port = proxy.address.rpartition(":")
        plain = socket.create_connection((host, int(port)), timeout=60, source_address=(STRANGER, 0))
        with proxy.tls(None).wrap_socket(plain, server_hostname="localhost") as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")

    def test_too_many_requests_of_one_address(self, proxy):
        with proxy.http(source="127.0.0.3") as client:
            answers = (client.get("/v2/health/live") for _ in range(20_000))
            refused = next(answer for answer in answers if answer.status_code == 429)
            assert refused.headers["retry-after"] == "10"
            refused = client.post("/", headers={"content-type": "application/grpc"})
            assert (refused.status_code, refused.headers["grpc-status"]) == (200, "8")
            assert refused.headers["content-type"] == "application/grpc"
        serves_others(proxy)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the recipe is openssl's")
def test_the_recipe_of_the_documentation(request, server, tmp_path):
    """Its certificate is one with which the proxy starts, and which its clients trust."""
    (recipe,) = blocks(CONFIGURATION.parents[2] / "docs" / "in-front-of-strangers.md", "sh")
    subprocess.run(["bash", "-euc", recipe], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    assert read_keys(tmp_path / "api.keys").name_of(f"Bearer {(tmp_path / 'camera-1.apikey').read_text()}")
    with running_haproxy(request.node.nodeid, server, tmp_path / "tls", CONFIGURATION.read_text()) as started:
        serves_others(started)


def test_envoy_has_the_same_deadlines_and_routes():
    """Its file is only read here: no distribution has Envoy."""
    envoy = yaml.safe_load((CONFIGURATION.parent / "envoy.yaml").read_text())["static_resources"]
    (listener,) = envoy["listeners"]
    (chain,) = listener["filter_chains"]
    manager = chain["filters"][0]["typed_config"]
    assert manager["request_headers_timeout"] == "10s"
    assert manager["http2_protocol_options"]["max_concurrent_streams"] == 64
    (host,) = manager["route_config"]["virtual_hosts"]
    clusters = {cluster["name"] for cluster in envoy["clusters"]}
    assert [route["route"]["cluster"] for route in host["routes"]] == ["link", "rest"]
    assert clusters == {"link", "rest"}
