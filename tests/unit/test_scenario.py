"""Scenarios: what is a timeline, what is in force when, and playing it by a clock that tests hold."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from channel_emulator.events import EventLog
from channel_emulator.impairments import impairment_of
from channel_emulator.live import LiveImpairments
from channel_emulator.per_device import MAX_DEVICES, Impairments, PatchError
from channel_emulator.scenario import MAX_STEPS, Scenario, Timeline, read_scenario, scenario_of_csv
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.channel.mimo_ofdm import MimoOfdm
from semlink.channel.presets import PRESETS
from semlink.service.settings import StartupError

START = Impairments(default=impairment_of(BinarySymmetricChannel(ber=0.5)))
STEPS = [
    {"at": 2, "default": {"type": "bsc", "ber": 0.01}},
    {"at": 5, "default": {"ber": 0.02}, "devices": {"left": {"preset": "lossy"}}},
    {"at": 8, "devices": {"left": None, "right": {"ber": 0.1}}},
    {"at": 10},
]
CSV = """at,device,preset,type,ber
2,,,bsc,0.01
5,,,,0.02
5,left,lossy,,

8,right,,,0.1
10,,,,
"""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def playing(clock: Clock, *, loop: bool = False) -> LiveImpairments:
    scenario = Scenario(steps=STEPS, loop=loop)
    return LiveImpairments(START, scenario, clock=clock, events=EventLog(lambda: clock.now))


def bers(live: LiveImpairments) -> tuple[float, ...]:
    """Of a device that is never named, and of one that is."""
    return live.met_by("other").ber, getattr(live.met_by("right"), "ber", None)


def actions(live: LiveImpairments) -> list[str]:
    return [event.action for event in live.events.after(0, 1000).events]


def test_settings_are_constant_between_steps(clock):
    live = playing(clock)
    met = {}
    for seconds in (0, 1.999, 2, 4.999, 5, 7.999, 8, 9.999, 10, 1000):
        clock.now = 1000.0 + seconds
        met[seconds] = bers(live)
    assert met == {
        0: (0.5, 0.5), 1.999: (0.5, 0.5), 2: (0.01, 0.01), 4.999: (0.01, 0.01), 5: (0.02, 0.02),
        7.999: (0.02, 0.02), 8: (0.02, 0.1), 9.999: (0.02, 0.1), 10: (0.02, 0.1), 1000: (0.02, 0.1),
    }  # fmt: skip
    assert not live.playback.playing
    assert live.playback.position == 10


def test_a_step_changes_what_it_names_and_nothing_else(clock):
    start = Impairments(default=impairment_of(MimoOfdm(streams=8, coding="uncoded", order=16)))
    scenario = Scenario(steps=[{"at": 0, "default": {"snr_db": 3}}])
    live = LiveImpairments(start, scenario, clock=clock)
    assert live.met_by("left") == MimoOfdm(streams=8, coding="uncoded", order=16, snr_db=3)


def test_a_device_has_its_own_until_a_step_takes_it_away(clock):
    live = playing(clock)
    clock.now += 6
    assert live.met_by("left") == PRESETS["lossy"].channel
    clock.now += 3
    assert live.met_by("left") == BinarySymmetricChannel(ber=0.02)


def test_it_loops_at_its_last_step(clock):
    live = playing(clock, loop=True)
    for lap in (0, 1, 2, 7):  # nobody asks in laps 3 to 6
        for seconds, expected in ((0.5, 0.5), (3, 0.01), (6, 0.02), (9, 0.02)):
            clock.now = 1000.0 + 10 * lap + seconds
            assert bers(live)[0] == expected
    assert live.playback.playing
    assert actions(live).count("looped") == 3
    assert live.playback.position == pytest.approx(9)


def test_pause_play_and_seek(clock):
    live = playing(clock)
    clock.now += 3
    live.pause()
    clock.now += 100
    assert (bers(live)[0], live.playback.position) == (0.01, 3)
    live.seek(9)
    assert (bers(live), live.playback.playing) == ((0.02, 0.1), False)
    live.seek(0)
    assert bers(live) == (0.5, 0.5)
    live.play()
    clock.now += 2.5
    assert bers(live)[0] == 0.01
    live.seek(8)
    clock.now += 5
    assert (bers(live), live.playback.playing) == ((0.02, 0.1), False)
    live.play()  # at the end: from the start
    assert (bers(live)[0], live.playback.position) == (0.5, 0)
    assert [action for action in actions(live) if "step" not in action] == [
        "loaded", "paused", "sought", "sought", "playing", "sought", "ended", "playing"
    ]  # fmt: skip


def test_a_change_by_hand_pauses_it_and_play_takes_it_back(clock):
    live = playing(clock)
    clock.now += 3
    live.change(Impairments(default=impairment_of(PRESETS["clear"].channel)), "PUT /v1/impairments")
    clock.now += 3
    assert live.met_by("left") == PRESETS["clear"].channel
    live.play()
    assert live.playback.position == 3
    assert bers(live)[0] == 0.01


def test_reset_goes_back_to_the_start_and_its_scenario(clock):
    live = playing(clock)
    clock.now += 6
    live.load(Scenario(steps=[{"at": 0, "default": {"preset": "clear"}}]))
    clock.now += 1
    live.reset("POST /v1/reset")
    assert (bers(live)[0], live.playback.position, live.playback.playing) == (0.5, 0, True)
    clock.now += 2
    assert bers(live)[0] == 0.01
    without = LiveImpairments(START, clock=clock)
    without.load(Scenario(steps=STEPS))
    without.reset("POST /v1/reset")
    assert without.playback is None
    assert without.now == START


def test_what_happened_is_logged_with_its_time_also_where_nobody_asked_meanwhile(clock):
    live = playing(clock)
    clock.now += 9
    events = [event for event in live.events.after(0, 1000).events if event.kind == "settings"]
    assert len(events) == 1  # nobody has asked for the settings yet
    assert bers(live) == (0.02, 0.1)
    events = [event for event in live.events.after(0, 1000).events if event.kind == "settings"]
    assert [(event.by, event.action, event.time.timestamp()) for event in events] == [
        ("scenario", "before the first step", 1000),
        ("scenario", "step 1 of 4 at 2 s", 1002),
        ("scenario", "step 2 of 4 at 5 s", 1005),
        ("scenario", "step 3 of 4 at 8 s", 1008),
    ]
    assert (events[1].before.default.ber, events[1].after.default.ber) == (0.5, 0.01)
    assert events[2].before.devices == {"left": None}
    assert events[2].after.devices["left"].type == "packet_loss"
    assert events[3].after.default is None


def test_laps_do_not_drift(clock):
    live = playing(clock, loop=True)
    for _ in range(1000):
        clock.now += 7.3
        assert live.playback.position == pytest.approx((clock.now - 1000) % 10, abs=1e-6)


@given(st.lists(st.floats(0, 12), max_size=20), st.booleans())
def test_whoever_asks_whenever_is_told_the_same(pauses, loop):
    """Beside the timeline itself, at the position that the clock says."""
    clock = Clock()
    live = playing(clock, loop=loop)
    timeline = Timeline.of(Scenario(steps=STEPS, loop=loop), START)
    for pause in pauses:
        clock.now += pause
        position = clock.now - 1000
        if loop:
            position %= 10
        if min(abs(position - at) for at in (0, 2, 5, 8, 10)) > 1e-6:
            assert live.now == timeline.settings(timeline.step_at(position))


@pytest.mark.parametrize(
    ("steps", "loop", "reason"),
    [
        ([], False, "at least 1 item"),
        ([{"at": 1}] * 2, False, "step 2 must come at least 0.01 s after step 1"),
        ([{"at": 1}, {"at": 0}], False, "step 2 must come at least"),
        ([{"at": 1}, {"at": 1.009}], False, "at least 0.01 s"),
        ([{"at": -1}], False, "greater than or equal to 0"),
        ([{"at": float("nan")}], False, "finite"),
        ([{"at": 1e9}], False, "less than or equal to 604800"),
        ([{"at": 0}], True, "after 10 ms or more"),
        ([{"at": 0, "default": {"ber": 2}}], False, "less than or equal to 1"),
        ([{"at": 0, "default": {"bre": 0.1}}], False, "bre"),
        ([{"at": 0, "defaults": {}}], False, "defaults"),
        ([{"at": 0, "default": {"preset": "fog"}}], False, "lossy"),
        ([{"at": number} for number in range(MAX_STEPS + 1)], False, f"at most {MAX_STEPS}"),
        ([{"at": at, "devices": {f"{n}": {} for n in range(1000)}} for at in range(2)], False, "at most 2000"),
    ],
)
def test_what_is_no_timeline(steps, loop, reason):
    with pytest.raises(ValidationError, match=reason):
        Scenario(steps=steps, loop=loop)


def test_steps_may_be_as_near_as_decimal_fractions_say():
    assert len(Scenario(steps=[{"at": number / 100} for number in range(MAX_STEPS)]).steps) == MAX_STEPS


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([{"at": 1}, {"at": 2, "default": {"snr_db": 3}}], r"step 2 at 2 s: default\.bsc\.snr_db: "),
        (
            [{"at": 2, "devices": {"7": {"type": "burst", "ber": 0.6}}}],
            r"step 1 at 2 s: devices\.7\.burst: ",
        ),
        ([{"at": 0, "devices": {"a": {"ber": 0.1}}}], "at most 1024 devices"),
    ],
)
def test_a_step_that_leads_to_no_settings_is_named_and_nothing_is_taken(clock, steps, reason):
    full = {str(number): START.default for number in range(MAX_DEVICES)}
    live = LiveImpairments(
        Impairments(default=START.default, devices=full), Scenario(steps=[{"at": 9}]), clock=clock
    )
    before, playback = live.now, live.playback
    with pytest.raises(PatchError, match=reason):
        live.load(Scenario(steps=steps))
    assert live.now is before
    assert live.playback is playback


def test_csv_says_the_same_as_json():
    said = Scenario.model_validate(scenario_of_csv(CSV))
    steps = [*STEPS[:2], {"at": 8, "devices": {"right": {"ber": 0.1}}}, STEPS[3]]
    assert said == Scenario(steps=steps)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "row 1: the columns are at"),
        ("ber\n0.1\n", "row 1: the columns are at"),
        ("at,bre\n", "row 1: the columns are at"),
        ("at,ber,ber\n", "each once"),
        ("at,ber\n0,0.1\nx,0.2\n", "row 3: at must be a number"),
        ("at,ber\n,0.1\n", "row 2: at must be a number"),
        ("at,ber\n0,2\n", "row 2: ber: must be at most 1"),
        ("at,ber\n0,much\n", "row 2: ber: "),
        ("at,ber\n0\n", "row 2: it has not as many cells"),
        ("at,ber\n0,0.1,0.2\n", "row 2: it has not as many cells"),
        ("at,ber\n0,0.1\n0,0.2\n", "row 3: this device has a row at 0 s already"),
        ('at,ber\n0,"0.1\n', "after row 1: "),
    ],
)
def test_what_is_no_table(text, reason):
    with pytest.raises(ValueError, match=reason):
        scenario_of_csv(text)


@given(st.text(max_size=60) | st.text(alphabet='at,ber\n"01.5e', max_size=60).map("at,ber\n{}".format))
def test_any_text_is_a_scenario_or_refused(text):
    try:
        Scenario.model_validate(scenario_of_csv(text))
    except ValueError:
        return


def test_files(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"steps": STEPS}))
    (tmp_path / "b.CSV").write_text("\ufeff" + CSV, encoding="utf-8")
    assert read_scenario(tmp_path / "a.json") == Scenario(steps=STEPS)
    assert len(read_scenario(tmp_path / "b.CSV").steps) == 4
    for name, data, reason in (
        ("none", None, "cannot read"),
        ("c.json", b'{"steps": [', "is no scenario"),
        ("d.json", b'{"steps": []}', "is no scenario: steps: "),
        ("e.csv", b"at,ber\n0,3\n", "row 2"),
        ("f.csv", b"\xff\xfe", "is no scenario"),
        ("g.csv", b"at\n" + b"\n" * (1 << 20), "longer than"),
    ):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(StartupError, match=reason):
            read_scenario(tmp_path / name)
