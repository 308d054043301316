"""How often one caller may call: so many calls a second, and a burst of them at once."""

import time
from collections import OrderedDict
from collections.abc import Callable

MAX_CALLERS = 10_000
"""Callers remembered at once; beyond, the one that called longest ago is forgotten, and starts afresh."""


class RateLimit:
    """The generic cell rate algorithm (ITU-T I.371, virtual scheduling): one number a caller.

    That number is when the caller's next call would be due if calls came evenly; a burst may run ahead of it.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`rate`: calls a second, > 0; `burst`: calls at once, ≥ 1, after a pause; `clock`: seconds."""
        self._interval, self._ahead, self._clock = 1 / rate, (burst - 1) / rate, clock
        self._due: OrderedDict[str, float] = OrderedDict()

    def wait(self, caller: str) -> float:
        """0 if the caller may call now, which is counted; else seconds until it may."""
        now = self._clock()
        due = max(self._due.get(caller, now), now)
        if due - now > self._ahead + 1e-9:
            return due - now - self._ahead
        self._due[caller] = due + self._interval
        self._due.move_to_end(caller)
        if len(self._due) > MAX_CALLERS:
            self._due.popitem(last=False)
        return 0.0
