"""Server-sent events: a bounded log of what happened, which pages follow and take up again after a pause."""

import asyncio
import json
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

HEARTBEAT_SECONDS = 1.0
"""A page that hears nothing for two and a half times as long takes the studio for silent."""
MOST_EVENTS, MOST_BYTES = 500, 2 << 20
"""Events that are held, and their bytes; the oldest are dropped, and whoever missed them gets a snapshot."""
MOST_FOLLOWERS = 32


class TooManyFollowers(Exception):
    """As many pages follow as may."""


@dataclass
class EventLog:
    """The events; each has an id RUN-NUMBER, RUN being another one each time that the studio starts.

    Attributes:
        snapshot: all that is to be known at this moment, for a page that begins, or has missed too much.
        held_bytes: of the events that are held.
    """

    snapshot: Callable[[], dict[str, Any]]
    run: str = field(default_factory=lambda: secrets.token_hex(4))
    held_bytes: int = 0
    _events: deque[tuple[int, bytes]] = field(default_factory=deque)
    _newest: int = 0
    _followers: int = 0
    _ends: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __len__(self) -> int:
        """How many are held."""
        return len(self._events)

    def add(self, kind: str, **data: Any) -> None:
        """Tells all followers."""
        self._newest += 1
        text = _event(f"{self.run}-{self._newest}", kind, data)
        self._events.append((self._newest, text))
        self.held_bytes += len(text)
        while len(self._events) > MOST_EVENTS or self.held_bytes > MOST_BYTES:
            self.held_bytes -= len(self._events.popleft()[1])
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def end(self) -> None:
        """Ends all followers' streams."""
        self._ends = True
        self._changed.set()

    def follow(self, last_id: str = "") -> AsyncIterator[bytes]:
        """The events after `last_id`, and those to come; first a snapshot where those are not all held.

        Raises:
            TooManyFollowers: as many follow as may.
        """
        if self._followers >= MOST_FOLLOWERS:
            raise TooManyFollowers(f"{MOST_FOLLOWERS} pages follow the events, and no more may: close one")
        return self._follow(self._number_of(last_id))

    async def _follow(self, last: int | None) -> AsyncIterator[bytes]:
        self._followers += 1
        try:
            while not self._ends:
                changed = self._changed
                if last is None or last < self._oldest - 1:
                    last = self._newest
                    yield _event(f"{self.run}-{last}", "state", self.snapshot())
                    continue  # events may have been dropped meanwhile
                if last < self._newest:
                    last, text = self._events[last - self._newest]  # one at a time: what waits to be read is held
                    yield text
                else:
                    try:
                        async with asyncio.timeout(HEARTBEAT_SECONDS):
                            await changed.wait()
                    except TimeoutError:
                        yield b": alive\n\n"
        finally:
            self._followers -= 1

    @property
    def _oldest(self) -> int:
        return self._events[0][0] if self._events else self._newest + 1

    def _number_of(self, last_id: str) -> int | None:
        run, _, number = last_id.partition("-")
        if run != self.run or not number.isdecimal() or len(number) > 15 or int(number) > self._newest:
            return None
        return int(number)


def _event(identity: str, kind: str, data: dict[str, Any]) -> bytes:
    return f"id: {identity}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()
