"""Rounds from the clock: aligned, the same for all cameras, never gone twice; the clock is the test's."""

import asyncio

import pytest
from structlog.testing import capture_logs

from device.rounds import Clock, ClockRounds, check_clock_rounds
from semlink.service.settings import StartupError


class Hands(Clock):
    """A clock that stands, but for what is waited; `shocks` set it while somebody waits."""

    def __init__(self, now, *shocks):
        self.time, self.shocks, self.waited = now, list(shocks), []

    def now(self):
        return self.time

    async def wait(self, seconds, stop):
        self.waited.append(round(seconds, 6))
        self.time += seconds
        if self.shocks:
            self.time = self.shocks.pop(0)


async def numbers(clock, count, every=2.0, first=0, busy=()):
    """Numbers of rounds, each of which then takes a time of `busy`, and how many were skipped."""
    rounds, gone, busy = ClockRounds(first, every, asyncio.Event(), clock), [], list(busy)
    async for due in rounds:
        assert due.ends == (due.number + 1) * every
        gone.append(due.number)
        if len(gone) == count:
            return gone, rounds.skipped
        clock.time += busy.pop(0) if busy else 0
    raise AssertionError("the rounds ended")


async def test_rounds_are_at_whole_multiples_of_their_length_whenever_a_camera_starts():
    early, late = Hands(1000.3), Hands(1003.7)
    assert await numbers(early, 4) == ([501, 502, 503, 504], 0)
    assert await numbers(late, 3) == ([502, 503, 504], 0)
    assert early.time == late.time == 504 * 2
    assert (early.waited[0], late.waited[0]) == (1.7, 0.3)


async def test_a_camera_that_starts_anew_within_a_round_does_not_go_it_again():
    clock = Hands(1000.3)
    gone, _ = await numbers(clock, 3)
    again, _ = await numbers(clock, 2)
    assert gone + again == [501, 502, 503, 504, 505]


async def test_rounds_that_a_slow_camera_misses_are_skipped_and_counted():
    assert await numbers(Hands(0.5), 4, every=1.0, busy=[0.9, 3.5, 0.0]) == ([1, 2, 6, 7], 3)


async def test_a_clock_that_is_set_forward_skips_rounds_and_one_set_back_repeats_none():
    assert await numbers(Hands(0.5, 10.2), 2, every=1.0) == ([11, 12], 10)
    back = Hands(100.5)
    with capture_logs() as logs:
        gone, _ = await numbers(back, 3, every=1.0, busy=[0, -50])
    assert gone == [101, 102, 103]
    assert [log["event"] for log in logs] == ["the clock was set back, rounds wait for it"]


@pytest.mark.parametrize("every", [0.1, 0.3, 7.0, 1e6])
async def test_every_round_is_gone_once_for_lengths_that_binary_fractions_do_not_hold(every):
    gone, skipped = await numbers(Hands(1_790_000_000.05), 200, every=every)
    assert gone == list(range(gone[0], gone[0] + 200))
    assert skipped == 0


async def test_numbers_go_on_behind_those_of_a_spool():
    assert await numbers(Hands(10.5), 2, every=1.0, first=12) == ([12, 13], 0)
    check_clock_rounds(12, 1.0, Hands(10.5))
    with pytest.raises(StartupError, match=r"next frame id is 14, the clock's round is 10; keep --every"):
        check_clock_rounds(14, 1.0, Hands(10.5))


async def test_told_to_stop_no_round_comes_any_more():
    stop = asyncio.Event()
    stop.set()
    assert [due async for due in ClockRounds(0, 3600.0, stop, Clock())] == []
