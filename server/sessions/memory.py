"""In-memory session store: for one server, bounded in the number of objects and in time."""

import asyncio
import math
import time
from collections import OrderedDict, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from server.batching import Recognition
from server.metrics import Metrics
from server.sessions.decisions import NOTHING, CountedView, Standing, Vote, Wish, record_vote, record_wishes
from server.sessions.store import (
    MAX_VOTES,
    ObjectName,
    Outcome,
    Rules,
    StoreReply,
    SubmittedView,
    TakenVote,
)


@dataclass
class _View:
    frame_id: int
    fingerprints: list[bytes] = field(default_factory=list)  # of its layers
    answers: list[Recognition] = field(default_factory=list)  # one fewer while a layer is worked out
    token: str = ""
    more: int = NOTHING
    counted: CountedView | None = None


@dataclass
class _Object:
    expected_views: int
    expires: float = 0.0
    views: dict[str, _View] = field(default_factory=dict)
    due: float = math.inf
    decided: int = 0
    wishes: dict[str, Wish] = field(default_factory=dict)
    wishes_end: float = math.inf
    vote: Vote | None = None
    timer: asyncio.TimerHandle | None = None

    def stop_timer(self) -> None:
        if self.timer:
            self.timer.cancel()

    def standing(self, quorum: int = 1, now: float = -math.inf) -> Standing:
        """How it stands; without a time, nothing is due."""
        views = {key: view.counted for key, view in self.views.items()}
        counted = sum(view is not None for view in views.values())
        return Standing(
            self.expected_views,
            views,
            is_due=now >= self.due and counted >= quorum,
            is_overdue=bool(self.wishes) and now >= self.wishes_end,
            decided=self.decided,
            wishes=dict(self.wishes),
            vote=self.vote,
        )

    def reply(self, outcome: Outcome, **details: Any) -> StoreReply:
        return StoreReply(outcome, self.standing(), **details)


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
        """Reserves a layer."""
        found = self._find(view.object)
        known = found.views.get(view.key)
        if known is None:
            if view.layer:
                return found.reply("early")
            if not found.views:
                found.expected_views = view.expected_views
            elif found.expected_views != view.expected_views:
                return found.reply("unexpected")
            elif len(found.views) >= found.expected_views:
                return found.reply("superfluous")
            known = found.views[view.key] = _View(view.frame_id)
        layers, settled = len(known.fingerprints), len(known.answers)
        is_same = view.layer >= layers or known.fingerprints[view.layer] == view.fingerprint
        if known.frame_id != view.frame_id or not is_same:
            seconds_left = found.expires - time.monotonic()
            return found.reply("another", frame_id=known.frame_id, seconds_left=seconds_left)
        if view.layer < settled:
            return found.reply("answered", recognition=known.answers[view.layer])
        first = known.answers[0] if settled else None
        if settled < layers:
            if view.layer == settled and known.token == token:
                return found.reply("claimed", recognition=first)
            return found.reply("busy")
        if view.layer > settled:
            return found.reply("early")
        if settled and known.more == NOTHING:
            return found.reply("complete")
        known.fingerprints.append(view.fingerprint)
        known.token = token
        found.expires = time.monotonic() + self._rules.ttl_seconds
        self._objects[view.object] = found
        self._objects.move_to_end(view.object)
        return found.reply("claimed", recognition=first)

    async def renew(self, view: SubmittedView, token: str) -> None:
        """Does nothing: the claims of a process last as long as it does."""

    async def release(self, view: SubmittedView, token: str) -> None:
        """Ends a claim."""
        found = self._find(view.object)
        known = found.views.get(view.key)
        if known and known.token == token and len(known.fingerprints) > len(known.answers):
            known.fingerprints.pop()
            if not known.fingerprints:
                del found.views[view.key]
            if not found.views:
                self._remove(view.object)

    async def settle(self, view: SubmittedView, token: str, recognition: Recognition) -> StoreReply:
        """Stores an answer."""
        found = self._find(view.object)
        known = found.views.get(view.key)
        if known is None or known.token != token:
            return found.reply("lost")
        removed_objects = 0
        if len(known.fingerprints) > len(known.answers):
            known.answers.append(recognition)
            known.more = view.more
            if found.vote is None:
                known.counted = view.counted(recognition, known.counted)
                found.wishes.pop(view.key, None)
                if self._rules.vote_after_seconds and found.due == math.inf:
                    found.due = time.monotonic() + self._rules.vote_after_seconds
                    self._set_timer(view.object, found)
                self._decide(view.object, found)
            while len(self._objects) > self._rules.max_objects:
                self._remove(next(iter(self._objects)))
                removed_objects += 1
        is_counted = known.counted is not None and known.counted.layer >= view.layer
        return found.reply("counted" if is_counted else "late", removed_objects=removed_objects)

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
        """The object, decided if that is due; a new one, not yet stored, if it is unknown."""
        now = time.monotonic()
        while self._objects and next(iter(self._objects.values())).expires <= now:
            self._remove(next(iter(self._objects)))
        found = self._objects.get(name) or _Object(0)
        self._decide(name, found)
        return found

    def _decide(self, name: ObjectName, found: _Object) -> None:
        """Decides what is to be decided now."""
        now = time.monotonic()
        standing = found.standing(self._rules.quorum, now)
        decision = self._rules.decide(standing)
        if isinstance(decision, Vote):
            found.vote, found.wishes = decision, {}
            found.stop_timer()
            record_vote(name.object_id, decision, standing, self._metrics)
            latest, number = self._cursor
            self._cursor = max((_milliseconds(), 0), (latest, number + 1))
            cursor = "{}-{}".format(*self._cursor)
            self._votes[name.owner].append(TakenVote(cursor, name.object_id, found.expected_views, decision))
        elif decision:
            if new := len(decision.items() - found.wishes.items()):
                found.wishes_end = now + self._rules.wish_seconds
            record_wishes(name.object_id, new, decision, self._metrics)
            found.wishes, found.decided = decision, standing.layers
            self._set_timer(name, found)

    def _set_timer(self, name: ObjectName, found: _Object) -> None:
        """Has the object decided at its next deadline, though nobody may ask for it then."""
        now = time.monotonic()
        found.stop_timer()
        if ends := [end - now for end in (found.due, found.wishes_end) if now < end < math.inf]:
            found.timer = asyncio.get_running_loop().call_later(min(ends), self._at_deadline, name, found)

    def _at_deadline(self, name: ObjectName, found: _Object) -> None:
        self._decide(name, found)
        if found.vote is None:
            self._set_timer(name, found)

    def _remove(self, name: ObjectName) -> None:
        self._objects.pop(name).stop_timer()


def _milliseconds() -> int:
    return int(1000 * time.time())


def _numbers(cursor: str) -> tuple[int, int]:
    milliseconds, number = cursor.split("-")
    return int(milliseconds), int(number)
