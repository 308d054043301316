"""Waiting for votes that other servers may take."""

import asyncio
from contextlib import suppress

from server.refusals import StoreAway
from server.sessions.redis_objects import RedisObjects
from server.sessions.votes import Vote

LOOK_SECONDS = 0.05


class VoteWatch:
    """Looks after all awaited votes together, every `LOOK_SECONDS` while any is awaited.

    A subscription to messages would be quicker by some milliseconds, but messages are lost with their connection,
    so there would have to be looking all the same. What this server counts itself is told at once.
    """

    def __init__(self, objects: RedisObjects) -> None:
        """Watches nothing yet."""
        self._objects = objects
        self._awaited: dict[str, set[asyncio.Future[Vote]]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def vote(self, object_id: str) -> Vote:
        """The vote on an object as soon as there is one, Redis being there all the time or not."""
        waiter: asyncio.Future[Vote] = asyncio.get_running_loop().create_future()
        self._awaited.setdefault(object_id, set()).add(waiter)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            return await waiter
        finally:
            self._awaited[object_id].discard(waiter)
            if not self._awaited[object_id]:
                del self._awaited[object_id]

    def tell(self, object_id: str, vote: Vote) -> None:
        """Answers all who wait for this vote."""
        for waiter in self._awaited.get(object_id, ()):
            if not waiter.done():
                waiter.set_result(vote)

    def close(self) -> None:
        """Looks no more; who still waits gets no vote."""
        if self._looking:
            self._looking.cancel()

    async def _look(self) -> None:
        while self._awaited:
            await asyncio.sleep(LOOK_SECONDS)
            object_ids = list(self._awaited)
            with suppress(StoreAway):
                for object_id, found in zip(object_ids, await self._objects.look(object_ids), strict=True):
                    if isinstance(found.standing, Vote):
                        self.tell(object_id, found.standing)
