"""Round under way: every camera that is ready sends its view; what comes of each, or why nothing does."""

import asyncio
import base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from studio.events import EventLog
from studio.link_settings import LinkSettings
from studio.pictures import Pictures
from studio.processes import Standing, Watched
from studio.rounds import Images, Round, Rounds
from studio.running_link import RunningLink

ROUND_SECONDS = 20.0
"""Longest that a round takes; cameras that have not answered by then have failed."""
LOST: dict[Standing, str] = {
    "starting": "its process still starts",
    "silent": "its process does not answer",
    "ended": "its process ended",
}
"""Why a camera that is not ready has no view."""
ENDS = "the studio ends"
"""Why none has."""


@dataclass
class Sending:
    """Sends rounds, one at a time; a camera that is not ready is left out, and one that falls silent given up.

    Attributes:
        running: the processes.
        rounds: that are held; a round that is none of them is sent without a word to the pages.
        images: gets what is seen, sent, and what arrived.
        pictures: what the cameras look at.
        events: what pages follow.
    """

    running: RunningLink
    rounds: Rounds
    images: Images
    pictures: Pictures
    events: EventLog
    _ends: bool = False
    _under_way: Round | None = None
    _pending: set[str] = field(default_factory=set)
    _answered: asyncio.Event = field(default_factory=asyncio.Event)
    _shown: dict[str, list[str]] = field(default_factory=dict)

    async def send(self, begun: Round, link: LinkSettings, names: Iterable[str]) -> None:
        """Has cameras send their views of a round, and waits for them; then it is over.

        Args:
            begun: the round.
            link: settings of the cameras.
            names: of the cameras.
        """
        ready = []
        for name in names:
            standing = self.running.standing_of(name)
            if standing == "ready" and not self._ends:
                ready.append(name)
            else:
                begun.failures[name] = f"left out: {ENDS if self._ends else LOST[standing]}"
        self._under_way, self._pending = begun, set(ready)
        self._answered.clear()
        self._say(begun, "round", round=begun.as_json())
        try:
            for name in ready:
                self._tell(name, begun, link, len(ready))
            if self._pending:
                async with asyncio.timeout(ROUND_SECONDS):
                    await self._answered.wait()
        except TimeoutError:
            for name in list(self._pending):
                self.give_up(name, f"no answer within {ROUND_SECONDS:.0f} s", passes=True)
        finally:
            begun.is_over, self._under_way = True, None
            self._pending.clear()

    def give_up(self, name: str, why: str, *, passes: bool = False) -> None:
        """Waits for a camera's view no longer, if it does; `passes`: it may go better later."""
        if (begun := self._under_way) is None or name not in self._pending:
            return
        begun.failures[name] = why
        begun.passes = begun.passes or passes
        self._say(begun, "failed", camera=name, reason=why)
        self._done(name)

    def end(self) -> None:
        """Waits for no view any longer, and has none sent."""
        self._ends = True
        for name in list(self._pending):
            self.give_up(name, ENDS)

    def stands(self, watched: Watched) -> None:
        """Gives a camera up that has ended, or does not answer."""
        if watched.standing in ("silent", "ended"):
            self.give_up(watched.name, LOST[watched.standing])

    def hear(self, name: str, line: dict[str, Any]) -> None:
        """Takes in what a camera says; of the newest round, its radio view even when it is over."""
        if line["event"] == "radio":
            self.rounds.put_radio(line["round"], name, line["radio"])
            return
        begun = self._under_way
        if begun is None or line["round"] != begun.number or name not in self._pending:
            return
        if line["event"] == "view":
            for data in line["data"].values():
                self.images.put(base64.b64decode(data))
            begun.views[name] = line["view"]
            self._shown[name] = list(line["view"]["images"].values())
            self._say(begun, "view", camera=name, view=line["view"])
        elif line["event"] == "vote":
            begun.vote = line["vote"] or begun.vote
            self._say(begun, "vote", camera=name, vote=begun.vote, missing=line["missing"])
            self._done(name)
        else:
            self.give_up(name, line["reason"], passes=line.get("passes", False))

    def _tell(self, name: str, begun: Round, link: LinkSettings, expected: int) -> None:
        picture = self.pictures.line(**begun.pictures[name])
        if picture is None:
            self.give_up(name, "its picture is no longer held")
            return
        held = [digest for digest in self._shown.get(name, ()) if self.images.get(digest)]  # and so they stay
        self.running.tell(
            name,
            begun,
            link,
            object_id=f"studio-{self.events.run}/{begun.number}",
            expected=expected,
            picture=picture,
            held=held,
        )

    def _done(self, name: str) -> None:
        self._pending.discard(name)
        if not self._pending:
            self._answered.set()

    def _is_held(self, begun: Round) -> bool:
        return begun is self.rounds.newest

    def _say(self, begun: Round, kind: str, **data: Any) -> None:
        if self._is_held(begun):
            self.events.add(kind, **({"round": begun.number} | data))
