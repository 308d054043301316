"""The event log: cursors go up, what is dropped is said, and memory has a bound."""

import pytest

from channel_emulator import events
from channel_emulator.events import EventLog
from channel_emulator.impairments import impairment_of
from channel_emulator.per_device import Impairments, differences
from semlink.channel.bsc import BinarySymmetricChannel

MILD, HARSH = (impairment_of(BinarySymmetricChannel(ber=ber)) for ber in (0.01, 0.1))


def filled(number: int) -> EventLog:
    log = EventLog(lambda: 0.0)
    for index in range(number):
        log.refused(f"PUT /{index}", 422, "why")
    return log


def test_pages_follow_each_other_and_miss_nothing():
    log, cursor, read = filled(25), 0, []
    while page := log.after(cursor, 10).events:
        read += page
        cursor = log.after(cursor, 10).next
    assert [event.cursor for event in read] == list(range(1, 26))
    assert (log.after(25, 10).events, log.after(25, 10).next, log.after(25, 10).dropped) == ([], 25, 0)
    log.scenario("paused", 3.0)
    (event,) = log.after(25, 10).events
    assert (event.kind, event.cursor) == ("scenario", 26)


def test_what_is_dropped_is_said(monkeypatch):
    monkeypatch.setattr(events, "MAX_EVENTS", 10)
    log = filled(25)
    page = log.after(0, 100)
    assert [event.cursor for event in page.events] == list(range(16, 26))
    assert page.dropped == 15
    assert log.after(12, 100).dropped == 3
    assert log.after(15, 100).dropped == 0


@pytest.mark.parametrize("cursor", [-1, 6])
def test_a_cursor_of_another_process_is_refused(cursor):
    with pytest.raises(ValueError, match="begin with 0"):
        filled(5).after(cursor, 1)


def test_large_changes_are_bounded_too(monkeypatch):
    monkeypatch.setattr(events, "MAX_ENTRIES", 1000)
    log = EventLog()
    before = Impairments(default=MILD)
    after = Impairments(default=MILD, devices={str(number): HARSH for number in range(200)})
    for _ in range(50):
        log.settings_changed("control plane", "PUT /v1/impairments", *differences(before, after))
    page = log.after(0, 1000)
    assert len(page.events) == 2
    assert page.dropped == 48


def test_differences_are_what_differs():
    before = Impairments(default=MILD, devices={"a": MILD, "b": MILD, "c": HARSH})
    after = Impairments(default=MILD, devices={"a": MILD, "b": HARSH, "d": MILD})
    was, became = differences(before, after)
    assert was.default is None
    assert was.devices == {"b": MILD, "c": HARSH, "d": None}
    assert became.devices == {"b": HARSH, "c": None, "d": MILD}
    was, became = differences(before, Impairments(default=HARSH, devices=before.devices))
    assert (was.default, became.default, was.devices) == (MILD, HARSH, {})
