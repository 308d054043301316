"""A server whose Redis does not answer, at its start and later: what it says, what it refuses, what it serves."""

import numpy as np
import pytest
from processes import Running, running, wait_until
from redis_server import RedisServer
from stub_server import FRAME_TYPE, GREY

from semlink.source.iaq.coder import encode

FRAME = encode(np.zeros((224, 224, 3), np.uint8), np.ones(196), rho=0.001).frame.to_bytes()
HASTY = "from server.sessions import sessions\nsessions.PROBE_SECONDS = 0.05\n"
VIEW = {"object_id": "cup", "device_id": "camera", "expected_views": 1}


@pytest.fixture
def redis(persistent_redis) -> RedisServer:
    persistent_redis.kill()
    return persistent_redis


def classify(server: Running, **ids: object) -> int:
    return server.http.post(
        "/v1/classify", params=ids, content=FRAME, headers={"content-type": FRAME_TYPE}
    ).status_code


def is_degraded(server: Running) -> bool:
    answer = server.http.get("/v2/health/ready")
    return answer.is_success and any("redis" in part for part in answer.json().get("degraded", ()))


def test_it_is_said_and_heals(redis):
    with running("-c", HASTY + GREY, "--redis", redis.url) as server:
        wait_until(lambda: is_degraded(server))
        assert "redis is away" in server.logs  # nobody has asked for anything yet
        assert server.metric("semlink_server_store_up") == 0
        assert classify(server) == 200
        assert classify(server, **VIEW) == 503
        assert server.http.get("/v1/votes").status_code == 503
        redis.start()
        wait_until(lambda: not is_degraded(server))
        assert server.http.get("/v2/health/ready").json() == {"ready": True}
        assert server.metric("semlink_server_store_up") == 1
        assert classify(server, **VIEW) == 200
        redis.kill()
        wait_until(lambda: is_degraded(server))
        redis.start()
        wait_until(lambda: not is_degraded(server))
        assert classify(server, **VIEW) == 200
        redis.client.config_set("maxmemory", 1)  # it answers, and takes nothing
        wait_until(lambda: is_degraded(server))
        assert "Traceback" not in server.logs
