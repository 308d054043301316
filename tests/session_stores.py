"""Both stores of sessions, as tests use them: made within the test's event loop, and aged at will."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from redis_server import RedisServer

from semlink.decision.belief import Belief
from server.batching import Pending, Recognition
from server.metrics import Metrics
from server.model import Prediction
from server.sessions import NOTHING, Recognise, Rules, Sessions, SubmittedView
from server.sessions import memory as in_memory
from server.sessions import redis as in_redis

RULES = {"max_objects": 100, "ttl_seconds": 600}


def recognition(label: int, confidence: float = 0.5, *, is_look: bool = True) -> Recognition:
    named = Prediction(label, f"class {label}", confidence), Prediction(999, "other", 0.01)
    return Recognition(named, 1, 2, 3, named, 1000, is_look)


class Eye:
    """What recognises: answers in its own time, and knows how often it was asked.

    It looks to the end, unless it is `patient`: then it lets go of what nobody waits for.
    """

    def __init__(
        self, answer: Recognition | Exception | None = None, *, held: bool = False, patient: bool = False
    ) -> None:
        self.answer, self.calls, self.free, self.patient = answer or recognition(7), 0, asyncio.Event(), patient
        if not held:
            self.free.set()

    def __call__(self, known: Belief | None = None) -> Pending:
        self.known = known
        self.calls += 1
        pending = self.pending = Pending(lambda: self.patient and pending.answer.cancel())
        self.task = asyncio.create_task(self.look(pending.answer))
        return pending

    @property
    def callers(self) -> int:
        """How many wait for what it says."""
        return self.pending._callers if self.calls else 0

    async def look(self, answer: asyncio.Future) -> None:
        await self.free.wait()
        if answer.cancelled():
            return
        if isinstance(self.answer, Exception):
            answer.set_exception(self.answer)
        else:
            answer.set_result(self.answer)


class MemoryStore:
    """Makes sessions in memory, whose clock can be put forward."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self, metrics: Metrics | None = None, max_waiting: int = 100, **rules: float) -> Sessions:
        metrics = metrics or Metrics()
        return Sessions(in_memory.MemoryStore(Rules(**RULES | rules), metrics), max_waiting, metrics)

    def age(self, seconds: float) -> None:
        """Lets time pass for all that is kept."""
        self._ahead += seconds

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def time(self) -> float:
        return time.time() + self._ahead

    async def close(self) -> None:
        pass


class RedisStore:
    """Makes sessions in Redis; those made by one of these share their objects."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self._made: list[Sessions] = []

    def __call__(self, metrics: Metrics | None = None, max_waiting: int = 100, **rules: float) -> Sessions:
        metrics = metrics or Metrics()
        store = in_redis.RedisStore(self.server.url, Rules(**RULES | rules), metrics)
        self._made.append(Sessions(store, max_waiting, metrics))
        return self._made[-1]

    def age(self, seconds: float) -> None:
        """Lets time pass for all that is kept: whatever was to happen at some time happens so much sooner."""
        client, milliseconds = self.server.client, round(1e3 * seconds)
        for key in client.scan_iter("semlink:2:object:*"):
            client.zincrby("semlink:2:objects", -milliseconds, key)
            for field in client.hkeys(key):
                if field in (b"due", b"wishesend") or field.startswith(b"until:"):
                    client.hincrby(key, field, -milliseconds)
            client.pexpire(key, client.pttl(key) - milliseconds)

    async def close(self) -> None:
        for made in self._made:
            await made.close()


Store = MemoryStore | RedisStore
PATIENT_SECONDS = 60.0
"""A call of Redis may take so long where many are made at once on a busy machine."""


@contextmanager
def memory_store() -> Iterator[MemoryStore]:
    with pytest.MonkeyPatch.context() as patch:
        store = MemoryStore()
        patch.setattr(in_memory, "time", store)
        yield store


async def add(kept: Sessions, eye: Recognise, device: str = "a", *, thing: str = "cup", frame: int = 0,
              views: int = 4, fingerprint: bytes = b"frame", seconds: float = 60, owner: str = "", layer: int = 0,
              more: int = NOTHING):  # fmt: skip
    deadline = asyncio.get_running_loop().time() + seconds
    return await kept.add_view(
        SubmittedView(thing, device, frame, views, fingerprint, owner, layer, more), eye, deadline
    )


async def until(condition: Callable[[], object]) -> None:
    """Returns once `condition` holds."""
    while not condition():
        await asyncio.sleep(0.002)


async def until_waiting(kept: Sessions, callers: int) -> None:
    """Returns once so many callers wait for votes."""
    await until(lambda: kept._limit.current == callers)


@pytest.fixture(params=["memory", "redis"])
async def store(request, monkeypatch):
    """Each kind of store in turn."""
    if request.param == "redis":
        monkeypatch.setattr(in_redis, "CALL_SECONDS", PATIENT_SECONDS)
        made = RedisStore(request.getfixturevalue("redis_server"))
        yield made
        await made.close()
    else:
        with memory_store() as made:
            yield made
