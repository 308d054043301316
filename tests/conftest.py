from collections.abc import Iterator

import pytest
from hypothesis import settings
from redis_server import PERSISTENT, RedisServer, redis_program, running_redis

# How long one example takes says more about the machine than about the code.
settings.register_profile("semlink", deadline=None)
settings.load_profile("semlink")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate-golden",
        action="store_true",
        help="write tests/golden anew instead of testing against it; see tests/unit/test_golden.py",
    )


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
