"""A server and a channel emulator before it that does no harm, as processes of their own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 300.0
STOP_SECONDS = 15.0


class StartError(Exception):
    """A process did not start; the message says where its log is."""


@dataclass(frozen=True)
class Process:
    """A process that is ready."""

    name: str
    pid: int
    grpc: str
    http: str


@contextmanager
def running(name: str, logs: Path, *arguments: object) -> Iterator[Process]:
    """`python -m NAME ARGUMENTS` on free ports, ready, ended with this context.

    Raises:
        StartError: it ended, or was not ready in time.
    """
    log = logs / f"{name}.log"
    command = [sys.executable, "-m", name, "--grpc-port", "0", "--http-port", "0", "--log-level", "warning"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SEMLINK_")}
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [*command, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, env=environment
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise StartError(f"{name} did not start; its log is {log}")
            where = json.loads(line)
            _wait_until_ready(name, process, where["http"], log)
            yield Process(name, process.pid, where["grpc"], where["http"])
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_until_ready(name: str, process: subprocess.Popen, http: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while not httpx.get(f"http://{http}/v2/health/ready", trust_env=False, timeout=30).is_success:
        if process.poll() is not None or time.monotonic() > end:
            raise StartError(f"{name} was not ready within {START_SECONDS:.0f} s; its log is {log}")
        time.sleep(0.1)


@contextmanager
def link(logs: Path, server_flags: Sequence[str]) -> Iterator[tuple[Process, Process]]:
    """A server and an emulator; objects are forgotten after a minute, so that memory is flat within minutes."""
    logs.mkdir(parents=True, exist_ok=True)
    with (
        running("server", logs, "--threads", 1, "--object-ttl-seconds", 60, *server_flags) as server,
        running("channel_emulator", logs, "--upstream", server.grpc, "--channel", "none") as emulator,
    ):
        yield server, emulator
