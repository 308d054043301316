"""Redis session store: for several servers that share objects; each call is one run of redis.lua."""

import asyncio
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import astuple
from importlib import resources
from typing import Any, cast

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError

from server.batching import Recognition
from server.metrics import Metrics
from server.model import Prediction
from server.refusals import StoreAway
from server.sessions.store import (
    LEASE_SECONDS,
    MAX_VOTES,
    ObjectName,
    Rules,
    StoreReply,
    SubmittedView,
    TakenVote,
    record_vote,
    vote_of,
)

log = structlog.get_logger(__name__)

PREFIX = "semlink:1"
"""Begins every key; the number is the version of the keys' content."""
CALL_SECONDS = 2.0
"""Longest that Redis may take for a call, connecting included."""
CONNECTIONS = 16

_Argument = str | bytes | int
SCRIPT = resources.files("server.sessions").joinpath("redis.lua").read_text(encoding="utf-8")


class RedisStore:
    """Objects in one Redis, with claims that expire. See `SessionStore`.

    Attributes:
        is_away: the last call got no answer; not so before the first.

    Redis must not evict keys (`maxmemory-policy noeviction`, its default). It loses no answered view if it runs
    with `appendonly yes` and `appendfsync always`.
    """

    def __init__(self, url: str, rules: Rules, metrics: Metrics) -> None:
        """Connections are made, and made again, when they are needed.

        Raises:
            ValueError: `url` is not one of Redis.
        """
        self._rules, self._metrics = rules, metrics
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=CALL_SECONDS,
            socket_timeout=CALL_SECONDS,
            socket_connect_timeout=CALL_SECONDS,
            # Connections that were open while Redis was restarted are found broken when they are next used.
            retry=Retry(ConstantBackoff(0.05), 1),
        )
        self._redis = Redis.from_pool(pool)
        self._script = self._redis.register_script(SCRIPT)
        self.is_away = False

    async def claim(self, view: SubmittedView, token: str) -> StoreReply:
        """Reserves a view."""
        lease, ttl = _milliseconds(LEASE_SECONDS), _milliseconds(self._rules.ttl_seconds)
        frame = f"{view.frame_id} {view.fingerprint.hex()}"
        listed = _votes_key(view.owner), view.object_id.encode("utf-8", "surrogatepass"), MAX_VOTES
        return await self._change("claim", view, token, frame, view.expected_views, lease, ttl, *listed)

    async def renew(self, view: SubmittedView, token: str) -> None:
        """Prolongs a claim."""
        await self._change("renew", view, token, _milliseconds(LEASE_SECONDS))

    async def release(self, view: SubmittedView, token: str) -> None:
        """Ends a claim."""
        await self._change("release", view, token)

    async def settle(self, view: SubmittedView, token: str, recognition: Recognition) -> StoreReply:
        """Stores an answer."""
        return await self._change(
            "settle",
            view,
            token,
            _to_json(recognition),
            json.dumps(astuple(recognition.predictions[0])),
            self._rules.max_objects,
            _milliseconds(self._rules.vote_after_seconds),
            self._rules.quorum,
        )

    async def look_up(self, names: Sequence[ObjectName]) -> list[StoreReply]:
        """The status of each object."""
        replies = await self._call([_key(name) for name in names], "look")
        return [self._reply(name.object_id, each) for name, each in zip(names, replies, strict=True)]

    async def votes(self, owner: str, after: str, limit: int) -> list[TakenVote]:
        """The latest votes."""
        ttl = _milliseconds(self._rules.ttl_seconds)
        entries = await self._call([_votes_key(owner)], "votes", after, limit, ttl)
        return [_taken_vote(cursor, fields) for cursor, fields in entries]

    async def probe(self) -> None:
        """Writes something that nobody reads: a Redis that is full refuses that."""
        await self._call([f"{PREFIX}:probe"], "probe")

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    async def _change(self, command: str, view: SubmittedView, token: str, *arguments: _Argument) -> StoreReply:
        reply = await self._call([_key(view.object)], command, _hash(view.device_id), token, *arguments)
        return self._reply(view.object_id, reply)

    async def _call(self, keys: Sequence[str], *arguments: _Argument) -> list:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                reply = await self._script(keys=[f"{PREFIX}:objects", *keys], args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            self._metrics.store_errors.inc()
            self._metrics.store_up.set(0)
            if not self.is_away:
                told = f"{type(error).__name__}: {error}"
                log.error("redis is away", error=told, refused="views of objects and waits for votes")
            self.is_away = True
            raise StoreAway from None
        if self.is_away:
            log.info("redis is back")
        self._metrics.store_up.set(1)
        self.is_away = False
        return cast(list, reply)

    def _reply(self, object_id: str, reply: list) -> StoreReply:
        name, was_taken_now, detail, expected, has_vote, *firsts = reply
        outcome, counted = name.decode(), [Prediction(*json.loads(first)) for first in firsts]
        vote = vote_of(counted) if has_vote else None
        if vote and was_taken_now:
            record_vote(object_id, vote, expected, self._metrics)
        status = vote or expected - len(counted)
        details: dict[str, Any] = {}
        if outcome == "answered":
            details["recognition"] = _recognition(detail)
        elif outcome == "another":
            frame_id, _, milliseconds = detail.decode().split(" ")
            details = {"frame_id": int(frame_id), "seconds_left": int(milliseconds) / 1e3}
        elif detail:
            details["removed_objects"] = int(detail)
        return StoreReply(outcome, expected, status, **details)


def _to_json(recognition: Recognition) -> str:
    milliseconds = [recognition.decode_ms, recognition.queue_ms, recognition.inference_ms]
    return json.dumps([[astuple(each) for each in recognition.predictions], milliseconds])


def _recognition(text: bytes) -> Recognition:
    predictions, milliseconds = json.loads(text)
    return Recognition(tuple(Prediction(*each) for each in predictions), *milliseconds)


def _taken_vote(cursor: bytes, fields: list[bytes]) -> TakenVote:
    object_id, expected, *firsts = fields[1::2]
    vote = vote_of([Prediction(*json.loads(first)) for first in firsts])
    return TakenVote(cursor.decode(), object_id.decode("utf-8", "surrogatepass"), int(expected), vote)


def _key(name: ObjectName) -> str:
    owner = f"{_hash(name.owner)}:" if name.owner else ""
    return f"{PREFIX}:object:{owner}{_hash(name.object_id)}"


def _votes_key(owner: str) -> str:
    return f"{PREFIX}:votes:{_hash(owner)}"


def _hash(name: str) -> str:
    """Stands for a name from outside, which may hold any characters."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def _milliseconds(seconds: float) -> int:
    return math.ceil(1e3 * seconds)
