"""Processes for benchmarks: a server or a channel emulator, started and ready."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import httpx

START_SECONDS = 300


@contextmanager
def running(
    module: str, *flags: object, cores: Collection[int] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    """A process that is ready, and where it listens: `grpc` and `http`.

    Args:
        module: `server` or `channel_emulator`.
        flags: its settings, besides free ports.
        cores: of the machine, for all its threads; None for any.
    """
    ports = ["--grpc-port", "0", "--http-port", "0", "--log-level", "error"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SEMLINK_")}
    with subprocess.Popen(
        [sys.executable, "-m", module, *ports, *map(str, flags)],
        stdout=subprocess.PIPE,
        env=environment,
        preexec_fn=None if cores is None else lambda: os.sched_setaffinity(0, cores),
    ) as process:
        try:
            assert process.stdout is not None
            where = json.loads(process.stdout.readline())
            end = time.monotonic() + START_SECONDS
            ready = f"http://{where['http']}/v2/health/ready"
            while not httpx.get(ready, trust_env=False, timeout=60).is_success:
                if time.monotonic() > end:
                    raise TimeoutError(f"{module} was not ready within {START_SECONDS} s")
                time.sleep(0.2)
            yield process, where
        finally:
            process.terminate()
