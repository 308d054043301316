"""Voting sessions: each view is recognised and counted once, however often it is sent and to whichever server."""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import structlog

from semlink.decision.belief import Belief
from semlink.service.admission import ConcurrencyLimit, Refusal
from server.batching import Pending, Recognition
from server.metrics import Metrics
from server.refusals import AlreadyViewed, Expired, Stopping, StoreAway, UnknownObject, WrongViews
from server.sessions.decisions import VoteStatus, belief_of, view_key
from server.sessions.store import (
    LEASE_SECONDS,
    ObjectName,
    SessionStore,
    StoreReply,
    SubmittedView,
    TakenVote,
)

log = structlog.get_logger(__name__)

BUSY_SECONDS = 0.05, 0.4
"""Shortest and longest pause before claiming a view again that another server has claimed."""
SETTLE_PAUSE_SECONDS = 0.1
PROBE_SECONDS = 2.0
"""Interval at which the store is asked whether it is there."""
LATEST_VOTES = 100
"""Votes among which the latest run of an object is searched for."""
POLL_SECONDS = 0.05
"""Interval at which the store is asked for the votes that callers wait for."""

GONE = "it has been forgotten"

Recognise = Callable[[Belief | None], Pending]
"""Starts the recognition of a layer, given the opinion that the view began with; None: it began with none."""

_Told = asyncio.Future[VoteStatus]
"""A caller who waits, and what it is told."""


@dataclass(frozen=True)
class _Work:
    """A layer claimed by this server: its answer, and the store's reply to it (None: there was no answer)."""

    pending: Pending
    settled: "asyncio.Task[StoreReply | None]"

    @property
    def has_failed(self) -> bool:
        answer = self.pending.answer
        return answer.done() and (answer.cancelled() or answer.exception() is not None)


class Sessions:
    """The views and votes of all objects.

    A device gives one view of an object, in one layer or several, one after the other. A layer repeated with the
    same frame id gets the first answer, also while that one is still being computed, and is counted once. A vote
    is taken once, when all views are in and no more layers are wished for, or by the rules' deadlines, and does
    not change: what is answered later is not counted.

    A server claims a layer in the store, and renews the claim while it computes the answer. If the server dies,
    the claim expires, and a retry of the frame claims it anew, on any server. An answer under an expired claim is
    not counted: its caller claims the layer again.
    """

    def __init__(self, store: SessionStore, max_waiting: int, metrics: Metrics) -> None:
        """Sessions in `store`; at most `max_waiting` callers may wait for votes at once."""
        self._store, self._metrics = store, metrics
        self._limit = ConcurrencyLimit(max_waiting, "wait for votes")
        self._works: dict[tuple[ObjectName, str, int], _Work] = {}
        self._awaited: dict[ObjectName, dict[_Told, str]] = {}
        self._polling: asyncio.Task[None] | None = None
        self._probing: asyncio.Task[None] | None = None
        self._is_stopping = False

    async def add_view(
        self, view: SubmittedView, recognise: Recognise, deadline: float
    ) -> tuple[Recognition, VoteStatus, bool]:
        """Answers a layer: its recognition, the object's vote, whether it is the answer to a repeated call.

        Args:
            view: the ids of the layer.
            recognise: starts the recognition; called only for a new layer.
            deadline: until when the caller waits, by the event loop's clock.

        Raises:
            Expired: the deadline has passed. A layer that no caller waits for is not counted, unless it is already
                in the model: then a retry gets its answer.
            AlreadyViewed: the device has sent another view of the object.
            WrongViews: the object has all its views, or expects another number of them; or the view is complete.
            UnknownObject: the layer before this one has not arrived, or is forgotten.
            StoreAway: the store can't be reached.
        """
        token = secrets.token_hex(8)
        pause, longest_pause = BUSY_SECONDS
        while True:
            reply = await self._store.claim(view, token)
            if reply.outcome == "answered" and reply.recognition:
                return reply.recognition, reply.status(view.key), True
            if reply.outcome not in ("claimed", "busy"):
                raise _refusal(view, reply)
            is_repeated = reply.outcome == "busy"
            work = self._work_on(view) if is_repeated else await self._begin(view, token, reply, recognise)
            if work is None:
                await _pause(pause, deadline)
                pause = min(2 * pause, longest_pause)
                continue
            try:
                recognition = await work.pending.wait(deadline)
            except Exception:
                if work.has_failed:  # the claim is released before anybody can try again
                    await asyncio.wait({work.settled})
                raise
            try:
                async with asyncio.timeout_at(deadline):
                    settled = await asyncio.shield(work.settled)
            except TimeoutError:
                raise Expired from None
            if settled is not None and settled.outcome != "lost":
                return recognition, settled.status(view.key), is_repeated
            recognise = partial(_known, recognition)

    async def wait(self, object_id: str, seconds: float, owner: str = "", device_id: str = "") -> VoteStatus:
        """The status of an owner's object once its vote is taken, or after `seconds`.

        With a device's id, once a layer of its view is wished for, too; and its view must be known.

        Votes that other servers take are found by polling: a subscription would be some milliseconds quicker, but
        its messages are lost with the connection, so that polling would be needed all the same.

        Raises:
            UnknownObject: no view of it has arrived, or none of the device, or it has been removed.
            Busy: too many callers wait.
            Stopping: `end_waits` was called.
            StoreAway: the store can't be reached.
        """
        name, key = ObjectName(object_id, owner), view_key(device_id) if device_id else ""
        status = await self._status(name, key)
        if not seconds or not isinstance(status, int):
            return status
        try:
            with self._limit:
                if self._is_stopping:
                    raise Stopping
                return await self._await(name, key, seconds)
        except TimeoutError:
            return await self._status(name, key)

    async def votes(self, owner: str, after: str, limit: int) -> list[TakenVote]:
        """An owner's votes, the oldest first: the first after a cursor, or else (`after` is empty) the latest.

        Raises:
            StoreAway: the store can't be reached.
        """
        return await self._store.votes(owner, after, limit)

    def start_probing(self) -> None:
        """Asks the store now and ever again whether it is there; a warning says where it is not."""
        self._probing = asyncio.create_task(self._probe())

    def problem(self) -> str:
        """What is refused now, and why; empty: nothing."""
        if not self._store.is_away:
            return ""
        return "redis does not answer: views of objects and waits for votes are refused until it does"

    def end_waits(self) -> None:
        """Ends all waits for votes with Stopping, those that begin later too."""
        self._is_stopping = True
        for told in [told for callers in self._awaited.values() for told in callers]:
            if not told.done():
                told.set_exception(Stopping())

    async def close(self) -> None:
        """Gives up what is under way, and closes the store."""
        for task in (self._polling, self._probing, *(work.settled for work in self._works.values())):
            if task:
                task.cancel()
        await self._store.close()

    async def _probe(self) -> None:
        while True:
            with suppress(StoreAway):
                await self._store.probe()
            await asyncio.sleep(PROBE_SECONDS)

    async def _status(self, name: ObjectName, key: str) -> VoteStatus:
        """Of an object, as the view of a key is to know it; with what is wished of it.

        Where there is no object of that name, the vote of its latest run: NAME@RUN.
        """
        (reply,) = await self._store.look_up([name])
        if reply.outcome != "unknown":
            if key and not reply.standing.vote and key not in reply.standing.views:
                raise UnknownObject(f"no view of object {name.object_id!r} by this device has arrived, or {GONE}")
            return reply.status(key)
        for taken in reversed(await self._store.votes(name.owner, "", LATEST_VOTES)):
            if taken.object_id.rpartition("@")[0] == name.object_id:
                return taken.vote
        raise UnknownObject(f"no view of object {name.object_id!r} has arrived, or {GONE}")

    async def _await(self, name: ObjectName, key: str, seconds: float) -> VoteStatus:
        callers = self._awaited.setdefault(name, {})
        told: _Told = asyncio.get_running_loop().create_future()
        callers[told] = key
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll())
        try:
            async with asyncio.timeout(seconds):
                return await told
        finally:
            del callers[told]
            if not callers:
                del self._awaited[name]

    async def _poll(self) -> None:
        while self._awaited:
            await asyncio.sleep(POLL_SECONDS)
            names = list(self._awaited)
            with suppress(StoreAway):
                for name, reply in zip(names, await self._store.look_up(names), strict=True):
                    self._announce(name, reply)

    def _announce(self, name: ObjectName, reply: StoreReply) -> None:
        """Answers those who wait for the vote, if it has been taken, or for a wish, if there is one for them."""
        for told, key in self._awaited.get(name, {}).items():
            if not told.done() and not isinstance(status := reply.status(key), int):
                told.set_result(status)

    def _work_on(self, view: SubmittedView) -> _Work | None:
        """The computation of a layer's answer by this server, if it goes on."""
        work = self._works.get((view.object, view.device_id, view.layer))
        return None if work is None or work.has_failed else work

    async def _begin(self, view: SubmittedView, token: str, claimed: StoreReply, recognise: Recognise) -> _Work:
        first = claimed.recognition
        opinion = belief_of(first.named, first.classes) if first and not first.is_look else None
        try:
            pending = recognise(opinion)
        except Exception:
            await self._release(view, token)
            raise
        place = view.object, view.device_id, view.layer
        work = self._works[place] = _Work(pending, asyncio.create_task(self._finish(view, token, pending)))

        def ended(settled: "asyncio.Task[StoreReply | None]") -> None:
            if self._works.get(place) is work:
                del self._works[place]
            # Marks the exception as retrieved, though no caller may be left.
            settled.cancelled() or settled.exception()

        work.settled.add_done_callback(ended)
        return work

    async def _finish(self, view: SubmittedView, token: str, pending: Pending) -> StoreReply | None:
        """Renews the claim while anybody waits for the answer, and settles or releases it."""
        loop = asyncio.get_running_loop()
        while not (await asyncio.wait({pending.answer}, timeout=LEASE_SECONDS / 3))[0]:
            if loop.time() < pending.deadline:
                with suppress(StoreAway):
                    await self._store.renew(view, token)
        if pending.answer.cancelled() or pending.answer.exception():
            await self._release(view, token)
            return None
        give_up = loop.time() + LEASE_SECONDS  # Redis may be restarting
        while True:
            try:
                reply = await self._store.settle(view, token, pending.answer.result())
                break
            except StoreAway:
                if loop.time() >= give_up:
                    raise
                await asyncio.sleep(SETTLE_PAUSE_SECONDS)
        if reply.outcome == "late":
            self._metrics.late_views.inc()
        if reply.removed_objects:
            log.warning("forgot objects to make room", objects=reply.removed_objects)
        self._announce(view.object, reply)
        return reply

    async def _release(self, view: SubmittedView, token: str) -> None:
        with suppress(StoreAway):  # then the claim expires by itself
            await self._store.release(view, token)


def _refusal(view: SubmittedView, reply: StoreReply) -> Refusal:
    if reply.outcome == "another":
        return AlreadyViewed(
            f"device {view.device_id!r} has given another view of object {view.object_id!r} (frame "
            f"{reply.frame_id}); take a new object id, or wait {reply.seconds_left:.0f} s until it is forgotten"
        )
    if reply.outcome == "superfluous":
        return WrongViews(f"object {view.object_id!r} has all its {view.expected_views} views")
    if reply.outcome == "complete":
        return WrongViews(
            f"the view of object {view.object_id!r} by device {view.device_id!r} is complete: its last layer said "
            f"that nothing follows, and so there is no layer {view.layer}"
        )
    if reply.outcome == "early":
        return UnknownObject(
            f"layer {view.layer - 1} of the view of object {view.object_id!r} by device {view.device_id!r} has "
            f"not arrived, or {GONE}: begin with layer 0"
        )
    whose = f"a key of {view.owner!r}" if view.owner else "no key, as anybody may"
    numbers = f"{reply.standing.expected_views} views, not {view.expected_views}"
    return WrongViews(
        f"object {view.object_id!r} expects {numbers}: its first view said so, sent with {whose}; take "
        "another object id, or wait until it is forgotten"
    )


def _known(recognition: Recognition, _: Belief | None) -> Pending:
    """Recognises what has been recognised."""
    return Pending.known(recognition)


async def _pause(seconds: float, deadline: float) -> None:
    left = deadline - asyncio.get_running_loop().time()
    if left <= 0:
        raise Expired
    await asyncio.sleep(min(seconds, left))
