"""Live settings: who meets what at this moment, changed by requests and by a scenario that plays.

Every change is one assignment of settings that are never modified: a frame meets the old ones or the new ones. It
is made in the event loop, as is everything that asks. A scenario's step is taken when somebody next asks.
"""

import time
from collections.abc import Callable

import structlog

from channel_emulator.events import Author, EventLog, ScenarioAction
from channel_emulator.per_device import Impairments, differences
from channel_emulator.scenario import Scenario, Timeline
from semlink.channel.base import Channel

log = structlog.get_logger(__name__)


class Playback:
    """Position in a timeline, by a clock; plays from the start until it is told otherwise."""

    def __init__(self, timeline: Timeline, clock: Callable[[], float]) -> None:
        """`clock`: seconds, from any moment on."""
        self.timeline, self._clock = timeline, clock
        self.loop = timeline.scenario.loop
        self.step = 0
        """In force, see `Timeline.step_at`."""
        self._position, self._since, self.playing = 0.0, clock(), True

    @property
    def position(self) -> float:
        """Seconds from the start; beyond the end for as long as nobody has taken note of that."""
        return self._position + (self._clock() - self._since if self.playing else 0.0)

    def move(self, position: float, *, playing: bool) -> None:
        """Goes on from `position`, or stays there."""
        self._position, self._since, self.playing = position, self._clock(), playing

    def start_anew(self) -> None:
        """Goes back by whole laps, to the one that is under way."""
        self._position -= self.position // self.timeline.seconds * self.timeline.seconds


class LiveImpairments:
    """The settings now, the scenario that plays, and the log of what happened to both."""

    def __init__(
        self,
        start: Impairments,
        scenario: Scenario | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        events: EventLog | None = None,
    ) -> None:
        """`start` and `scenario` are what `reset` goes back to. `clock`: seconds, from any moment on.

        Raises:
            PatchError: a step of the scenario leads to no settings.
        """
        self._clock, self.events = clock, events or EventLog()
        self._start, self._start_timeline = start, Timeline.of(scenario, start) if scenario else None
        self._now = start
        self._playback: Playback | None = None
        if self._start_timeline:
            self._play_from_start(self._start_timeline)

    @property
    def now(self) -> Impairments:
        """The settings at this moment."""
        self._advance()
        return self._now

    @property
    def playback(self) -> Playback | None:
        """The scenario at this moment."""
        self._advance()
        return self._playback

    def met_by(self, device_id: str) -> Channel:
        """The channel that this device's frames meet."""
        return self.now.met_by(device_id)

    def change(self, new: Impairments, action: str) -> Impairments:
        """Takes other settings, for the request `action`; a scenario that plays is paused."""
        self._advance()
        self.pause()
        self._take(new, "control plane", action)
        return new

    def reset(self, action: str) -> Impairments:
        """Goes back to what the process was started with; its scenario plays from the start."""
        if self.playback and self._start_timeline is None:
            self.remove()
        self._take(self._start, "control plane", action)
        if self._start_timeline:
            self._play_from_start(self._start_timeline)
        return self._now

    def load(self, scenario: Scenario) -> None:
        """Plays a scenario from its start, on top of the settings at this moment.

        Raises:
            PatchError: a step leads to no settings.
        """
        self._play_from_start(Timeline.of(scenario, self.now))

    def remove(self) -> None:
        """Removes the scenario, if there is one; the settings stay as they are."""
        if self.playback:
            self._note("removed")
            self._playback = None

    def play(self) -> None:
        """Goes on, at the end from the start; settings that were changed meanwhile are the scenario's again."""
        if (playback := self.playback) and not playback.playing:
            ended = playback.position >= playback.timeline.seconds
            playback.move(0.0 if ended else playback.position, playing=True)
            self._note("playing")
            self._go_to_step()

    def pause(self) -> None:
        """Stays where it is, if it plays."""
        if (playback := self.playback) and playback.playing:
            playback.move(playback.position, playing=False)
            self._note("paused")

    def seek(self, position: float) -> None:
        """Goes to `position`, in seconds within the scenario, and plays on if it plays."""
        if playback := self.playback:
            playback.move(position, playing=playback.playing)
            self._note("sought")
            self._go_to_step()

    def set_loop(self, *, loop: bool) -> None:
        """Whether the scenario starts anew at its end."""
        if (playback := self.playback) and playback.loop != loop:
            playback.loop = loop
            self._note("loop on" if loop else "loop off")

    def _play_from_start(self, timeline: Timeline) -> None:
        self._playback = Playback(timeline, self._clock)
        self._note("loaded")
        self._go_to_step()

    def _advance(self) -> None:
        """Takes the steps whose time has come."""
        playback = self._playback
        if playback is None or not playback.playing:
            return
        timeline, position = playback.timeline, playback.position
        if position < timeline.seconds:
            self._take_steps(playback, timeline.step_at(position))
        elif playback.loop:
            # The last step is where the next lap begins. Whole laps that nobody asked in are passed over.
            self._take_steps(playback, len(timeline.changes) - 1)
            playback.start_anew()
            self._note("looped")
            self._go_to_step()
        else:
            self._take_steps(playback, len(timeline.changes))
            playback.move(timeline.seconds, playing=False)
            self._note("ended")

    def _take_steps(self, playback: Playback, last: int) -> None:
        """Takes every step that is left up to `last`."""
        timeline = playback.timeline
        for step in range(playback.step + 1, last + 1):
            playback.step = step
            ago = playback.position - timeline.scenario.steps[step - 1].at
            self._take(timeline.after(self._now, step), "scenario", timeline.describe(step), ago)

    def _go_to_step(self) -> None:
        """Takes the settings of the step at the scenario's position, whatever they were before."""
        if playback := self._playback:
            playback.step = playback.timeline.step_at(playback.position)
            self._take(
                playback.timeline.settings(playback.step), "scenario", playback.timeline.describe(playback.step)
            )

    def _take(self, new: Impairments, by: Author, action: str, ago: float = 0.0) -> None:
        before, after = differences(self._now, new)
        self._now = new
        self.events.settings_changed(by, action, before, after, ago)
        note = log.debug if by == "scenario" else log.info  # a scenario's steps can be many
        note("settings changed", by=by, action=action, default=new.default.model_dump(), own=len(new.devices))

    def _note(self, action: ScenarioAction) -> None:
        assert self._playback is not None
        position = round(self._playback.position, 3)
        self.events.scenario(action, position)
        log.info("scenario", action=action, position=position)
