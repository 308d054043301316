"""The objects in Redis: what redis_objects.lua does, as calls that end in time or say that Redis is away."""

import asyncio
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, cast

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError

from server.metrics import Metrics
from server.predictions import Prediction, Recognition
from server.refusals import StoreAway
from server.sessions.views import Rules, View
from server.sessions.votes import Standing, tell_vote, vote_of

log = structlog.get_logger(__name__)

PREFIX = "semlink:1"
"""Begins every key; the number is that of what the keys hold."""
LEASE_SECONDS = 3.0
"""A server that works out a view says so more often than this; after that, another may take the view over."""
CALL_SECONDS = 2.0
"""Longest that Redis may take for a call, connecting included."""
CONNECTIONS = 16

SCRIPT = resources.files("server.sessions").joinpath("redis_objects.lua").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Found:
    """What the script found or did: its outcome, with what detail, and how the object stands now."""

    outcome: str
    detail: bytes
    expected_views: int
    standing: Standing


class RedisObjects:
    """Objects that several servers share. Calls may be repeated: the same token gets the same answer.

    One Redis serves all; it must not evict keys (`maxmemory-policy noeviction`, its default), and forgets
    nothing that it has answered for if it runs with `appendonly yes` and `appendfsync always`.
    """

    def __init__(self, url: str, rules: Rules, metrics: Metrics) -> None:
        """Connects to nothing yet.

        Raises:
            ValueError: no such address.
        """
        self._rules, self._metrics = rules, metrics
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=CALL_SECONDS,
            socket_timeout=CALL_SECONDS,
            socket_connect_timeout=CALL_SECONDS,
            # Connections that were open while Redis was started anew are found broken when they are next used.
            retry=Retry(ConstantBackoff(0.05), 1),
        )
        self._redis = Redis.from_pool(pool)
        self._script = self._redis.register_script(SCRIPT)
        self._is_away = False

    async def claim(self, view: View, token: str) -> Found:
        """Asks to work a view out.

        Raises:
            StoreAway: as every other call.
        """
        lease, ttl = _milliseconds(LEASE_SECONDS), _milliseconds(self._rules.ttl_seconds)
        frame = f"{view.frame_id} {view.fingerprint.hex()}"
        return await self._change("claim", view, token, frame, view.expected_views, lease, ttl)

    async def renew(self, view: View, token: str) -> None:
        """Says that it is still being worked out."""
        await self._change("renew", view, token, _milliseconds(LEASE_SECONDS))

    async def release(self, view: View, token: str) -> None:
        """Says that there will be no answer."""
        await self._change("release", view, token)

    async def settle(self, view: View, token: str, recognition: Recognition) -> Found:
        """Says what the view shows, which counts it if there is no vote yet."""
        found = await self._change(
            "settle",
            view,
            token,
            _write(recognition),
            _write_prediction(recognition.predictions[0]),
            self._rules.max_objects,
            _milliseconds(self._rules.vote_after_seconds),
            self._rules.quorum,
        )
        if found.outcome == "late":
            self._metrics.late_views.inc()
        if forgotten := int(found.detail or 0):
            log.warning("forgot objects to make room", objects=forgotten, max_objects=self._rules.max_objects)
        return found

    async def look(self, object_ids: Sequence[str]) -> list[Found]:
        """How each object stands; of one that nobody knows, the outcome is `unknown`."""
        said = await self._call([_key(object_id) for object_id in object_ids], "look")
        return [self._found(object_id, each) for object_id, each in zip(object_ids, said, strict=True)]

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    async def _change(self, command: str, view: View, token: str, *arguments: str | int) -> Found:
        said = await self._call([_key(view.object_id)], command, _hash(view.device_id), token, *arguments)
        return self._found(view.object_id, said)

    async def _call(self, keys: Sequence[str], *arguments: str | int) -> list:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                said = await self._script(keys=[f"{PREFIX}:objects", *keys], args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            self._metrics.store_errors.inc()
            if not self._is_away:
                log.error("redis is away", error=f"{type(error).__name__}: {error}")
            self._is_away = True
            raise StoreAway from None
        if self._is_away:
            log.info("redis is back")
        self._is_away = False
        return cast(list, said)

    def _found(self, object_id: str, said: list) -> Found:
        outcome, taken, detail, expected, voted, *firsts = said
        counted = [_read_prediction(json.loads(first)) for first in firsts]
        if not voted:
            return Found(outcome.decode(), detail, expected, expected - len(counted))
        vote = vote_of(counted)
        if taken:
            tell_vote(object_id, vote, expected, self._metrics)
        return Found(outcome.decode(), detail, expected, vote)


def read_recognition(answer: bytes) -> Recognition:
    """What an `answered` view shows, from the detail of what was found."""
    predictions, milliseconds = json.loads(answer)
    return Recognition(tuple(map(_read_prediction, predictions)), *milliseconds)


def _write(recognition: Recognition) -> str:
    milliseconds = [recognition.decode_ms, recognition.queue_ms, recognition.inference_ms]
    return json.dumps([[_listed(each) for each in recognition.predictions], milliseconds])


def _write_prediction(prediction: Prediction) -> str:
    return json.dumps(_listed(prediction))


def _listed(prediction: Prediction) -> list[Any]:
    return [prediction.label, prediction.name, prediction.confidence]


def _read_prediction(listed: list[Any]) -> Prediction:
    return Prediction(*listed)


def _key(object_id: str) -> str:
    return f"{PREFIX}:object:{_hash(object_id)}"


def _hash(name: str) -> str:
    """Stands for a name from outside, which may be anything."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def _milliseconds(seconds: float) -> int:
    return math.ceil(1e3 * seconds)
