"""Processes of the link as tests need them: real ones, on free ports, ended with the test."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import grpc
import httpx
import pytest

from semlink.v1 import link_pb2_grpc

START_SECONDS = 240.0
LIMITS = httpx.Limits(keepalive_expiry=2)
"""Of clients: the processes close connections that are idle for 5 s."""


class Running:
    """A process that listens, as those who use it see it."""

    def __init__(self, process: subprocess.Popen, logs: Path, listening: dict[str, str]) -> None:
        self.process = process
        self.grpc_address, self.http_address = listening["grpc"], listening["http"]
        self.channel = grpc.insecure_channel(self.grpc_address, [("grpc.enable_http_proxy", 0)])
        self.link = link_pb2_grpc.LinkServiceStub(self.channel)
        self.http = httpx.Client(
            base_url=f"http://{self.http_address}",
            timeout=30,
            trust_env=False,
            limits=LIMITS,
        )
        self._logs = logs
        self._kept: list[socket.socket] = []

    @property
    def logs(self) -> str:
        """What it has written on standard error."""
        return self._logs.read_text()

    @property
    def ports(self) -> tuple[int, int]:
        """Where it listens for gRPC and for HTTP."""
        grpc_port, http_port = (int(where.rpartition(":")[2]) for where in (self.grpc_address, self.http_address))
        return grpc_port, http_port

    @property
    def resident_mib(self) -> float:
        """Memory that it holds, in MiB; the test is skipped where no /proc tells."""
        statm = Path(f"/proc/{self.process.pid}/statm")
        if not statm.exists():
            pytest.skip("memory is read from /proc")
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    @property
    def is_ready(self) -> bool:
        return self.http.get("/v2/health/ready").is_success

    def metric(self, name: str) -> float:
        lines = self.http.get("/metrics").text.splitlines()
        return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} ")))

    def kill(self) -> None:
        """As kill -9 does; its ports are kept for another one that is to take its place."""
        self.process.kill()
        self.process.wait()
        self._kept = [keep_port(port) for port in self.ports]

    def close(self) -> None:
        self.channel.close()
        self.http.close()
        for kept in self._kept:
            kept.close()


@contextmanager
def running(*arguments: object, ports: tuple[int, int] = (0, 0), **environment: str) -> Iterator[Running]:
    """Starts `python ARGUMENTS` on these ports for gRPC and HTTP, 0: any; it listens, but need not be ready."""
    flags = [
        part for flag, port in zip(("--grpc-port", "--http-port"), ports, strict=True) for part in (flag, port)
    ]
    command = [sys.executable, *map(str, arguments), *map(str, flags)]
    with (
        tempfile.NamedTemporaryFile("w+", suffix=".log") as logs,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=logs, text=True, env=os.environ | environment
        ) as process,
    ):
        started = None
        try:
            line = process.stdout.readline()
            assert line, f"exit {process.wait(5)}: {Path(logs.name).read_text()}"
            started = Running(process, Path(logs.name), json.loads(line))
            yield started
        finally:
            process.kill()
            if started:
                started.close()


def keep_port(port: int, seconds: float = 0) -> socket.socket:
    """Keeps a port of 127.0.0.1, or any for 0, from whoever wants any; a process can listen on it all the same.

    On Linux a socket that is bound and does not listen does that: no connection that goes out and no listener on
    any free port gets a port that is bound, and another socket may be bound to it where both have SO_REUSEADDR.
    Where a connection has it, this tries for `seconds`, and then does nothing; where somebody listens, at once.
    """
    kept, end = socket.socket(), time.monotonic() + seconds
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    while True:
        with contextlib.suppress(OSError):
            kept.bind(("127.0.0.1", port))
            return kept
        with socket.socket() as caller:
            if time.monotonic() > end or caller.connect_ex(("127.0.0.1", port)) == 0:
                return kept
        time.sleep(0.1)


def has_ended(process: int) -> bool:
    """Whether a process has, by its id; also where nobody has asked how, as with one whose parent has died."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(condition: Callable[[], object], seconds: float = START_SECONDS, pause: float = 0.05) -> None:
    """Returns once `condition` holds; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:.0f} s"
        time.sleep(pause)


def skip_without(reason: str) -> NoReturn:
    """Skips a test by name where something that it needs is missing; where CI is true, it fails instead."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
