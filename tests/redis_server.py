"""A real Redis as tests need it: on a free port of this machine, in a folder of its own, ended with the test."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from processes import keep_port, skip_without, wait_until

PERSISTENT = ("--appendonly", "yes", "--appendfsync", "always")
"""Nothing that was answered is lost, whatever ends the process."""


def redis_program(who: str) -> str:
    """Where redis-server is; see `skip_without`."""
    program = shutil.which("redis-server")
    if program is None:
        skip_without(f"{who} needs redis-server: install it from your distribution (apt-get install redis-server)")
    return program


class RedisServer:
    """A Redis that may be killed, stopped and started again on the same port."""

    def __init__(self, program: str, folder: Path, *arguments: str) -> None:
        self._command = [program, "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", *arguments]
        self._kept = keep_port(0)
        self.port = self._kept.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis(port=self.port, socket_timeout=5)
        self._log = (folder / "log").open("ab")
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        self.process = subprocess.Popen([*self._command, "--port", str(self.port)], stdout=self._log)
        wait_until(self._answers, seconds=30, pause=0.01)

    def kill(self) -> None:
        """Ends it as kill -9 does."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def close(self) -> None:
        self.kill()
        self.client.close()
        self._log.close()
        self._kept.close()

    def _answers(self) -> bool:
        assert self.process.poll() is None, Path(self._log.name).read_text()
        try:
            return self.client.ping()
        except redis.RedisError:
            return False


@contextmanager
def running_redis(who: str, *arguments: str) -> Iterator[RedisServer]:
    """Starts a Redis for the test `who`."""
    program = redis_program(who)
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(program, Path(folder), *arguments)
        try:
            server.start()
            yield server
        finally:
            server.close()
