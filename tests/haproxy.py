"""HAProxy with the configuration of deploy/proxy, on a free port of this machine, ended with the test."""

import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
from processes import Running, keep_port, skip_without, wait_until

CONFIGURATION = Path(__file__).parents[1] / "deploy" / "proxy" / "haproxy.cfg"


def haproxy_program(who: str) -> str:
    """Where haproxy is; see `skip_without`."""
    program = shutil.which("haproxy")
    if program is None:
        skip_without(f"{who} needs haproxy: install it from your distribution (apt-get install haproxy)")
    return program


@dataclass(frozen=True)
class Proxy:
    """A proxy before a process, as its clients see it; `pem` is a folder with authority.pem and certificates."""

    address: str
    pem: Path

    def tls(self, certificate: str | None, *protocols: str) -> ssl.SSLContext:
        """TLS of a client that shows a certificate of the folder, or none."""
        context = ssl.create_default_context(cafile=str(self.pem / "authority.pem"))
        if certificate:
            context.load_cert_chain(self.pem / f"{certificate}.pem")
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    def http(self, certificate: str | None = None, source: str = "127.0.0.1") -> httpx.Client:
        """A client whose connections come from the address `source`."""
        transport = httpx.HTTPTransport(verify=self.tls(certificate), local_address=source)
        return httpx.Client(base_url=f"https://{self.address}", transport=transport, timeout=30)

    def grpc(self, certificate: str | None = None) -> grpc.Channel:
        """A channel from 127.0.0.1."""
        pair = (self.pem / f"{certificate}.pem").read_bytes() if certificate else None
        credentials = grpc.ssl_channel_credentials((self.pem / "authority.pem").read_bytes(), pair, pair)
        return grpc.secure_channel(self.address, credentials, [("grpc.enable_http_proxy", 0)])


@contextmanager
def running_haproxy(
    who: str, process: Running, pem: Path, configuration: str, authority: str = ""
) -> Iterator[Proxy]:
    """Starts HAProxy before `process` for the test `who`, with the text of a configuration."""
    program, file = haproxy_program(who), pem / "haproxy.cfg"
    file.write_text(configuration)
    kept = keep_port(0)
    address = f"127.0.0.1:{kept.getsockname()[1]}"
    environment = os.environ | {
        "SEMLINK_PROXY_BIND": address,
        "SEMLINK_PROXY_CERTIFICATE": str(pem / "site.pem"),
        "SEMLINK_PROXY_CLIENT_AUTHORITY": authority,
        "SEMLINK_GRPC": process.grpc_address,
        "SEMLINK_HTTP": process.http_address,
    }
    with kept, subprocess.Popen([program, "-db", "-f", str(file)], env=environment) as proxy:
        try:
            wait_until(lambda: _listens(proxy, address), seconds=30, pause=0.01)
            yield Proxy(address, pem)
        finally:
            proxy.kill()


def _listens(proxy: subprocess.Popen, address: str) -> bool:
    assert proxy.poll() is None, "haproxy has ended"
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port))).close()
    except OSError:
        return False
    return True
