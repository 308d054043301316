"""A view of an object, why one is refused, and what whoever keeps them must do."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from semlink.service.admission import ConcurrencyLimit
from server.pending import Pending
from server.predictions import Recognition
from server.refusals import AlreadyViewed, Stopping, UnknownObject, WrongViews
from server.sessions.votes import Standing

T = TypeVar("T")


@dataclass(frozen=True)
class View:
    """One device's look at an object.

    Attributes:
        object_id: the object that is looked at.
        device_id: who looks.
        frame_id: the device's count of its frames.
        expected_views: how many devices will look.
        fingerprint: equal for a frame and its retry, different for another frame. A retry may have met other bit
            errors, so it covers only what the channel protects.
    """

    object_id: str
    device_id: str
    frame_id: int
    expected_views: int
    fingerprint: bytes

    def another(self, frame_id: int, seconds: float) -> AlreadyViewed:
        """The refusal where the device has given frame `frame_id`, which is forgotten in so many seconds."""
        return AlreadyViewed(
            f"device {self.device_id!r} has given another view of object {self.object_id!r} (frame {frame_id}); "
            f"take a new object id, or wait {seconds:.0f} s until it is forgotten"
        )

    def unexpected(self, expected_views: int) -> WrongViews:
        """The refusal where the object expects another number of views."""
        return WrongViews(f"object {self.object_id!r} expects {expected_views} views, not {self.expected_views}")

    def superfluous(self) -> WrongViews:
        """The refusal where all of the object's views are taken."""
        return WrongViews(f"object {self.object_id!r} has all its {self.expected_views} views")


def unknown(object_id: str) -> UnknownObject:
    """The refusal to tell a vote where there is none, and none to wait for."""
    return UnknownObject(f"no view of object {object_id!r} has arrived, or it has been forgotten")


@dataclass(frozen=True)
class Rules:
    """How many objects are kept for how long, and when their votes are taken.

    Attributes:
        max_objects: beyond so many, the one that was looked at longest ago is forgotten.
        ttl_seconds: an object is forgotten so long after its last new view.
        max_waiting: so many callers may wait for votes at once.
        vote_after_seconds: so long after an object's first counted view, its vote is taken with the views that
            are in; 0: only when all are.
        quorum: but never with fewer views than so many, unless the object expects fewer.
    """

    max_objects: int
    ttl_seconds: float
    max_waiting: int
    vote_after_seconds: float = 0.0
    quorum: int = 1


class Sessions(Protocol):
    """All objects that are being looked at.

    A device gives one view of an object. A view repeated with the same frame id is answered with the first
    answer, also while that one is still being worked out, and is counted once. A vote is taken once, when all
    views are in or by the rules' deadline, and stays as it is: a view that is answered later changes nothing.
    """

    async def add_view(
        self, view: View, recognise: Callable[[], Pending], deadline: float
    ) -> tuple[Recognition, Standing, bool]:
        """Answers a view: what it shows, how the object stands, whether it is the answer to a repeated call.

        Args:
            view: who looks at what.
            recognise: has the answer worked out, called only for a new view.
            deadline: until when the caller waits, by the event loop's clock.

        Raises:
            Expired: the deadline has passed. A view that nobody waits for any more is no view, unless it is
                being looked at already: then a retry finds its answer.
            AlreadyViewed: the device has given another view of the object.
            WrongViews: the object has all its views, or expects another number of them.
            StoreAway: where the views are kept can't be reached.
        """

    async def wait(self, object_id: str, seconds: float) -> Standing:
        """How an object stands once its vote is taken, or after `seconds`.

        Raises:
            UnknownObject: no view of it has arrived, or it has been forgotten.
            Busy: as many wait as may.
            Stopping: `end_waits` was called.
            StoreAway: where the views are kept can't be reached.
        """

    def end_waits(self) -> None:
        """Has everybody go who waits for a vote, and nobody wait any more."""


class Waiting:
    """Those who wait for votes."""

    def __init__(self, most: int) -> None:
        """At most so many may."""
        self._limit = ConcurrencyLimit(most, "wait for votes")
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Nobody waits any more."""
        self._ended.set()

    async def until(self, find: Callable[[], Coroutine[Any, Any, T]], seconds: float) -> T | None:
        """What is waited for, as `find` finds it; None after `seconds`.

        Raises:
            Busy: as many wait as may.
            Stopping: `end` was called.
        """
        with self._limit:
            finding, ending = asyncio.create_task(find()), asyncio.create_task(self._ended.wait())
            try:
                await asyncio.wait({finding, ending}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                if finding.done():
                    return finding.result()
                if ending.done():
                    raise Stopping
                return None
            finally:
                finding.cancel()
                ending.cancel()
