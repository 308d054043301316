"""Studio: rounds of all cameras over what is really running, one at a time, again whenever a knob is turned."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from studio.comparison import ComparisonError, compare
from studio.events import EventLog
from studio.knobs import facts
from studio.link_settings import MOST_CAMERAS, OWN, LinkSettings
from studio.pictures import Pictures
from studio.processes import Watched
from studio.rounds import Images, Round, Rounds, digest_of
from studio.running_link import RunningLink
from studio.sending import Sending
from studio.settings import StudioSettings
from studio.uploads import Uploads

log = structlog.get_logger(__name__)

RETRY_SECONDS = 2.0
"""After a round that failed for a reason that may pass, as a server that still starts, or that has no view."""
NAMES = [f"camera-{number}" for number in range(1, MOST_CAMERAS + 1)]


@dataclass
class Studio:
    """What the page shows and steers.

    Attributes:
        told: settings of the process.
        link: the knobs.
        rounds: those that were sent.
        images: what they show.
        pictures: what the cameras look at.
        comparing: comparisons that wait, or are sent.
    """

    told: StudioSettings
    link: LinkSettings = field(default_factory=LinkSettings)
    rounds: Rounds = field(default_factory=Rounds)
    images: Images = field(default_factory=Images)
    pictures: Pictures = field(default_factory=Pictures)
    comparing: int = 0
    _wanted: list[tuple[str, int | None, asyncio.Future[int]]] = field(default_factory=list)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _air: asyncio.Lock = field(default_factory=asyncio.Lock)
    _sent_over: dict[str, Any] | None = None
    _channel: dict[str, Any] = field(default_factory=dict)
    _ends: bool = False
    _tokens: int = 0
    _uploads: Uploads = field(default_factory=Uploads)

    def __post_init__(self) -> None:
        """Prepares all that is told in the settings.

        Raises:
            PhotosError: there are no such pictures.
            StartupError: a file of a key, or one for TLS, is unfit.
        """
        self.pictures.open(self.told.images)
        self.events = EventLog(self.snapshot)
        self.running = RunningLink(self.told, self._watch, self._hear, self._channel_changed, self._again)
        self.sending = Sending(self.running, self.rounds, self.images, self.pictures, self.events)

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
            "rounds": self.rounds.summaries(),
            "round": newest.as_json() if newest else None,
        }

    async def run(self) -> None:
        """Starts everything, and sends rounds, until cancelled."""
        try:
            await self.running.run(self.names, self._rounds)
        finally:
            self.end()

    def end(self) -> None:
        """Has whoever waits be answered at once: streams of events end, and no round is sent any longer."""
        self._ends = True
        self.events.end()
        self.sending.end()
        for _, _, done in self._wanted:
            if not done.done():
                done.set_result(0)
        self._wanted.clear()

    def change(self, changes: Mapping[str, Any]) -> LinkSettings:
        """Turns knobs; what they change of the pictures is sent at once, over the same noise.

        Raises:
            ValueError: there are no such settings.
        """
        return self._turn(self._changed(changes))

    def replace(self, settings: Mapping[str, Any]) -> LinkSettings:
        """Sets all knobs, those that are not named to their defaults; rounds that run go on over their noise.

        Raises:
            ValueError: there are no such settings.
        """
        kept = {"running": True, "noise": self.link.noise} if self.link.running else {}
        return self._turn(LinkSettings().changed(kept | dict(settings)))

    def _turn(self, link: LinkSettings) -> LinkSettings:
        before, self.link = self.link, link
        if before == self.link:
            return self.link
        if self.running.keep(self.names):
            for name in NAMES[self.link.cameras :]:
                self.sending.give_up(name, "the camera was taken away")
            self.events.add("processes", processes=[each.as_json() for each in self.running.watched])
        self.events.add("settings", settings=self.link.knobs())
        same = {name: value for name, value in before if name not in OWN or name in ("cameras", "seed", "noise")}
        if any(getattr(self.link, name) != value for name, value in same.items()):
            self.want("again")
        self._wake.set()
        return self.link

    def _changed(self, changes: Mapping[str, Any]) -> LinkSettings:
        try:
            return self.link.changed(changes)
        except ValueError:
            has_effect = any(self.running.control.takes_plans(name) for name in self.names)
            if self.link.plan is None or "plan" in changes or has_effect:
                raise
            return self.link.changed({"plan": None, **changes})  # of a channel before, it is no knob now

    def want(self, what: str, of: int | None = None) -> asyncio.Future[int]:
        """Asks for a round.

        Args:
            what: "next": over other noise, unless it is frozen; "again": over the same as the last, once for all
                who ask before it begins; "replay": as that one was.
            of: number of the round to replay.

        Returns:
            Its number, once it is over; 0 where it is not sent.
        """
        if what == "again" and self._wanted and self._wanted[-1][0] == "again":
            return self._wanted[-1][2]
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self._ends:
            done.set_result(0)
            return done
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
        await self.running.refresh()

    def forget_pictures(self) -> None:
        """Has all cameras look at the pictures of the start again."""
        self.pictures.forget()
        self.want("again")

    async def show(self, data: bytes, cameras: list[str], *, from_viewpoints: bool) -> None:
        """Has cameras look at another picture, and sends it at once.

        Raises:
            ImageError: it can't be read, or costs too much.
            TooManyPictures: as many wait to be decoded as may.
        """
        seen = await self._uploads.seen_of(data)
        self.pictures.show(digest_of(data), seen, cameras, from_viewpoints=from_viewpoints)
        self.want("again")

    def _watch(self, watched: Watched) -> None:
        """Tells of a process's standing."""
        self.events.add("process", **watched.as_json())
        is_channel = watched is self.running.channel.watched
        if watched.became_ready and not is_channel and self.rounds.newest is not None:
            self._again()  # with what was missing in the last round
        self.sending.stands(watched)

    def _hear(self, name: str, line: dict[str, Any]) -> None:
        self.sending.hear(name, line)

    def _again(self) -> None:
        self.want("again")

    def _channel_state(self) -> dict[str, Any]:
        """The channel as it is set; while it is another one for a moment, as it was before."""
        control = self.running.control
        if not (self._channel and self.running.is_elsewhere):
            met = control.impairments
            self._channel = {
                "impairments": met,
                "facts": met and facts(met),
                "scenario": control.scenario,
                "events": control.events[-20:],
            }
        return self._channel

    def _channel_changed(self) -> None:
        """Tells of a channel that was changed, by whomever; of one for a moment it says nothing."""
        if not self.running.is_elsewhere:
            self.events.add("channel", **self._channel_state())
            self._follow_channel()

    def _follow_channel(self) -> None:
        """Sends what the cameras see over a channel that is not that of the last round."""
        met = self.running.control.impairments
        if self._sent_over is not None and met != self._sent_over:
            self._sent_over = met
            self.want("again")

    async def _rounds(self) -> None:
        """Sends the rounds that are wanted, and those that follow each other by themselves."""
        await self.running.until_started()
        self.want("again")
        began = time.monotonic()
        while not self._ends:
            await self.running.channel_is_set.wait()
            if self._wanted:
                began = time.monotonic()
                await self._send_wanted(*self._wanted.pop(0))
                continue
            left, newest = None, self.rounds.newest
            if self.link.running:
                left = max(self.link.every - (time.monotonic() - began), 0.0)
                if newest is None or not newest.views:
                    left = max(left, RETRY_SECONDS)
            elif newest is not None and newest.passes:
                left = RETRY_SECONDS
            self._wake.clear()
            try:
                async with asyncio.timeout(left):
                    await self._wake.wait()
            except TimeoutError:
                self.want("next" if self.link.running else "again")

    async def _send_wanted(self, what: str, of: int | None, done: asyncio.Future[int]) -> None:
        number = 0
        try:
            async with self._air:
                number = await self._send(what, of)
        finally:
            if not done.done():
                done.set_result(number)

    async def _send(self, what: str, of: int | None) -> int:
        if what == "replay":
            assert of is not None
            return await self._replay(of)
        if what == "next" and not self.link.frozen and self.rounds.newest is not None:
            self.link = self.link.stepped
            self.events.add("settings", settings=self.link.knobs())
        self._sent_over = None  # this round is sent over what is new now
        await self.running.catch_up()
        seen = {name: self.pictures.of(name, number) for number, name in enumerate(self.names)}
        self._sent_over = self.running.control.impairments
        begun = self.rounds.begin(self.link.knobs(), self.running.control.impairments, seen)
        await self._send_round(begun, self.link, self.names)
        return begun.number

    async def _replay(self, number: int) -> int:
        """Sends a round again: same pictures, settings, channel and noise; then the channel is as it was."""
        old = self.rounds.get(number)
        if old is None or old.impairments is None:
            return 0
        async with self.running.steady, self.running.over(old.impairments) as is_over:
            if not is_over:
                return 0
            await self.running.catch_up()  # what happened before is no change while it is sent
            begun = self.rounds.begin(old.settings, old.impairments, old.pictures, of=number)
            await self._send_round(begun, LinkSettings(**old.settings), list(old.views), of=old)
        return begun.number

    async def compare(self, number: int, left: str, right: str, *, equal_bits: bool) -> dict[str, Any]:
        """Sends what a camera sees over two links, one after the other, and the same noise.

        Args:
            number: of the camera, from 1.
            left: name of a link, one of `studio.comparison.SIDES`.
            right: likewise.
            equal_bits: both get as many bits on the air, if one has a budget.

        Raises:
            ComparisonError: a link makes no sense here, or was not answered.
        """
        name = NAMES[number - 1]
        self.comparing += 1
        try:
            return await self._compare(name, left, right, equal_bits=equal_bits)
        finally:
            self.comparing -= 1

    async def _compare(self, name: str, left: str, right: str, *, equal_bits: bool) -> dict[str, Any]:
        async with self._air, self.running.steady:
            running = self.running
            is_ready = running.standing_of(name) == running.channel.watched.standing == "ready"
            is_ready &= running.channel_is_set.is_set()
            if is_ready:
                await running.refresh()
            met = running.control.impairments
            if not is_ready or met is None:
                raise ComparisonError(f"{name} or the channel is not ready: try again")
            usual = met["devices"].get(name, met["default"])

            async def send(link: LinkSettings, own: dict[str, Any]) -> dict[str, Any]:
                there = met if own == usual else met | {"devices": met["devices"] | {name: own}}
                async with self.running.over(there) as is_over:
                    if not is_over:
                        raise ComparisonError("the channel could not be set: try again")
                    return await self._view_of(name, link)

            return await compare(self.link, usual, (left, right), send, equal_bits=equal_bits)

    async def _view_of(self, name: str, link: LinkSettings) -> dict[str, Any]:
        """What a camera says of a view that is of no round."""
        self._tokens += 1
        seen = {name: self.pictures.of(name, NAMES.index(name))}
        begun = Round(-self._tokens, {}, None, seen)
        await self.sending.send(begun, link, [name])
        if name in begun.failures:
            raise ComparisonError(f"{name}: {begun.failures[name]}")
        view: dict[str, Any] = begun.as_json()["views"][name]
        return view

    async def _send_round(
        self, begun: Round, link: LinkSettings, names: list[str], of: Round | None = None
    ) -> None:
        """Sends a round, and tells of its end; `of`: the round that it plays again."""
        control = self.running.control
        changes, met = control.changes, control.impairments
        await self.sending.send(begun, link, names)
        await self.running.catch_up()
        begun.changed = (control.changes, control.impairments) != (changes, met)
        if of is not None:
            begun.compare_with(of)
        said = {"changed": begun.changed, "identical": begun.identical, "why": begun.why}
        self.events.add("over", round=begun.number, summary=begun.summary(), oldest=self.rounds.oldest, **said)
