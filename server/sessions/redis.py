"""The views of each object, and their vote, in Redis: for several servers that share objects."""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from server.metrics import Metrics
from server.pending import Pending
from server.predictions import Recognition
from server.refusals import Expired, StoreAway
from server.sessions.redis_objects import LEASE_SECONDS, Found, RedisObjects, read_recognition
from server.sessions.views import Rules, View, Waiting, unknown
from server.sessions.vote_watch import VoteWatch
from server.sessions.votes import Standing, Vote

BUSY_SECONDS = 0.05, 0.4
"""Shortest and longest pause before asking again for a view that another server works out."""
SETTLE_PAUSE_SECONDS = 0.1


@dataclass(frozen=True)
class _Work:
    """A view that this server works out: its answer, and what became of that (None: there was no answer)."""

    pending: Pending
    settled: "asyncio.Task[Found | None]"

    @property
    def has_failed(self) -> bool:
        answer = self.pending.answer
        return answer.done() and (answer.cancelled() or answer.exception() is not None)


class RedisSessions:
    """All objects that are being looked at; see `server.sessions.Sessions`.

    Whichever server gets a view first claims it for a few seconds, and goes on claiming it while it works it out;
    from a server that has died, a retry of the frame that reaches another one takes it over. An answer under a
    claim that has been lost is not counted: whoever waits for it claims the view once more.
    """

    def __init__(self, url: str, rules: Rules, metrics: Metrics) -> None:
        """Connects to nothing yet; connections are made, and made again, when they are needed.

        Raises:
            ValueError: no such address.
        """
        self._objects = RedisObjects(url, rules, metrics)
        self._waiting = Waiting(rules.max_waiting)
        self._watch = VoteWatch(self._objects)
        self._works: dict[tuple[str, str], _Work] = {}

    async def add_view(
        self, view: View, recognise: Callable[[], Pending], deadline: float
    ) -> tuple[Recognition, Standing, bool]:
        """Answers a view; see `server.sessions.Sessions`."""
        token = secrets.token_hex(8)
        pause, longest_pause = BUSY_SECONDS
        while True:
            found = await self._objects.claim(view, token)
            if found.outcome == "answered":
                return read_recognition(found.detail), found.standing, True
            if found.outcome not in ("claimed", "busy"):
                raise _refusal(view, found)
            repeated = found.outcome == "busy"
            work = self._work_on(view) if repeated else await self._begin(view, token, recognise)
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
                return recognition, settled.standing, repeated
            recognise = _known(recognition)

    async def wait(self, object_id: str, seconds: float) -> Standing:
        """How an object stands once its vote is taken; see `server.sessions.Sessions`."""
        standing = await self._standing(object_id)
        if not seconds or isinstance(standing, Vote):
            return standing
        vote = await self._waiting.until(lambda: self._watch.vote(object_id), seconds)
        return vote or await self._standing(object_id)

    def end_waits(self) -> None:
        """Has everybody go who waits for a vote; see `server.sessions.Sessions`."""
        self._waiting.end()

    async def close(self) -> None:
        """Gives up what is under way, and closes the connections."""
        self._watch.close()
        for work in list(self._works.values()):
            work.settled.cancel()
        await self._objects.close()

    async def _standing(self, object_id: str) -> Standing:
        (found,) = await self._objects.look([object_id])
        if found.outcome == "unknown":
            raise unknown(object_id)
        return found.standing

    def _work_on(self, view: View) -> _Work | None:
        """What this server does about a view that is being worked out."""
        work = self._works.get((view.object_id, view.device_id))
        return None if work is None or work.has_failed else work

    async def _begin(self, view: View, token: str, recognise: Callable[[], Pending]) -> _Work:
        try:
            pending = recognise()
        except Exception:
            await self._release(view, token)
            raise
        place = view.object_id, view.device_id
        work = self._works[place] = _Work(pending, asyncio.create_task(self._finish(view, token, pending)))

        def ended(settled: "asyncio.Task[Found | None]") -> None:
            if self._works.get(place) is work:
                del self._works[place]
            # An error that nobody waits for any more is no news.
            settled.cancelled() or settled.exception()

        work.settled.add_done_callback(ended)
        return work

    async def _finish(self, view: View, token: str, pending: Pending) -> Found | None:
        """Keeps the claim while anybody waits for the answer, and settles or releases it."""
        loop = asyncio.get_running_loop()
        while not (await asyncio.wait({pending.answer}, timeout=LEASE_SECONDS / 3))[0]:
            if loop.time() < pending.deadline:
                with suppress(StoreAway):
                    await self._objects.renew(view, token)
        if pending.answer.cancelled() or pending.answer.exception():
            await self._release(view, token)
            return None
        patience = loop.time() + LEASE_SECONDS  # Redis may be starting anew
        while True:
            try:
                found = await self._objects.settle(view, token, pending.answer.result())
            except StoreAway:
                if loop.time() >= patience:
                    raise
                await asyncio.sleep(SETTLE_PAUSE_SECONDS)
            else:
                if isinstance(found.standing, Vote):
                    self._watch.tell(view.object_id, found.standing)
                return found

    async def _release(self, view: View, token: str) -> None:
        with suppress(StoreAway):  # then the claim ends by itself
            await self._objects.release(view, token)


def _refusal(view: View, found: Found) -> Exception:
    if found.outcome == "another":
        frame_id, _, milliseconds = found.detail.decode().split(" ")
        return view.another(int(frame_id), int(milliseconds) / 1e3)
    if found.outcome == "superfluous":
        return view.superfluous()
    return view.unexpected(found.expected_views)


def _known(recognition: Recognition) -> Callable[[], Pending]:
    """Recognises what has been recognised."""

    def recognise() -> Pending:
        pending = Pending(lambda: None)
        pending.answer.set_result(recognition)
        return pending

    return recognise


async def _pause(seconds: float, deadline: float) -> None:
    left = deadline - asyncio.get_running_loop().time()
    if left <= 0:
        raise Expired
    await asyncio.sleep(min(seconds, left))
