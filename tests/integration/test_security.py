"""Strangers before the doors of real processes: without a key, without a certificate, slowly, or too often."""

import asyncio
import contextlib
import json
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
import trustme
from google.rpc.error_details_pb2 import RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from processes import LIMITS, Running, running, wait_until
from pydantic import SecretStr
from stub_server import GREY

from device.settings import DeviceSettings
from device.uplink import Credentials, Uplink, UplinkError
from semlink.service.settings import StartupError
from semlink.v1 import link_pb2_grpc
from semlink.v1.link_pb2 import ClassifyRequest, WaitVoteRequest

ALICE, BOB = "correct-horse-battery-staple", "0123456789abcdef0123456789"
OPEN = ("/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json")
FRAME_TYPE = "application/vnd.semlink.frame"

# An emulator that waits for nobody long, and fails in a way that nobody has foreseen.
HASTY = """
import runpy
from channel_emulator import proxy
from semlink.service import http_connections, http_server, interceptor

interceptor.MESSAGE_SECONDS, http_connections.HEAD_SECONDS, http_server.BODY_SECONDS = 1.0, 2.0, 1.0

async def fail(self, request):
    raise RuntimeError("the inside of the proxy")

proxy.ImpairingProxy._impair = fail
runpy.run_module("channel_emulator", run_name="__main__", alter_sys=True)
"""


@dataclass
class Door:
    """A process that listens over TLS, and one who knocks with a certificate or without."""

    process: Running
    pem: Path

    def http(self, *, authority: str = "authority.pem", certificate: str | None = "device") -> httpx.Client:
        context = ssl.create_default_context(cafile=str(self.pem / authority))
        if certificate:
            context.load_cert_chain(self.pem / f"{certificate}.pem", self.pem / f"{certificate}.key")
        base = f"https://{self.process.http_address}"
        return httpx.Client(verify=context, base_url=base, timeout=30, trust_env=False, limits=LIMITS)

    def grpc(self, *, authority: str = "authority.pem", certificate: str | None = "device") -> grpc.Channel:
        pair = [
            (self.pem / f"{certificate}.{end}").read_bytes() if certificate else None for end in ("key", "pem")
        ]
        credentials = grpc.ssl_channel_credentials((self.pem / authority).read_bytes(), *pair)
        return grpc.secure_channel(self.process.grpc_address, credentials)


@pytest.fixture(scope="module")
def pem(tmp_path_factory) -> Path:
    """Certificates of the site's authority and of a stranger's, and the file of keys."""
    folder = tmp_path_factory.mktemp("site")
    for authority, names in (("authority", ("here", "device")), ("stranger", ("intruder",))):
        issuer = trustme.CA()
        issuer.cert_pem.write_to_path(folder / f"{authority}.pem")
        for name in names:
            issued = issuer.issue_cert("localhost", "127.0.0.1")
            issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
            issued.private_key_pem.write_to_path(folder / f"{name}.key")
    (folder / "keys").write_text(f"alice {ALICE}\n")
    (folder / "alice").write_text(ALICE)
    for name in ("keys", "alice"):
        (folder / name).chmod(0o600)
    return folder


@pytest.fixture(scope="module")
def doors(pem):
    """A server, and an emulator before it, both over mutual TLS and for holders of keys only."""
    listen = [
        *("--tls-certificate", pem / "here.pem", "--tls-key", pem / "here.key"),
        *("--tls-client-authority", pem / "authority.pem"),
    ]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running("-c", GREY, *listen, "--api-keys-file", pem / "keys"))
        emulator = stack.enter_context(
            running(
                *("-m", "channel_emulator", "--upstream", server.grpc_address, "--log-level", "debug", *listen),
                *("--tls-server-authority", pem / "authority.pem"),
                SEMLINK_API_KEYS=f"alice {ALICE}",
            )
        )
        found = {"server": Door(server, pem), "emulator": Door(emulator, pem)}
        for door in found.values():
            with door.http() as client:
                wait_until(lambda client=client: client.get("/v2/health/ready").is_success)
        yield found


@pytest.fixture(params=["server", "emulator"])
def door(request, doors) -> Door:
    return doors[request.param]


def bearing(key: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


def code_of(call, request, key: str | None = None, **named) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=20, metadata=tuple(bearing(key).items()), **named)
    return caught.value.code()


def problem(response: httpx.Response, status: int) -> str:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["instance"] == response.url.path
    return response.json()["detail"]


class TestTls:
    @pytest.mark.parametrize("certificate", [None, "intruder"])
    def test_without_a_certificate_of_the_site_there_is_nothing(self, door, certificate):
        with door.http(certificate=certificate) as client, pytest.raises(httpx.TransportError):
            client.get("/v2/health/live")
        with door.grpc(certificate=certificate) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            assert code_of(check, health_pb2.HealthCheckRequest()) is grpc.StatusCode.UNAVAILABLE

    def test_nobody_else_is_taken_for_it(self, door):
        with door.http(authority="stranger.pem") as client, pytest.raises(httpx.ConnectError, match="CERTIFICATE"):
            client.get("/v2/health/live")
        with door.grpc(authority="stranger.pem") as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            assert code_of(check, health_pb2.HealthCheckRequest()) is grpc.StatusCode.UNAVAILABLE

    def test_nothing_is_answered_in_the_clear_but_a_hint(self, door):
        answer = door.process.http.get("/v2/health/live")
        assert (answer.status_code, answer.headers["connection"]) == (400, "close")
        assert "this port takes HTTPS" in answer.text
        assert code_of(door.process.link.WaitVote, WaitVoteRequest(object_id="x")) is grpc.StatusCode.UNAVAILABLE

    def test_a_device_sends_through_all_of_it(self, doors, pem):
        site = {"tls_server_authority": pem / "authority.pem"}
        site |= {
            "tls_certificate": pem / "device.pem",
            "tls_key": pem / "device.key",
            "api_key_file": pem / "alice",
        }
        flags = [word for name, file in site.items() for word in (f"--{name.replace('_', '-')}", str(file))]
        to = doors["emulator"].process.grpc_address
        device = [sys.executable, "-m", "device", "--to", to, "--images", "chelsea", "--object-id", "cat", *flags]
        sent = subprocess.run([*device, "--threads", "1"], capture_output=True, text=True, timeout=280)
        assert sent.returncode == 0, sent.stderr
        assert json.loads(sent.stdout)["vote"]["name"] == "grey"
        assert ALICE not in sent.stdout + sent.stderr

    def test_a_device_with_another_key_gives_up_at_once(self, doors, pem):
        credentials = grpc.ssl_channel_credentials(
            *((pem / name).read_bytes() for name in ("authority.pem", "device.key", "device.pem"))
        )

        async def wait_for_a_vote() -> None:
            shown = Credentials(credentials, SecretStr(BOB))
            address = doors["emulator"].process.grpc_address
            async with Uplink(address, 20, 3600, asyncio.Event(), shown) as uplink:
                await uplink.wait_vote("cat", 1)

        with pytest.raises(UplinkError, match="UNAUTHENTICATED") as caught:
            asyncio.run(wait_for_a_vote())
        assert BOB not in str(caught.value)

    @pytest.mark.parametrize(
        ("listens", "authority", "hint"),
        [
            ("tls", None, "takes TLS only; name who signed its certificate with --tls-server-authority"),
            ("plain", "authority.pem", "takes no TLS; leave out --tls-server-authority"),
            ("tls", "stranger.pem", "is signed by none in the file of --tls-server-authority"),
            ("nobody", None, None),
        ],
    )
    def test_a_device_is_told_which_end_has_no_tls(self, doors, pem, patient, listens, authority, hint):
        addresses = {"tls": doors["server"].process.grpc_address, "plain": patient.grpc_address}
        credentials = authority and grpc.ssl_channel_credentials((pem / authority).read_bytes())

        async def wait_for_a_vote() -> None:
            address = addresses.get(listens, "127.0.0.1:9")
            async with Uplink(address, 20, 0.1, asyncio.Event(), Credentials(credentials)) as uplink:
                await uplink.wait_vote("cat", 1)

        with pytest.raises(UplinkError, match="UNAVAILABLE") as caught:
            asyncio.run(wait_for_a_vote())
        assert hint in str(caught.value) if hint else "tls" not in str(caught.value).lower()

    def test_a_certificate_without_tls_is_a_mistake(self, pem):
        settings = {"to": "there:1", "images": ["chelsea"], "object_id": "cat"}
        with pytest.raises(StartupError, match="--tls-server-authority"):
            Credentials.of(
                DeviceSettings(**settings, tls_certificate=pem / "device.pem", tls_key=pem / "device.key")
            )


class TestKeys:
    @pytest.mark.parametrize("key", [None, BOB, ALICE[:-1], ALICE + "x"])
    def test_over_http(self, door, key):
        with door.http() as client:
            for path in ("/metrics", "/v1/impairments", "/v1/votes/cup", "/nowhere"):
                response = client.get(path, headers=bearing(key))
                detail = problem(response, 401)
                assert response.headers["www-authenticate"].startswith("Bearer")
                assert response.headers["x-request-id"]
                assert not key or key not in detail
            for path in OPEN:
                assert client.get(path, headers=bearing(key)).is_success

    @pytest.mark.parametrize("key", [None, BOB, ALICE[:-1], ALICE + "x"])
    def test_over_grpc(self, door, key):
        with door.grpc() as channel:
            link = link_pb2_grpc.LinkServiceStub(channel)
            assert code_of(link.Classify, ClassifyRequest(), key) is grpc.StatusCode.UNAUTHENTICATED
            assert code_of(link.WaitVote, WaitVoteRequest(), key) is grpc.StatusCode.UNAUTHENTICATED
            with pytest.raises(grpc.RpcError):
                ProtoReflectionDescriptorDatabase(channel).get_services()
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING

    def test_the_right_one(self, door):
        with door.http() as client:
            assert "semlink_" in client.get("/metrics", headers=bearing(ALICE)).text
        with door.grpc() as channel:
            link = link_pb2_grpc.LinkServiceStub(channel)
            # From the server itself: the emulator has passed the key on.
            assert (
                code_of(link.WaitVote, WaitVoteRequest(object_id="unheard-of"), ALICE) is grpc.StatusCode.NOT_FOUND
            )

    def test_is_described(self, door):
        with door.http() as client:
            document = client.get("/openapi.json").json()
        ((name, scheme),) = document["components"]["securitySchemes"].items()
        assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
        assert document["paths"]["/metrics"]["get"]["security"] == [{name: []}]
        assert "401" in document["paths"]["/metrics"]["get"]["responses"]
        assert "security" not in document["paths"]["/v2/health/live"]["get"]

    def test_served_documents_are_not_logged_and_refusals_seldom(self, door):
        with door.http() as client:
            before = door.process.logs.count("not admitted")
            for _ in range(20):
                assert client.get("/openapi.json").is_success
            assert door.process.logs.count("not admitted") == before
            for _ in range(200):
                problem(client.get("/metrics"), 401)
        assert door.process.logs.count("not admitted") - before < 100

    def test_none_was_logged(self, door):
        """After all of the above; names are, keys are not."""
        logs = door.process.logs
        assert "not admitted" in logs
        assert not any(key in logs for key in (ALICE, BOB, ALICE[:-1]))
        assert "Traceback" not in logs


@pytest.fixture(scope="module")
def hasty():
    """Without TLS, before nobody; three calls at once of each key, then one in a thousand seconds."""
    keys = f"alice {ALICE},bob {BOB},carol {ALICE}-of-carol"
    flags = ["--rate-limit", 0.001, "--rate-burst", 3, "--max-http-connections", 4]
    with running("-c", HASTY, "--upstream", "127.0.0.1:9", *flags, SEMLINK_API_KEYS=keys) as process:
        wait_until(lambda: process.is_ready)
        yield process


@pytest.fixture(scope="module")
def patient():
    """Hasty too, but open to all, as often as they like."""
    with running("-c", HASTY, "--upstream", "127.0.0.1:9", "--max-http-connections", 4) as process:
        wait_until(lambda: process.is_ready)
        yield process


class TestRates:
    def test_over_both_together(self, hasty):
        for _ in range(2):
            assert hasty.http.get("/v1/impairments", headers=bearing(ALICE)).is_success
        assert code_of(hasty.link.WaitVote, WaitVoteRequest(object_id="x"), ALICE) is grpc.StatusCode.UNAVAILABLE
        response = hasty.http.get("/v1/impairments", headers=bearing(ALICE))
        assert "'alice' may call 0.001 times a second" in problem(response, 429)
        assert int(response.headers["retry-after"]) > 900
        with pytest.raises(grpc.RpcError) as caught:
            hasty.link.WaitVote(WaitVoteRequest(object_id="x"), timeout=20, metadata=tuple(bearing(ALICE).items()))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        _, detail = rpc_status.from_call(caught.value).details
        info = RetryInfo()
        assert detail.Unpack(info)
        assert info.retry_delay.ToSeconds() > 900
        assert hasty.http.get("/v1/impairments", headers=bearing(BOB)).is_success
        assert all(hasty.is_ready for _ in range(10))  # health is not counted

    def test_refusals_are_counted(self, hasty):
        """Those of the test before: one over HTTP, one over gRPC."""
        metrics = hasty.http.get("/metrics", headers=bearing(f"{ALICE}-of-carol")).text
        for protocol in ("http", "grpc"):
            assert f'semlink_channel_calls_refused_total{{protocol="{protocol}",reason="rate"}} 1.0' in metrics

    def test_whoever_guesses_keys_is_soon_told_to_wait(self, hasty):
        statuses = [
            hasty.http.get("/v1/impairments", headers=bearing(f"guess-number-{guess:04}")).status_code
            for guess in range(5)
        ]
        assert statuses == [401, 401, 401, 429, 429]


def connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def told(connection: socket.socket) -> bytes:
    """All that is said until the other end hangs up."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while more := connection.recv(65536):
            said += more
    return said


class TestSlow:
    def test_who_says_nothing_or_little_is_hung_up_on(self, patient):
        get = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n"
        with contextlib.ExitStack() as stack:
            silent, dripping, second = (stack.enter_context(connect(patient.http_address)) for _ in range(3))
            never_http2 = stack.enter_context(connect(patient.grpc_address))
            dripping.sendall(get)
            second.sendall(get + b"\r\n" + get)
            dripping.settimeout(0.2)
            ended = time.monotonic() + 60
            with contextlib.suppress(ConnectionError):
                while time.monotonic() < ended:
                    dripping.sendall(b"X-Drip: 1\r\n")
                    with contextlib.suppress(TimeoutError):
                        if dripping.recv(1) == b"":
                            break
            assert time.monotonic() < ended
            assert told(silent) == b""
            assert told(second).count(b"HTTP/1.1 200") == 1
            assert patient.is_ready
            told(never_http2)  # what HTTP/2 says first, and then the end

    def test_a_call_whose_message_never_comes_is_ended(self, patient):
        forever = patient.channel.stream_unary(
            "/semlink.v1.LinkService/Classify", request_serializer=bytes, response_deserializer=bytes
        )

        def nothing():
            time.sleep(30)
            yield b""

        with pytest.raises(grpc.RpcError) as caught:
            forever(nothing(), timeout=25)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "the message did not arrive" in caught.value.details()  # the server's words, not our own deadline

    def test_a_body_that_never_comes(self, patient):
        with connect(patient.http_address) as connection:
            connection.sendall(
                b"PUT /v1/impairments HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 9\r\n\r\n{"
            )
            assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")

    def test_watchers_of_the_health_leave_room_for_calls(self, patient):
        watch = health_pb2_grpc.HealthStub(patient.channel).Watch
        watchers = [watch(health_pb2.HealthCheckRequest(), timeout=60) for _ in range(16)]
        assert all(next(watcher).status == health_pb2.HealthCheckResponse.SERVING for watcher in watchers)
        with pytest.raises(grpc.RpcError) as caught:
            next(watch(health_pb2.HealthCheckRequest(), timeout=20))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert patient.metric('semlink_channel_calls_refused_total{protocol="grpc",reason="busy"}') == 1
        check = health_pb2_grpc.HealthStub(patient.channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
        assert check.status == health_pb2.HealthCheckResponse.SERVING
        assert code_of(patient.link.WaitVote, WaitVoteRequest(object_id="x")) is grpc.StatusCode.UNAVAILABLE
        for watcher in watchers:
            watcher.cancel()


class TestTooMuch:
    @pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
    def test_a_gigabyte_is_refused_before_it_is_sent(self, patient, expect):
        with connect(patient.http_address) as connection:
            connection.sendall(
                b"PUT /v1/impairments HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 1073741824\r\n" + expect + b"\r\n"
            )
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 413 ")
            assert b"application/problem+json" in answer

    def test_a_body_without_an_end(self, patient):
        chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
        with connect(patient.http_address) as connection:
            connection.sendall(
                b"PUT /v1/impairments HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            with pytest.raises(ConnectionError):
                connection.sendall(chunk * 4096)  # 256 MiB are never taken


class TestUnforeseen:
    def test_nothing_of_the_inside_is_told(self, patient):
        with pytest.raises(grpc.RpcError) as caught:
            patient.link.Classify(
                ClassifyRequest(frame=b"any"), timeout=20, metadata=(("x-request-id", "find-me"),)
            )
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert caught.value.details() == "the error has been logged as find-me"
        assert ("x-request-id", "find-me") in caught.value.trailing_metadata()
        line = next(
            line for line in map(json.loads, patient.logs.splitlines()) if line["event"] == "unforeseen error"
        )
        assert line["request_id"] == "find-me"
        assert "the inside of the proxy" in line["exception"]

    def test_who_leaves_at_once_leaves_no_trace(self, patient):
        before = patient.logs
        for _ in range(50):
            patient.link.WaitVote.future(WaitVoteRequest(object_id="x"), timeout=20).cancel()
        assert code_of(patient.link.WaitVote, WaitVoteRequest(object_id="x")) is grpc.StatusCode.UNAVAILABLE
        assert "Traceback" not in patient.logs.removeprefix(before)


@pytest.fixture(scope="module")
def open_doors():
    """A server, and an emulator before it, as they are started on one's own machine: without keys."""
    with (
        running("-c", GREY, "--allowed-hosts", "vision.example") as server,
        running("-m", "channel_emulator", "--upstream", server.grpc_address) as emulator,
    ):
        wait_until(lambda: server.is_ready and emulator.is_ready)
        yield {"server": server, "emulator": emulator}


@pytest.fixture(params=["server", "emulator"])
def open_door(request, open_doors) -> Running:
    return open_doors[request.param]


class TestBrowsers:
    """Who has led a browser to another site's page has the browser's reach, but not its user's word."""

    def test_another_sites_page_changes_nothing(self, open_doors):
        emulator = open_doors["emulator"]
        mine = {"default": {"type": "none", "access": "none", "design_ber": None}, "devices": {}}
        assert emulator.http.put("/v1/impairments", json=mine).is_success
        for origin in ("https://attacker.example", "null", "http://localhost:3000"):
            answer = emulator.http.post("/v1/reset", headers={"Origin": origin})
            assert "origin" in problem(answer, 403)
        assert emulator.http.get("/v1/impairments").json() == mine
        own = {"Origin": f"http://{emulator.http_address}"}
        assert emulator.http.post("/v1/reset", headers=own).json() != mine

    @pytest.mark.parametrize("path", [*OPEN, "/metrics", "/v1/reset", "/v1/votes/cup", "/nowhere"])
    def test_no_call_is_answered_under_a_foreign_name(self, open_door, path):
        for method in ("GET", "POST", "OPTIONS"):
            answer = open_door.http.request(method, path, headers={"Host": "attacker.example:8001"})
            assert "--allowed-hosts" in problem(answer, 421)
            assert answer.headers["x-request-id"]

    def test_names_that_are_allowed(self, open_doors):
        path, named = "/v2/health/live", {"Host": "vision.example"}
        assert open_doors["server"].http.get(path, headers=named).is_success
        problem(open_doors["emulator"].http.get(path, headers=named), 421)
        for host in ("localhost", "localhost:1", "127.0.0.1:1", "[::1]:1", "10.0.0.7"):
            assert open_doors["emulator"].http.get(path, headers={"Host": host}).is_success

    def test_a_checker_of_health_that_speaks_http_1_0_names_no_host(self, open_door):
        with connect(open_door.http_address) as connection:
            connection.sendall(b"GET /v2/health/ready HTTP/1.0\r\n\r\n")
            assert told(connection).startswith(b"HTTP/1.1 200 ")

    def test_refusals_are_counted_and_described(self, open_doors):
        emulator = open_doors["emulator"]
        for reason, headers in (("host", {"Host": "attacker.example"}), ("origin", {"Origin": "null"})):
            name = f'semlink_channel_calls_refused_total{{protocol="http",reason="{reason}"}}'
            before = emulator.metric(name)
            emulator.http.post("/v1/reset", headers=headers)
            assert emulator.metric(name) == before + 1
        reset = emulator.http.get("/openapi.json").json()["paths"]["/v1/reset"]["post"]
        assert {"403", "421"} <= reset["responses"].keys()
