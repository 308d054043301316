"""In-memory session store: for one server, bounded in the number of objects and in time."""

import asyncio
import math
import time
from collections import OrderedDict, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from server.batching import Recognition
from server.metrics import Metrics
from server.model import Prediction
from server.sessions.store import (
    MAX_VOTES,
    ObjectName,
    Outcome,
    Rules,
    StoreReply,
    SubmittedView,
    TakenVote,
    Vote,
    record_vote,
    vote_of,
)


@dataclass
class _View:
    frame: tuple[int, bytes]
    token: str
    recognition: Recognition | None = None
    is_counted: bool = False


@dataclass
class _Object:
    expected_views: int
    expires: float = 0.0
    views: dict[str, _View] = field(default_factory=dict)
    counted: list[Prediction] = field(default_factory=list)
    due: float = math.inf
    vote: Vote | None = None
    timer: asyncio.TimerHandle | None = None

    def stop_timer(self) -> None:
        if self.timer:
            self.timer.cancel()

    def reply(self, outcome: Outcome, **details: Any) -> StoreReply:
        missing = self.expected_views - len(self.counted)
        return StoreReply(outcome, self.expected_views, self.vote or missing, **details)


class MemoryStore:
    """Objects in this process's memory; claims never expire. See `SessionStore`.

    Attributes:
        is_away: never.
    """

    is_away = False

    def __init__(self, rules: Rules, metrics: Metrics) -> None:
        """An empty store."""
        self._rules, self._metrics = rules, metrics
        self._objects: OrderedDict[ObjectName, _Object] = OrderedDict()  # by expiry
        self._votes: defaultdict[str, deque[TakenVote]] = defaultdict(lambda: deque(maxlen=MAX_VOTES))
        self._cursor = 0, 0

    async def claim(self, view: SubmittedView, token: str) -> StoreReply:
        """Reserves a view."""
        found = self._find(view.object)
        frame = view.frame_id, view.fingerprint
        if known := found.views.get(view.device_id):
            if known.frame != frame:
                seconds_left = found.expires - time.monotonic()
                return found.reply("another", frame_id=known.frame[0], seconds_left=seconds_left)
            if known.recognition:
                return found.reply("answered", recognition=known.recognition)
            return found.reply("claimed" if known.token == token else "busy")
        if not found.views:
            found.expected_views = view.expected_views
        elif found.expected_views != view.expected_views:
            return found.reply("unexpected")
        elif len(found.views) >= found.expected_views:
            return found.reply("superfluous")
        found.views[view.device_id] = _View(frame, token)
        found.expires = time.monotonic() + self._rules.ttl_seconds
        self._objects[view.object] = found
        self._objects.move_to_end(view.object)
        return found.reply("claimed")

    async def renew(self, view: SubmittedView, token: str) -> None:
        """Does nothing: the claims of a process last as long as it does."""

    async def release(self, view: SubmittedView, token: str) -> None:
        """Ends a claim."""
        found = self._find(view.object)
        known = found.views.get(view.device_id)
        if known and known.token == token and known.recognition is None:
            del found.views[view.device_id]
            if not found.views:
                self._remove(view.object)

    async def settle(self, view: SubmittedView, token: str, recognition: Recognition) -> StoreReply:
        """Stores an answer."""
        found = self._find(view.object)
        known = found.views.get(view.device_id)
        if known is None or known.token != token:
            return found.reply("lost")
        removed_objects = 0
        if known.recognition is None:
            known.recognition, known.is_counted = recognition, found.vote is None
            if known.is_counted:
                self._count(view.object, found, recognition.predictions[0])
            while len(self._objects) > self._rules.max_objects:
                self._remove(next(iter(self._objects)))
                removed_objects += 1
        return found.reply("counted" if known.is_counted else "late", removed_objects=removed_objects)

    async def look_up(self, names: Sequence[ObjectName]) -> list[StoreReply]:
        """The status of each object."""
        found = map(self._find, names)
        return [each.reply("known" if each.views else "unknown") for each in found]

    async def votes(self, owner: str, after: str, limit: int) -> list[TakenVote]:
        """The latest votes."""
        oldest = _milliseconds() - 1000 * self._rules.ttl_seconds, 0
        least = max(oldest, _numbers(after)) if after else oldest
        listed = [vote for vote in self._votes.get(owner, ()) if _numbers(vote.cursor) > least]
        return listed[:limit] if after else listed[-limit:]

    async def probe(self) -> None:
        """Does nothing: memory is always there."""

    async def close(self) -> None:
        """Stops the timers."""
        for each in self._objects.values():
            each.stop_timer()

    def _find(self, name: ObjectName) -> _Object:
        """The object, its vote taken if that is due; a new one, not yet stored, if it is unknown."""
        now = time.monotonic()
        while self._objects and next(iter(self._objects.values())).expires <= now:
            self._remove(next(iter(self._objects)))
        found = self._objects.get(name) or _Object(0)
        self._vote_if_due(name, found, is_due=now >= found.due)
        return found

    def _count(self, name: ObjectName, found: _Object, first: Prediction) -> None:
        found.counted.append(first)
        if self._rules.vote_after_seconds and found.timer is None:
            seconds = self._rules.vote_after_seconds
            found.due = time.monotonic() + seconds
            vote = partial(self._vote_if_due, name, found, is_due=True)
            found.timer = asyncio.get_running_loop().call_later(seconds, vote)
        self._vote_if_due(name, found, is_due=time.monotonic() >= found.due)

    def _vote_if_due(self, name: ObjectName, found: _Object, *, is_due: bool) -> None:
        counted = len(found.counted)
        if found.vote or not counted:
            return
        if counted == found.expected_views or (is_due and counted >= self._rules.quorum):
            found.vote = vote_of(found.counted)
            found.stop_timer()
            record_vote(name.object_id, found.vote, found.expected_views, self._metrics)
            latest, number = self._cursor
            self._cursor = max((_milliseconds(), 0), (latest, number + 1))
            cursor = "{}-{}".format(*self._cursor)
            self._votes[name.owner].append(TakenVote(cursor, name.object_id, found.expected_views, found.vote))

    def _remove(self, name: ObjectName) -> None:
        self._objects.pop(name).stop_timer()


def _milliseconds() -> int:
    return int(1000 * time.time())


def _numbers(cursor: str) -> tuple[int, int]:
    milliseconds, number = cursor.split("-")
    return int(milliseconds), int(number)
