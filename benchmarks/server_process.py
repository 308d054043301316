"""Server process for benchmarks: its own process, ready, with one thread for its model."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

START_SECONDS = 300


@contextmanager
def running_server(*flags: object) -> Iterator[dict[str, str]]:
    """A server that is ready, and where it listens: `grpc` and `http`."""
    ports = ["--grpc-port", "0", "--http-port", "0", "--threads", "1", "--log-level", "error"]
    command = [sys.executable, "-m", "server", *ports, *map(str, flags)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SEMLINK_")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        try:
            assert process.stdout is not None
            where = json.loads(process.stdout.readline())
            end = time.monotonic() + START_SECONDS
            ready = f"http://{where['http']}/v2/health/ready"
            while not httpx.get(ready, trust_env=False, timeout=60).is_success:
                if time.monotonic() > end:
                    raise TimeoutError(f"the server was not ready within {START_SECONDS} s")
                time.sleep(0.2)
            yield where
        finally:
            process.terminate()
