"""Event log: what changed the channel, by whom and when, to be read from a cursor on; bounded in memory."""

import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, Field

from channel_emulator.impairments import PRESET_IMPAIRMENTS
from channel_emulator.per_device import Difference

MAX_EVENTS = 1000
"""Events that are held; the oldest are dropped."""
MAX_ENTRIES = 20_000
"""Impairments in all events that are held."""

Author = Literal["control plane", "scenario"]
ScenarioAction = Literal[
    "loaded", "playing", "paused", "sought", "looped", "ended", "removed", "loop on", "loop off"
]


class _Event(BaseModel, frozen=True):
    cursor: int = Field(description="number of the event; each has a higher one than those before", examples=[7])
    time: AwareDatetime = Field(description="when it happened, by this process's clock")


class SettingsEvent(_Event):
    """The settings changed."""

    kind: Literal["settings"] = "settings"
    by: Author = Field(description="who changed them")
    action: str = Field(
        description="the request, or the scenario's step",
        examples=["PATCH /v1/impairments", "step 2 of 5 at 10 s"],
    )
    before: Difference = Field(description="what was otherwise before")
    after: Difference = Field(description="what it is now")
    preset: str | None = Field(
        description="the preset that everything changed is now, if it is one", examples=["lossy"]
    )


class ScenarioEvent(_Event):
    """The scenario was loaded or removed, plays or does not, or is at another place."""

    kind: Literal["scenario"] = "scenario"
    action: ScenarioAction
    position: float = Field(description="seconds from its start", examples=[2.5])


class RefusalEvent(_Event):
    """A request to change something was refused, and nothing has changed."""

    kind: Literal["refusal"] = "refusal"
    action: str = Field(description="the request", examples=["PUT /v1/impairments"])
    status: int = Field(description="HTTP status of the answer", examples=[422])
    detail: str = Field(description="what was wrong")


AnyEvent = SettingsEvent | ScenarioEvent | RefusalEvent


class EventPage(BaseModel):
    """Events after a cursor, oldest first."""

    events: list[Annotated[AnyEvent, Field(discriminator="kind")]]
    next: int = Field(description="`after` of the next request", examples=[7])
    dropped: int = Field(description="events after the cursor that are held no more: there were too many")


class EventLog:
    """Events of one process, numbered from 1."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """`clock`: seconds since 1970."""
        self._clock = clock
        self._events: deque[AnyEvent] = deque()
        self._newest = self._entries = 0

    def settings_changed(
        self, by: Author, action: str, before: Difference, after: Difference, ago: float = 0.0
    ) -> None:
        """The settings changed, so many seconds ago."""
        preset = _preset(after)
        self._add(
            SettingsEvent(**self._next(ago), by=by, action=action, before=before, after=after, preset=preset)
        )

    def scenario(self, action: ScenarioAction, position: float) -> None:
        """Something happened to the scenario."""
        self._add(ScenarioEvent(**self._next(), action=action, position=position))

    def refused(self, action: str, status: int, detail: str) -> None:
        """A request was refused."""
        self._add(RefusalEvent(**self._next(), action=action, status=status, detail=detail))

    def after(self, cursor: int, limit: int) -> EventPage:
        """The first `limit` events that are held of those after `cursor`.

        Raises:
            ValueError: `cursor` is none of this log's, such as one of a process before.
        """
        if not 0 <= cursor <= self._newest:
            raise ValueError(
                f"the newest event of this process is {self._newest}, so that {cursor} is of another: begin with 0"
            )
        first = self._newest - len(self._events)
        begin = max(0, cursor - first)
        found = [self._events[index] for index in range(begin, min(begin + limit, len(self._events)))]
        last = found[-1].cursor if found else self._newest
        return EventPage(events=found, next=last, dropped=max(0, first - cursor))

    def _next(self, ago: float = 0.0) -> dict[str, Any]:
        return {"cursor": self._newest + 1, "time": datetime.fromtimestamp(self._clock() - ago, UTC)}

    def _add(self, event: AnyEvent) -> None:
        self._newest = event.cursor
        self._events.append(event)
        self._entries += _entries(event)
        while len(self._events) > MAX_EVENTS or (self._entries > MAX_ENTRIES and len(self._events) > 1):
            self._entries -= _entries(self._events.popleft())


def _preset(after: Difference) -> str | None:
    changed = [own for own in (after.default, *after.devices.values()) if own is not None]
    for name, preset in PRESET_IMPAIRMENTS.items():
        if changed and all(each == preset for each in changed):
            return name
    return None


def _entries(event: AnyEvent) -> int:
    if not isinstance(event, SettingsEvent):
        return 1
    return 1 + len(event.before.devices) + len(event.after.devices)
