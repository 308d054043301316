"""An answer that is being worked out, for callers who may give up."""

import asyncio
import math
from collections.abc import Callable

from server.predictions import Recognition
from server.refusals import Expired


class Pending:
    """One answer for one caller or several: those who repeat a call wait for the same one.

    Attributes:
        answer: what it will be; cancelled if it was abandoned.
        deadline: until when anybody waits for it, by the event loop's clock.
    """

    def __init__(self, abandon: Callable[[], None]) -> None:
        """`abandon` is called when the last caller gives up before there is an answer."""
        self.answer: asyncio.Future[Recognition] = asyncio.get_running_loop().create_future()
        self.answer.add_done_callback(self._end)
        self.deadline = -math.inf
        self._abandon: Callable[[], None] | None = abandon
        self._callers = 0

    def _end(self, answer: asyncio.Future[Recognition]) -> None:
        if not answer.cancelled():
            answer.exception()  # one that nobody waits for any more is no news
        self._abandon = None  # answers are kept for long, and it holds the picture

    async def wait(self, deadline: float) -> Recognition:
        """The answer, or whatever error there was instead.

        Args:
            deadline: when the caller gives up, by the event loop's clock.

        Raises:
            Expired: the deadline has passed.
        """
        self.deadline = max(self.deadline, deadline)
        self._callers += 1
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(self.answer)
        except TimeoutError:
            raise Expired from None
        finally:
            self._callers -= 1
            if not self._callers and not self.answer.done() and self._abandon:
                self._abandon()
