"""The views of each object, and their vote. In memory, bounded in number and in time."""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import structlog

from semlink.voting import majority_vote
from server.metrics import Metrics
from server.pending import Pending
from server.predictions import Recognition
from server.refusals import AlreadyViewed, Overloaded, UnknownObject, WrongViews

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Vote:
    """What all views of an object agree on: a label, and how many of the views named it."""

    label: int
    name: str
    votes: int
    views: int


Standing = Vote | int
"""An object's vote, or how many of its views are missing."""


@dataclass(frozen=True)
class _View:
    frame_id: int
    fingerprint: bytes
    pending: Pending

    @property
    def counted(self) -> bool:
        answer = self.pending.answer
        return answer.done() and not answer.cancelled() and answer.exception() is None


@dataclass
class _Object:
    expected_views: int
    expires: float = 0.0
    views: dict[str, _View] = field(default_factory=dict)
    voted: asyncio.Event = field(default_factory=asyncio.Event)

    def standing(self) -> Standing:
        firsts = [view.pending.answer.result().predictions[0] for view in self.views.values() if view.counted]
        if len(firsts) < self.expected_views:
            return self.expected_views - len(firsts)
        label = majority_vote([first.label for first in firsts], [first.confidence for first in firsts])
        names = [first.name for first in firsts if first.label == label]
        return Vote(label, names[0], votes=len(names), views=len(firsts))


class Sessions:
    """All objects that are being looked at.

    A device gives one view of an object. A view repeated with the same frame id is answered with the first
    answer, also while that one is still being worked out, and is counted once.
    """

    def __init__(self, *, max_objects: int, ttl_seconds: float, max_waiting: int, metrics: Metrics) -> None:
        """Keeps at most `max_objects`, each for `ttl_seconds` after its last view; so many may wait for votes."""
        self._max_objects, self._ttl = max_objects, ttl_seconds
        self._max_waiting, self._waiting = max_waiting, 0
        self._metrics = metrics
        self._objects: OrderedDict[str, _Object] = OrderedDict()

    async def add_view(
        self,
        object_id: str,
        device_id: str,
        frame_id: int,
        expected_views: int,
        fingerprint: bytes,
        recognise: Callable[[], Pending],
        deadline: float,
    ) -> tuple[Recognition, Standing, bool]:
        """Answers a view: what it shows, how the object stands, whether it is the answer to a repeated call.

        Args:
            object_id: the object that is looked at.
            device_id: who looks.
            frame_id: the device's count of its frames.
            expected_views: how many devices will look.
            fingerprint: equal for a frame and its retry, different for another frame. A retry may have met
                other bit errors, so it covers only what the channel protects.
            recognise: has the answer worked out, called only for a new view.
            deadline: until when the caller waits, by the event loop's clock.

        Raises:
            Expired: the deadline has passed. A view that nobody waits for any more is no view, unless it is
                being looked at already: then a retry finds its answer.
            AlreadyViewed: the device has given another view of the object.
            WrongViews: the object has all its views, or expects another number of them.
        """
        thing = self._find(object_id) or _Object(expected_views)
        if not thing.views:
            thing.expected_views = expected_views  # whoever opened the object got no answer: it starts afresh
        view = thing.views.get(device_id)
        if view is not None and view.pending.answer.cancelled():  # whoever gave it has gone, just now
            view = None
            del thing.views[device_id]
        repeated = view is not None
        if view is None:
            if thing.expected_views != expected_views:
                raise WrongViews(
                    f"object {object_id!r} expects {thing.expected_views} views, not {expected_views}"
                )
            if len(thing.views) == thing.expected_views:
                raise WrongViews(f"object {object_id!r} has all its {thing.expected_views} views")
            view = thing.views[device_id] = _View(frame_id, fingerprint, recognise())
            view.pending.answer.add_done_callback(partial(self._answered, object_id, device_id, thing, view))
            self._keep(object_id, thing)
        elif (view.frame_id, view.fingerprint) != (frame_id, fingerprint):
            raise AlreadyViewed(
                f"device {device_id!r} has given another view of object {object_id!r} (frame {view.frame_id}); "
                f"take a new object id, or wait {thing.expires - time.monotonic():.0f} s until it is forgotten"
            )
        recognition = await view.pending.wait(deadline)
        return recognition, thing.standing(), repeated

    async def wait(self, object_id: str, seconds: float) -> Standing:
        """How an object stands once all its views are in, or after `seconds`.

        Raises:
            UnknownObject: no view of it has arrived, or it has been forgotten.
            Overloaded: as many wait as may.
        """
        thing = self._find(object_id)
        if thing is None or not thing.views:
            raise UnknownObject(f"no view of object {object_id!r} has arrived, or it has been forgotten")
        if seconds and not thing.voted.is_set():
            if self._waiting >= self._max_waiting:
                raise Overloaded(f"{self._waiting} calls wait for votes, and no more may", retry_after=1.0)
            self._waiting += 1
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await thing.voted.wait()
            finally:
                self._waiting -= 1
        return thing.standing()

    def _answered(
        self,
        object_id: str,
        device_id: str,
        thing: _Object,
        view: _View,
        _answer: "asyncio.Future[Recognition]",
    ) -> None:
        if not view.counted:
            # No answer, no view: a retry starts afresh.
            if thing.views.get(device_id) is view:
                del thing.views[device_id]
            return
        standing = thing.standing()
        if isinstance(standing, Vote):
            thing.voted.set()
            self._metrics.count_vote(standing.votes, standing.views)
            log.info("vote", object_id=object_id, **vars(standing))

    def _find(self, object_id: str) -> _Object | None:
        now = time.monotonic()
        while self._objects and next(iter(self._objects.values())).expires <= now:
            self._objects.popitem(last=False)
        return self._objects.get(object_id)

    def _keep(self, object_id: str, thing: _Object) -> None:
        if object_id not in self._objects and len(self._objects) == self._max_objects:
            forgotten, _ = self._objects.popitem(last=False)
            log.warning("forgot an object to make room", object_id=forgotten, max_objects=self._max_objects)
        thing.expires = time.monotonic() + self._ttl
        self._objects[object_id] = thing
        self._objects.move_to_end(object_id)
