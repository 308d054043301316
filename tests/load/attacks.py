"""Attacks by answers that nobody reads and by silence, and how soon others are answered meanwhile.

python tests/load/attacks.py
"""

import contextlib
import json
import resource
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import httpx
import numpy as np
import trustme

sys.path.insert(0, str(Path(__file__).parents[1]))

from haproxy import CONFIGURATION, Proxy, running_haproxy
from http2 import Unread
from processes import Running, running, wait_until

from experiments.provenance import provenance
from semlink.source.iaq.coder import encode
from semlink.v1 import link_pb2_grpc
from semlink.v1.link_pb2 import ClassifyRequest

CALLS = 40
"""Of each kind, without an attack and with it."""
SETTLE_SECONDS = 3.0
"""From the start of an attack until others are timed: its own calls are answered first."""
KEY, MALLORY = "correct-horse-battery-staple", "0123456789abcdef0123456789"
STRANGER = "127.0.0.2"
FRAME = encode(np.zeros((224, 224, 3), np.uint8), np.ones(196), rho=0.001).frame.to_bytes()
CLASSIFY, CHECK = "/semlink.v1.LinkService/Classify", "/grpc.health.v1.Health/Check"
Attack = Callable[[ExitStack, Running, Proxy | None], None]


def unread_checks(stack: ExitStack, server: Running, proxy: Proxy | None) -> None:
    """60 health checks, on a connection whose window is 0."""
    attacker = _unread(stack, server, proxy)
    for _ in range(60):
        attacker.call(CHECK, b"")


def unread_classifications(stack: ExitStack, server: Running, proxy: Proxy | None) -> None:
    """256 frames with a key, on connections whose window is 0."""
    message = ClassifyRequest(frame=FRAME).SerializeToString()
    for _ in range(4):
        attacker = _unread(stack, server, proxy)
        for _ in range(64):
            attacker.call(CLASSIFY, message, MALLORY)


def unread_pipelines(stack: ExitStack, server: Running, proxy: Proxy | None) -> None:
    """260 connections that pipeline requests over HTTP, and take no answer."""
    for _ in range(260):
        with contextlib.suppress(OSError):
            host, _, port = (proxy.address if proxy else server.http_address).rpartition(":")
            connection = socket.create_connection((host, int(port)), timeout=30, source_address=(STRANGER, 0))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            if proxy:
                connection = proxy.tls(None).wrap_socket(connection, server_hostname="localhost")
            stack.enter_context(connection)
            connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)


def silent_connections(stack: ExitStack, server: Running, proxy: Proxy | None) -> None:
    """1,030 connections that speak HTTP/2, and then say nothing."""
    for _ in range(1030):
        with contextlib.suppress(OSError):
            _unread(stack, server, proxy)


def main() -> None:
    """Prints the ratios, and writes them to runs/load/attacks.json."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    rows = []
    for attack in (unread_checks, unread_classifications, unread_pipelines, silent_connections):
        for is_behind in (False, True):
            if attack is silent_connections and not is_behind:
                continue  # the proxy's promise alone
            with _link(is_behind) as (server, proxy), ExitStack() as attackers:
                alone = _times(server, proxy)
                attack(attackers, server, proxy)
                time.sleep(SETTLE_SECONDS)
                attacked = _times(server, proxy)
            row = {"attack": attack.__name__, "proxy": is_behind}
            for kind, before in alone.items():
                p50, p90 = (np.percentile(attacked[kind], p) / np.percentile(before, p) for p in (50, 90))
                row[kind] = {"alone_ms": 1e3 * float(np.median(before)), "p50": float(p50), "p90": float(p90)}
            rows.append(row)
            print(json.dumps(row))
    out = Path("runs/load/attacks.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"rows": rows, "measured": provenance()}, indent=2) + "\n")


@contextlib.contextmanager
def _link(is_behind_proxy: bool) -> Iterator[tuple[Running, Proxy | None]]:
    keys = f"camera {KEY}, mallory {MALLORY}"
    with ExitStack() as stack:
        server = stack.enter_context(running("-m", "server", SEMLINK_THREADS="1", SEMLINK_API_KEYS=keys))
        wait_until(lambda: server.is_ready)
        proxy = None
        if is_behind_proxy:
            pem = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            issuer = trustme.CA()
            issuer.cert_pem.write_to_path(pem / "authority.pem")
            site = issuer.issue_cert("localhost", "127.0.0.1")
            site.private_key_and_cert_chain_pem.write_to_path(pem / "site.pem")
            text = CONFIGURATION.read_text()
            proxy = stack.enter_context(running_haproxy("this", server, pem, text))
        yield server, proxy


def _unread(stack: ExitStack, server: Running, proxy: Proxy | None) -> Unread:
    if proxy:
        return stack.enter_context(Unread(proxy.address, proxy.tls(None, "h2"), STRANGER))
    return stack.enter_context(Unread(server.grpc_address, source=STRANGER))


def _times(server: Running, proxy: Proxy | None) -> dict[str, list[float]]:
    """Seconds of calls on new connections: a frame over gRPC, and the health over HTTP."""
    times: dict[str, list[float]] = {"classify": [], "health": []}
    metadata = (("authorization", f"Bearer {KEY}"),)
    with proxy.grpc() if proxy else grpc.insecure_channel(server.grpc_address) as channel:
        link = link_pb2_grpc.LinkServiceStub(channel)
        for _ in range(CALLS):
            began = time.perf_counter()
            link.Classify(ClassifyRequest(frame=FRAME), timeout=60, metadata=metadata)
            times["classify"].append(time.perf_counter() - began)
    for _ in range(CALLS):
        client = proxy.http() if proxy else httpx.Client(base_url=f"http://{server.http_address}", timeout=60)
        with client:
            began = time.perf_counter()
            assert client.get("/v2/health/ready").is_success
            times["health"].append(time.perf_counter() - began)
    return times


if __name__ == "__main__":
    main()
