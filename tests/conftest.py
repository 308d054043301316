import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import settings
from processes import keep_port
from redis_server import PERSISTENT, RedisServer, redis_program, running_redis

from semlink.vision.weights import DEVICE_MODEL, find_weights

# Settings of whoever runs the tests; Typer and Rich would colour and fold what tests read.
for _name in list(os.environ):
    if _name in ("GITHUB_ACTIONS", "FORCE_COLOR", "PY_COLORS", "COLUMNS", "TERMINAL_WIDTH") or (
        _name.startswith(("SEMLINK_", "OTEL_")) and _name != "SEMLINK_WEIGHTS"
    ):
        del os.environ[_name]

# How long one example takes says more about the machine than about the code.
settings.register_profile("semlink", deadline=None)
settings.load_profile("semlink")


DEFAULT_PORTS = (8000, 8001, 8002, 50051, 50052)
"""Of server, emulator and studio, where nothing else is said, as in the README's commands."""
TIME_WAIT_SECONDS = 61
"""So long no port is given to anybody where a connection has ended."""
KEPT = pytest.StashKey[list[socket.socket]]()


def pytest_configure(config: pytest.Config) -> None:
    """Keeps `DEFAULT_PORTS` for the tests of the README, before any other begins."""
    if not hasattr(config, "workerinput"):  # what a worker of pytest-xdist has
        config.stash[KEPT] = [keep_port(port, TIME_WAIT_SECONDS) for port in DEFAULT_PORTS]


def pytest_unconfigure(config: pytest.Config) -> None:
    for kept in config.stash.get(KEPT, []):
        kept.close()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate-golden",
        action="store_true",
        help="write tests/golden anew instead of testing against it; see tests/unit/test_golden.py",
    )
    parser.addoption(
        "--hostile-inputs",
        type=int,
        default=5_000,
        help="how many of them tests/faults/test_hostile.py sends to the processes; take --timeout 0 with many",
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Has the tests of a file run in one process, and so those of studios: each has six processes of its own."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "tests/studio" if nodeid.startswith("tests/studio/") else super()._split_scope(nodeid)

    return Scheduling(config, log)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Coroutine tests run under asyncio only, as the processes do."""
    return "asyncio"


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    with running_redis("a test") as server:
        yield server


@pytest.fixture
def redis_server(request) -> RedisServer:
    """A Redis that is empty."""
    redis_program(request.node.nodeid)
    server = request.getfixturevalue("shared_redis")
    server.client.flushall()
    return server


@pytest.fixture
def persistent_redis(request) -> Iterator[RedisServer]:
    """A Redis of the test's own, which keeps what it has answered for."""
    with running_redis(request.node.nodeid, *PERSISTENT) as server:
        yield server


@pytest.fixture(scope="session")
def offline(tmp_path_factory) -> dict[str, str]:
    """An environment in which the weights are those of the device's model, and nothing is asked of the hub."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / f"{DEVICE_MODEL}.safetensors").symlink_to(find_weights(DEVICE_MODEL).path)
    return {
        "SEMLINK_WEIGHTS": str(folder),
        "SEMLINK_THREADS": "1",
        "SEMLINK_ANSWER_WITHIN_SECONDS": "600",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path_factory.mktemp("hub")),
    }
