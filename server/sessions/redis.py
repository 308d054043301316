"""Redis session store: for several servers that share objects; each change is one run of redis.lua.

What a server decides of an object it decides of so many counted layers, and the script takes the decision only
while there are no more (compare and set): of two servers that decide at once, one decides again, of all of them.
"""

import asyncio
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, astuple, replace
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
from server.sessions.decisions import CountedView, Standing, Vote, Wish, record_vote, record_wishes
from server.sessions.store import (
    LEASE_SECONDS,
    MAX_VOTES,
    ObjectName,
    Rules,
    StoreReply,
    SubmittedView,
    TakenVote,
)

log = structlog.get_logger(__name__)

PREFIX = "semlink:2"
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
        """Reserves a layer."""
        lease, ttl = _milliseconds(LEASE_SECONDS), _milliseconds(self._rules.ttl_seconds)
        told = view.frame_id, view.fingerprint.hex(), view.expected_views
        listed = _votes_key(view.owner), view.object_id.encode("utf-8", "surrogatepass"), MAX_VOTES
        return await self._change("claim", view, token, *told, lease, ttl, *listed)

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
            json.dumps([astuple(each) for each in recognition.named]),
            recognition.classes,
            view.more,
            int(recognition.is_look),
            self._rules.max_objects,
            _milliseconds(self._rules.vote_after_seconds),
            self._rules.quorum,
        )

    async def look_up(self, names: Sequence[ObjectName]) -> list[StoreReply]:
        """The status of each object."""
        replies = await self._call([_key(name) for name in names], "look")
        return [await self._decided(name, reply) for name, reply in zip(names, replies, strict=True)]

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
        while True:
            told = view.key, token, view.layer, *arguments
            reply = await self._decided(view.object, await self._call([_key(view.object)], command, *told))
            if reply.outcome != "undecided":
                return reply

    async def _decided(self, name: ObjectName, answered: list) -> StoreReply:
        """The reply that an answer of the script is, once what is to be decided of the object is."""
        reply = _reply(answered)
        while (decision := self._rules.decide(reply.standing)) is not None:
            told: list[_Argument] = [reply.standing.layers, int(reply.standing.is_overdue)]
            if isinstance(decision, Vote):
                told.append(_vote_to_json(decision))
            else:
                told += ["", _milliseconds(self._rules.wish_seconds)]
                for key, wish in decision.items():
                    told += [key, "{} {} {}".format(*astuple(wish))]
            is_taken, new_wishes, answered = await self._call([_key(name)], "decide", *told)
            if is_taken and isinstance(decision, Vote):
                record_vote(name.object_id, decision, reply.standing, self._metrics)
            elif is_taken and not isinstance(decision, Vote):
                record_wishes(name.object_id, new_wishes, decision, self._metrics)
            reply = replace(reply, standing=_reply(answered).standing)
        return reply

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


def _reply(answered: list) -> StoreReply:
    name, detail, expected, is_due, is_overdue, decided, vote, *views = answered
    outcome = name.decode()
    counted: dict[str, CountedView | None] = {}
    wishes: dict[str, Wish] = {}
    for place in range(0, len(views), 7):
        key, layers, belief, classes, more, looks, wish = views[place : place + 7]
        counted[key.decode()] = None
        if layers:
            named = _predictions(json.loads(belief))
            counted[key.decode()] = CountedView(named, int(classes), int(layers) - 1, int(more), int(looks))
        if wish:
            wishes[key.decode()] = Wish(*map(int, wish.split(b" ")))
    taken = _vote(vote) if vote else None
    standing = Standing(expected, counted, bool(is_due), bool(is_overdue), decided, wishes, taken)
    details: dict[str, Any] = {}
    if outcome in ("answered", "claimed") and detail:
        details["recognition"] = _recognition(detail)
    elif outcome == "another":
        frame_id, milliseconds = detail.split(b" ")
        details = {"frame_id": int(frame_id), "seconds_left": int(milliseconds) / 1e3}
    elif detail:
        details["removed_objects"] = int(detail)
    return StoreReply(outcome, standing, **details)


def _to_json(recognition: Recognition) -> str:
    milliseconds = [recognition.decode_ms, recognition.queue_ms, recognition.inference_ms]
    known = [astuple(each) for each in recognition.named]
    predictions = [astuple(each) for each in recognition.predictions]
    return json.dumps([predictions, milliseconds, known, recognition.classes, recognition.is_look])


def _recognition(text: bytes) -> Recognition:
    predictions, (decode_ms, queue_ms, inference_ms), named, classes, is_look = json.loads(text)
    seen = _predictions(predictions)
    return Recognition(seen, decode_ms, queue_ms, inference_ms, _predictions(named), classes, is_look)


def _predictions(listed: list[list]) -> tuple[Prediction, ...]:
    return tuple(Prediction(*each) for each in listed)


def _vote_to_json(vote: Vote) -> str:
    return json.dumps(asdict(vote))


def _vote(text: bytes) -> Vote:
    fields = json.loads(text)
    fused = Prediction(**fields["fused"]) if fields["fused"] else None
    return Vote(**fields | {"fused": fused})


def _taken_vote(cursor: bytes, fields: list[bytes]) -> TakenVote:
    object_id, expected, vote = fields[1::2]
    return TakenVote(cursor.decode(), object_id.decode("utf-8", "surrogatepass"), int(expected), _vote(vote))


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
