"""Rounds: their numbers, counted from the first or taken from the clock, each when its time has come."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog

from semlink.service.settings import StartupError

log = structlog.get_logger(__name__)

LATE_ROUNDS = 2
"""So many rounds ahead of the clock are waited for with a warning: somebody has set the clock back."""


class Clock:
    """The machine's clock, and the waiting for it; a test hands in another."""

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time()

    async def wait(self, seconds: float, stop: asyncio.Event) -> None:
        """Lets time pass, or less where `stop` is set before."""
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await stop.wait()
        except TimeoutError:
            return


def check_clock_rounds(next_number: int, every: float, clock: Clock) -> None:
    """Checks that a spool's numbers have not run ahead of the clock's.

    Raises:
        StartupError: it numbered rounds of a shorter `every`, or the clock was set back.
    """
    if next_number > clock.now() / every + LATE_ROUNDS:
        raise StartupError(
            f"--clock-rounds: the spool's next frame id is {next_number}, the clock's round is "
            f"{clock.now() / every:.0f}; keep --every as it was and see that the clock is "
            "right, or start with another --spool"
        )


@dataclass(frozen=True)
class Round:
    """A round whose time has come.

    Attributes:
        number: the frame id of its view.
        ends: when the next one begins, in seconds since 1970; infinity where that waits for this one's picture.
    """

    number: int
    ends: float = math.inf


@dataclass
class CountedRounds:
    """Rounds 0, 1, 2 and so on; where there is a pace, each is due so many seconds after the last was.

    Attributes:
        first: number of the first.
        every: seconds between two; 0: as soon as the picture is there.
        stop: ends them.
    """

    first: int
    every: float
    stop: asyncio.Event
    skipped = 0

    async def __aiter__(self) -> AsyncIterator[Round]:
        """Each when it is due; one that comes late delays none after it."""
        started, gone, clock = time.monotonic(), 0, Clock()
        while not self.stop.is_set():
            yield Round(self.first + gone)
            gone += 1
            await clock.wait(started + gone * self.every - time.monotonic(), self.stop)


@dataclass
class ClockRounds:
    """Rounds at whole multiples of `every` since 1970, which number them: the same for all cameras with one clock.

    A process begins with the first round that is due after it started, so that no two of them go the same round. A
    round that is due while the camera is still busy with the last one is skipped.

    Attributes:
        first: no number is below this.
        every: seconds between two.
        stop: ends them.
        clock: tells the time.
        skipped: how many rounds were due and not gone.
    """

    first: int
    every: float
    stop: asyncio.Event
    clock: Clock
    skipped: int = 0

    async def __aiter__(self) -> AsyncIterator[Round]:
        """Each when it is due."""
        last = max(self.first - 1, self._current())
        while not self.stop.is_set():
            number = max(last, self._current()) + 1
            if number > self._current() + LATE_ROUNDS:
                log.warning("the clock was set back, rounds wait for it", next_frame_id=number)
            while not self.stop.is_set() and (left := number * self.every - self.clock.now()) > 0:
                await self.clock.wait(left, self.stop)
            if self.stop.is_set():
                return
            if self._current() > number:  # the clock was set forward meanwhile
                self.skipped += 1
            else:
                yield Round(number, (number + 1) * self.every)
            self.skipped += max(self._current() - number, 0)
            last = number

    def _current(self) -> int:
        return math.floor(self.clock.now() / self.every)
