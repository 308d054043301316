"""Studio: rounds of all cameras over what is really running, one at a time, again whenever a knob is turned."""

import asyncio
import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from device.camera import take_view
from studio.comparison import SIDES, ComparisonError, channel_of, curve_of, fit
from studio.events import EventLog
from studio.link_settings import MOST_CAMERAS, OWN, LinkSettings
from studio.pictures import Pictures
from studio.processes import Watched
from studio.rounds import Images, Round, Rounds
from studio.running_link import RunningLink
from studio.settings import StudioSettings

log = structlog.get_logger(__name__)

ROUND_SECONDS = 20.0
"""Longest that a round takes; cameras that have not answered by then have failed."""
RETRY_SECONDS = 2.0
"""After a round that failed for a reason that may pass, as a server that still starts."""
NAMES = [f"camera-{number}" for number in range(1, MOST_CAMERAS + 1)]


def _hand_on(later: asyncio.Future[int], first: asyncio.Future[int]) -> None:
    if not later.done() and not first.cancelled():
        later.set_result(first.result())


@dataclass
class Studio:
    """What the page shows and steers.

    Attributes:
        told: settings of the process.
        link: the knobs.
        rounds: those that were sent.
        images: what they show.
        pictures: what the cameras look at.
    """

    told: StudioSettings
    link: LinkSettings = field(default_factory=LinkSettings)
    rounds: Rounds = field(default_factory=Rounds)
    images: Images = field(default_factory=Images)
    pictures: Pictures = field(default_factory=Pictures)
    _noise: int = 0
    _wanted: list[tuple[str, int | None, asyncio.Future[int]]] = field(default_factory=list)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _pending: set[str] = field(default_factory=set)
    _answered: asyncio.Event = field(default_factory=asyncio.Event)
    _under_way: Round | None = None
    _air: asyncio.Lock = field(default_factory=asyncio.Lock)
    _asked: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    _sent_over: dict[str, Any] | None = None
    _tokens: int = 0
    _last: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Prepares all that is told in the settings.

        Raises:
            PhotosError: there are no such pictures.
            StartupError: a file of a key, or one for TLS, is unfit.
        """
        self.pictures.open(self.told.images)
        self.events = EventLog(self.snapshot)
        self.running = RunningLink(self.told, self._watch, self._hear, self._channel_changed, self._again)

    @property
    def names(self) -> list[str]:
        """Device ids of the cameras that there are to be."""
        return NAMES[: self.link.cameras]

    def snapshot(self) -> dict[str, Any]:
        """All that a page is to know that begins."""
        newest = self.rounds.newest
        return {
            "run": self.events.run,
            "settings": self.link.knobs(),
            "channel": self._channel_state(),
            "processes": [each.as_json() for each in self.running.watched],
            "rounds": [each.summary() for each in self.rounds],
            "round": newest.as_json() if newest else None,
        }

    async def run(self) -> None:
        """Starts everything, and sends rounds, until cancelled."""
        try:
            await self.running.run(self.names, self._rounds)
        finally:
            self.events.end()

    def change(self, changes: Mapping[str, Any]) -> LinkSettings:
        """Turns knobs; what they change of the pictures is sent at once, over the same noise.

        Raises:
            ValueError: there are no such settings.
        """
        before, self.link = self.link, self.link.changed(changes)
        if before == self.link:
            return self.link
        if self.running.keep(self.names):
            self.events.add("processes", processes=[each.as_json() for each in self.running.watched])
        self.events.add("settings", settings=self.link.knobs())
        same = {name: value for name, value in before if name not in OWN or name in ("cameras", "seed")}
        if any(getattr(self.link, name) != value for name, value in same.items()):
            self.want("again")
        self._wake.set()
        return self.link

    def want(self, what: str, of: int | None = None) -> asyncio.Future[int]:
        """Asks for a round.

        Args:
            what: "next": over other noise, unless it is frozen; "again": over the same as the last, once for all
                who ask before it begins; "replay": as that one was.
            of: number of the round to replay.

        Returns:
            Its number, once it is over.
        """
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._wanted.append((what, of, done))
        self._wake.set()
        return done

    @property
    def wanted(self) -> int:
        """Rounds that wait to be sent."""
        return len(self._wanted)

    @property
    def all_names(self) -> list[str]:
        """Device ids of all cameras that there may be."""
        return NAMES

    async def channel_was_set(self) -> None:
        """Takes in what the page has changed of the channel; see `_channel_changed`."""
        await self.running.control.refresh()

    async def check_picture(self, data: bytes) -> None:
        """Refuses what is no picture.

        Raises:
            ImageError: it can't be read, or is too large.
        """
        await asyncio.to_thread(take_view, data)

    def forget_pictures(self) -> None:
        """Has all cameras look at the pictures of the start again."""
        self.pictures.forget()
        self.want("again")

    def show(self, data: bytes, cameras: list[str], *, from_viewpoints: bool) -> None:
        """Has cameras look at another picture, and sends it at once."""
        self.pictures.show(data, cameras, from_viewpoints=from_viewpoints)
        self.want("again")

    def _watch(self, watched: Watched) -> None:
        """Tells of a process's standing; one that has ended in mid-round has failed."""
        self.events.add("process", **watched.as_json())
        is_channel = watched is self.running.channel.watched
        if watched.standing == "ready" and not is_channel and self.rounds.newest is not None:
            self._again()  # with what was missing in the last round
        if watched.standing == "ended" and watched.name in self._pending:
            self._fail(watched.name, "the camera's process ended")

    def _again(self) -> None:
        self.want("again")

    def _channel_state(self) -> dict[str, Any]:
        control = self.running.control
        return {
            "impairments": control.impairments,
            "scenario": control.scenario,
            "events": control.events[-20:],
        }

    def _channel_changed(self) -> None:
        """Tells of a channel that was changed, by whomever."""
        self.events.add("channel", **self._channel_state())
        self._follow_channel()

    def _follow_channel(self) -> None:
        """Sends what the cameras see over a channel that is not that of the last round."""
        met = self.running.control.impairments
        if self._sent_over is not None and met != self._sent_over and not self.running.is_elsewhere:
            self._sent_over = met
            self.want("again")

    async def _rounds(self) -> None:
        """Sends the rounds that are wanted, and those that follow each other by themselves."""
        await self.running.until_started()
        self.want("again")
        while True:
            await self.running.channel_is_set.wait()
            began = time.monotonic()
            for what, of, done in self._take_wanted():
                async with self._air:
                    number = await self._send(what, of)
                if not done.done():
                    done.set_result(number)
            left, newest = None, self.rounds.newest
            if self.link.running:
                left = max(self.link.every - (time.monotonic() - began), 0.0)
            elif newest is not None and newest.passes:
                left = RETRY_SECONDS
            if not self._wanted:
                self._wake.clear()
                try:
                    async with asyncio.timeout(left):
                        await self._wake.wait()
                except TimeoutError:
                    self.want("next" if self.link.running else "again")

    def _take_wanted(self) -> list[tuple[str, int | None, asyncio.Future[int]]]:
        """What is wanted now; of several that are to be over the same noise, one."""
        wanted, self._wanted = self._wanted, []
        found: list[tuple[str, int | None, asyncio.Future[int]]] = []
        for what, of, done in wanted:
            if what == "again" and found and found[-1][0] == "again":
                found[-1][2].add_done_callback(partial(_hand_on, done))
            else:
                found.append((what, of, done))
        return found

    async def _send(self, what: str, of: int | None) -> int:
        if what == "replay":
            assert of is not None
            return await self._replay(of)
        if what == "next" and not self.link.frozen and self.rounds.newest is not None:
            self._noise += 1
        seen = {name: self.pictures.of(name, number) for number, name in enumerate(self.names)}
        self._sent_over = self.running.control.impairments
        begun = self.rounds.begin(self._noise, self.link.knobs(), self.running.control.impairments, seen)
        await self._send_round(begun, self.link)
        return begun.number

    async def _replay(self, number: int) -> int:
        """Sends a round again: same pictures, settings, channel and noise; then the channel is as it was."""
        old = self.rounds.get(number)
        if old is None or old.impairments is None:
            return 0
        async with self.running.steady, self.running.over(old.impairments):
            begun = self.rounds.begin(old.noise, old.settings, old.impairments, old.pictures, of=number)
            await self._send_round(begun, LinkSettings(**old.settings), list(old.views))
        begun.identical = begun.received == old.received
        self.events.add("over", round=begun.number, summary=begun.summary(), identical=begun.identical)
        return begun.number

    async def compare(self, number: int, left: str, right: str, *, equal_bits: bool) -> dict[str, Any]:
        """Sends what a camera sees over two links, one after the other, and the same noise.

        Args:
            number: of the camera, from 1.
            left: name of a link, one of `SIDES`.
            right: likewise.
            equal_bits: the right one gets as many bits on the air as the left one, if its coder has a budget.

        Raises:
            ComparisonError: a link makes no sense here, or was not answered.
        """
        name, found = NAMES[number - 1], dict[str, dict[str, Any]]()
        async with self._air, self.running.steady:
            met = self.running.control.impairments
            if not self.running.is_ready(name) or met is None:
                raise ComparisonError(f"{name} or the channel is not ready: try again")
            for key, which in (("left", left), ("right", right)):
                side = SIDES[which]
                link = self.link.changed(dict(side.settings))
                usual = met["devices"].get(name, met["default"])
                own = channel_of(side, usual)
                there = met if own == usual else met | {"devices": met["devices"] | {name: own}}

                async def send(changed: LinkSettings) -> dict[str, Any]:
                    return await self._view_of(name, changed)

                async with self.running.over(there):
                    if key == "right" and equal_bits:
                        found[key] = await fit(send, link, found["left"]["bits_on_air"]["uplink"])
                    else:
                        found[key] = await send(link)
                found[key]["curve"] = curve_of(link, own)
        return found

    async def _view_of(self, name: str, link: LinkSettings) -> dict[str, Any]:
        """What a camera says of a view that is of no round."""
        self._tokens += 1
        token, seen = -self._tokens, self.pictures.of(name, NAMES.index(name))
        asked = self._asked[token] = asyncio.get_running_loop().create_future()
        begun = Round(token, self._noise, {}, None, {name: seen})
        try:
            self._tell(name, begun, link, 1)
            async with asyncio.timeout(ROUND_SECONDS):
                return await asked
        except TimeoutError:
            raise ComparisonError(f"{name} did not answer within {ROUND_SECONDS:.0f} s") from None
        finally:
            del self._asked[token]

    async def _send_round(self, begun: Round, link: LinkSettings, names: list[str] | None = None) -> None:
        """Has every camera send its view, and waits for them."""
        ready = [name for name in (names or self.names) if self.running.is_ready(name)]
        self._under_way, self._pending = begun, set(ready)
        self._answered.clear()
        self.events.add("round", round=begun.as_json())
        for name in ready:
            self._tell(name, begun, link, len(ready))
        try:
            if ready:
                async with asyncio.timeout(ROUND_SECONDS):
                    await self._answered.wait()
        except TimeoutError:
            for name in list(self._pending):
                self._fail(name, f"no answer within {ROUND_SECONDS:.0f} s")
        begun.is_over, self._under_way = True, None
        self.events.add("over", round=begun.number, summary=begun.summary(), identical=begun.identical)

    def _tell(self, name: str, begun: Round, link: LinkSettings, expected: int) -> None:
        picture = self.pictures.line(begun.pictures[name]["picture"])
        if picture is None:
            self._fail(name, "its picture is no longer held")
            return
        before = self.rounds.get(begun.number - 1)
        shown = before.views.get(name) if before else None
        held = [digest for digest in shown["images"].values() if digest in self.images] if shown else []
        self.running.tell(
            name,
            begun,
            link,
            object_id=f"studio-{self.events.run}/{begun.number}",
            expected=expected,
            picture=picture,
            held=held,
        )

    def _hear(self, name: str, line: dict[str, Any]) -> None:
        """Takes in what a camera says of the round that is under way."""
        if asked := self._asked.get(line["round"]):
            self._hear_of(asked, line)
            return
        begun = self._under_way
        if line["event"] == "radio":
            of = self.rounds.get(line["round"])
            if of is not None:
                of.radio[name] = json.dumps(line["radio"])
            return
        if begun is None or line["round"] != begun.number or name not in self._pending:
            return
        if line["event"] == "view":
            for data in line["data"].values():
                self.images.put(base64.b64decode(data))
            begun.take(name, line["view"])
            self.events.add("view", round=begun.number, camera=name, view=line["view"])
        elif line["event"] == "vote":
            begun.vote = line["vote"] or begun.vote
            self.events.add("vote", round=begun.number, camera=name, vote=begun.vote, missing=line["missing"])
            self._done(name)
        else:
            self._fail(name, line["reason"], passes=line.get("passes", False))

    def _hear_of(self, asked: asyncio.Future[dict[str, Any]], line: dict[str, Any]) -> None:
        """Takes in what a camera says of a view that is of no round: its last layer, and the vote after it."""
        if line["event"] == "view":
            for data in line["data"].values():
                self.images.put(base64.b64decode(data))
            self._last = line["view"]
        elif line["event"] == "vote" and not asked.done():
            asked.set_result(self._last)
        elif line["event"] == "failed" and not asked.done():
            asked.set_exception(ComparisonError(line["reason"]))

    def _fail(self, name: str, reason: str, *, passes: bool = False) -> None:
        begun = self._under_way
        if begun is not None:
            begun.failures[name] = reason
            begun.passes = begun.passes or passes
            self.events.add("failed", round=begun.number, camera=name, reason=reason)
        self._done(name)

    def _done(self, name: str) -> None:
        self._pending.discard(name)
        if not self._pending:
            self._answered.set()
