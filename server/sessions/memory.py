"""The views of each object, and their vote, in memory: for one server. Bounded in number and in time."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import structlog

from server.metrics import Metrics
from server.pending import Pending
from server.predictions import Prediction, Recognition
from server.sessions.views import Rules, View, Waiting, unknown
from server.sessions.votes import Standing, Vote, tell_vote, vote_of

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Given:
    view: View
    pending: Pending


@dataclass
class _Object:
    expected_views: int
    expires: float = 0.0
    given: dict[str, _Given] = field(default_factory=dict)
    counted: list[Prediction] = field(default_factory=list)
    due: float = math.inf
    vote: Vote | None = None
    voted: asyncio.Event = field(default_factory=asyncio.Event)
    timer: asyncio.TimerHandle | None = None


class MemorySessions:
    """All objects that are being looked at; see `server.sessions.Sessions`."""

    def __init__(self, rules: Rules, metrics: Metrics) -> None:
        """Keeps none yet."""
        self._rules, self._metrics = rules, metrics
        self._waiting = Waiting(rules.max_waiting)
        self._objects: OrderedDict[str, _Object] = OrderedDict()

    async def add_view(
        self, view: View, recognise: Callable[[], Pending], deadline: float
    ) -> tuple[Recognition, Standing, bool]:
        """Answers a view; see `server.sessions.Sessions`."""
        thing = self._find(view.object_id) or _Object(view.expected_views)
        if not thing.given:
            thing.expected_views = view.expected_views  # whoever opened it got no answer: it starts afresh
        given = thing.given.get(view.device_id)
        if given is not None and given.pending.answer.cancelled():  # whoever gave it has gone, just now
            given = None
            del thing.given[view.device_id]
        repeated = given is not None
        if given is None:
            if thing.expected_views != view.expected_views:
                raise view.unexpected(thing.expected_views)
            if len(thing.given) == thing.expected_views:
                raise view.superfluous()
            given = thing.given[view.device_id] = _Given(view, recognise())
            given.pending.answer.add_done_callback(partial(self._answered, thing, given))
            self._keep(view.object_id, thing)
        elif (given.view.frame_id, given.view.fingerprint) != (view.frame_id, view.fingerprint):
            raise view.another(given.view.frame_id, thing.expires - time.monotonic())
        recognition = await given.pending.wait(deadline)
        return recognition, self._standing(view.object_id, thing), repeated

    async def wait(self, object_id: str, seconds: float) -> Standing:
        """How an object stands once its vote is taken; see `server.sessions.Sessions`."""
        thing = self._find(object_id)
        if thing is None or not thing.given:
            raise unknown(object_id)
        if seconds and not isinstance(self._standing(object_id, thing), Vote):
            await self._waiting.until(thing.voted.wait, seconds)
        return self._standing(object_id, thing)

    def end_waits(self) -> None:
        """Has everybody go who waits for a vote; see `server.sessions.Sessions`."""
        self._waiting.end()

    def _standing(self, object_id: str, thing: _Object) -> Standing:
        self._vote_if_due(object_id, thing)
        return thing.vote or thing.expected_views - len(thing.counted)

    def _answered(self, thing: _Object, given: _Given, answer: "asyncio.Future[Recognition]") -> None:
        device_id, object_id = given.view.device_id, given.view.object_id
        if answer.cancelled() or answer.exception():
            # No answer, no view: a retry starts afresh.
            if thing.given.get(device_id) is given:
                del thing.given[device_id]
            return
        self._vote_if_due(object_id, thing)  # this view may come after the deadline
        if thing.vote:
            self._metrics.late_views.inc()
            return
        thing.counted.append(answer.result().predictions[0])
        if self._rules.vote_after_seconds and thing.timer is None:
            patience = self._rules.vote_after_seconds
            thing.due = time.monotonic() + patience
            thing.timer = asyncio.get_running_loop().call_later(
                patience, partial(self._vote_if_due, object_id, thing, is_due=True)
            )
        self._vote_if_due(object_id, thing)

    def _vote_if_due(self, object_id: str, thing: _Object, *, is_due: bool = False) -> None:
        counted, is_due = len(thing.counted), is_due or time.monotonic() >= thing.due
        if thing.vote or not (counted == thing.expected_views or (is_due and counted >= self._rules.quorum)):
            return
        thing.vote = vote_of(thing.counted)
        thing.voted.set()
        _stop(thing)
        tell_vote(object_id, thing.vote, thing.expected_views, self._metrics)

    def _find(self, object_id: str) -> _Object | None:
        now = time.monotonic()
        while self._objects and next(iter(self._objects.values())).expires <= now:
            _stop(self._objects.popitem(last=False)[1])
        return self._objects.get(object_id)

    def _keep(self, object_id: str, thing: _Object) -> None:
        if object_id not in self._objects and len(self._objects) == self._rules.max_objects:
            forgotten_id, forgotten = self._objects.popitem(last=False)
            _stop(forgotten)
            log.warning(
                "forgot an object to make room", object_id=forgotten_id, max_objects=self._rules.max_objects
            )
        thing.expires = time.monotonic() + self._rules.ttl_seconds
        self._objects[object_id] = thing
        self._objects.move_to_end(object_id)


def _stop(thing: _Object) -> None:
    """Has the event loop let go of an object that needs its timer no more."""
    if thing.timer:
        thing.timer.cancel()
