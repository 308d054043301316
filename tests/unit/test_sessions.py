import asyncio
import functools
import itertools
import random

import pytest

import server.sessions
from server.metrics import Metrics
from server.pending import Pending
from server.predictions import Prediction, Recognition
from server.refusals import AlreadyViewed, Expired, Overloaded, UnknownObject, WrongViews
from server.sessions import Sessions, Vote


def recognition(label: int, confidence: float = 0.5) -> Recognition:
    return Recognition((Prediction(label, f"class {label}", confidence), Prediction(999, "other", 0.01)), 1, 2, 3)


class Eye:
    """What recognises: answers in its own time, and knows how often it was asked.

    It looks to the end, unless it is `patient`: then it lets go of what nobody waits for.
    """

    def __init__(
        self, answer: Recognition | Exception | None = None, *, held: bool = False, patient: bool = False
    ) -> None:
        self.answer, self.calls, self.free, self.patient = answer or recognition(7), 0, asyncio.Event(), patient
        if not held:
            self.free.set()

    def __call__(self) -> Pending:
        self.calls += 1
        pending = Pending(lambda: self.patient and pending.answer.cancel())
        self.task = asyncio.create_task(self.look(pending.answer))
        return pending

    async def look(self, answer: asyncio.Future) -> None:
        await self.free.wait()
        if answer.cancelled():
            return
        if isinstance(self.answer, Exception):
            answer.set_exception(self.answer)
        else:
            answer.set_result(self.answer)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(server.sessions, "time", clock)
    return clock


def sessions(
    max_objects: int = 100, ttl_seconds: float = 600, max_waiting: int = 100, metrics: Metrics | None = None
) -> Sessions:
    return Sessions(
        max_objects=max_objects,
        ttl_seconds=ttl_seconds,
        max_waiting=max_waiting,
        metrics=metrics or Metrics(),
    )


async def add(kept: Sessions, eye: Eye, device: str = "a", *, thing: str = "cup", frame: int = 0, views: int = 4,
              fingerprint: bytes = b"frame", seconds: float = 60):  # fmt: skip
    deadline = asyncio.get_running_loop().time() + seconds
    return await kept.add_view(thing, device, frame, views, fingerprint, eye, deadline)


def running(test):
    """Runs a coroutine as a test."""

    @functools.wraps(test)
    def run(self, *arguments, **named):
        asyncio.run(asyncio.wait_for(test(self, *arguments, **named), 10))

    return run


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class TestVote:
    @running
    async def test_when_all_are_in(self):
        kept = sessions()
        standings = []
        for device, label in zip("abcd", (7, 3, 7, 7), strict=True):
            answer, standing, repeated = await add(kept, Eye(recognition(label)), device)
            assert answer == recognition(label)
            assert not repeated
            standings.append(standing)
        vote = Vote(label=7, name="class 7", votes=3, views=4)
        assert standings == [3, 2, 1, vote]
        assert await kept.wait("cup", 0) == vote

    @running
    async def test_one_view(self):
        _, standing, _ = await add(sessions(), Eye(), views=1)
        assert standing == Vote(7, "class 7", 1, 1)

    @running
    async def test_does_not_depend_on_the_order(self):
        views = [(7, 0.1), (7, 0.7), (3, 0.3), (3, 0.5), (5, 0.99)]
        votes = set()
        for order in itertools.permutations(views):
            kept = sessions()
            for device, (label, confidence) in enumerate(order):
                _, standing, _ = await add(kept, Eye(recognition(label, confidence)), str(device), views=5)
            votes.add(standing)
        assert len(votes) == 1
        assert votes.pop().label in (3, 7)

    @running
    async def test_does_not_depend_on_who_is_ready_first(self):
        devices, labels = "abcd", (7, 3, 7, 5)
        for seed in range(10):
            kept = sessions()
            eyes = [Eye(recognition(label), held=True) for label in labels]
            calls = [
                asyncio.create_task(add(kept, eye, device)) for eye, device in zip(eyes, devices, strict=True)
            ]
            await settle()
            for eye in random.Random(seed).sample(eyes, 4):
                eye.free.set()
                await settle()
            standings = [standing for _, standing, _ in await asyncio.gather(*calls)]
            assert standings.count(Vote(7, "class 7", 2, 4)) == 1
            assert sorted(each for each in standings if isinstance(each, int)) == [1, 2, 3]

    @running
    async def test_objects_do_not_mix(self):
        kept = sessions()
        await add(kept, Eye(recognition(1)), thing="one", views=2)
        await add(kept, Eye(recognition(2)), thing="two", views=2)
        _, standing, _ = await add(kept, Eye(recognition(1)), "b", thing="one", views=2)
        assert standing == Vote(1, "class 1", 2, 2)
        assert await kept.wait("two", 0) == 1


class TestRepeated:
    @running
    async def test_gets_the_first_answer_and_counts_once(self):
        kept = sessions()
        await add(kept, Eye())
        other = Eye(recognition(9))
        answer, standing, repeated = await add(kept, other)
        assert (answer, standing, repeated) == (recognition(7), 3, True)
        assert other.calls == 0

    @running
    async def test_while_the_first_is_still_running(self):
        kept, eye = sessions(), Eye(held=True)
        first = asyncio.create_task(add(kept, eye))
        await settle()
        again = [asyncio.create_task(add(kept, Eye(recognition(9)))) for _ in range(3)]
        await settle()
        assert not any(call.done() for call in (first, *again))
        eye.free.set()
        answers = await asyncio.gather(first, *again)
        assert [answer for answer, _, _ in answers] == [recognition(7)] * 4
        assert [repeated for _, _, repeated in answers] == [False, True, True, True]
        assert {standing for _, standing, _ in answers} == {3}
        assert eye.calls == 1

    @running
    async def test_after_the_vote_it_gets_the_vote(self):
        kept = sessions()
        await add(kept, Eye(), "a", views=2)
        await add(kept, Eye(), "b", views=2)
        _, standing, repeated = await add(kept, Eye(), "a", views=2)
        assert standing == Vote(7, "class 7", 2, 2)
        assert repeated

    @pytest.mark.parametrize("other", [{"frame": 1}, {"fingerprint": b"other"}])
    @running
    async def test_another_frame_of_the_same_device(self, other):
        kept = sessions()
        await add(kept, Eye())
        with pytest.raises(AlreadyViewed, match="device 'a' has given another view of object 'cup'"):
            await add(kept, Eye(), **other)
        assert await kept.wait("cup", 0) == 3

    @running
    async def test_same_device_looks_at_another_object(self):
        kept = sessions()
        await add(kept, Eye(), thing="cup")
        _, _, repeated = await add(kept, Eye(), thing="saucer", frame=1)
        assert not repeated


class TestNumberOfViews:
    @running
    async def test_must_agree(self):
        kept = sessions()
        await add(kept, Eye())
        with pytest.raises(WrongViews, match="expects 4 views, not 3"):
            await add(kept, Eye(), "b", views=3)
        assert await kept.wait("cup", 0) == 3

    @running
    async def test_one_device_too_many(self):
        kept = sessions()
        for device in "ab":
            await add(kept, Eye(), device, views=2)
        with pytest.raises(WrongViews, match="has all its 2 views"):
            await add(kept, Eye(recognition(9)), "c", views=2)
        assert await kept.wait("cup", 0) == Vote(7, "class 7", 2, 2)

    @running
    async def test_views_under_way_take_their_place(self):
        kept, eye = sessions(), Eye(held=True)
        first = asyncio.create_task(add(kept, eye, views=1))
        await settle()
        with pytest.raises(WrongViews):
            await add(kept, Eye(), "b", views=1)
        eye.free.set()
        await first


class TestFailure:
    @running
    async def test_leaves_no_view_and_a_retry_works(self):
        kept = sessions()
        with pytest.raises(RuntimeError, match="no light"):
            await add(kept, Eye(RuntimeError("no light")))
        answer, standing, repeated = await add(kept, Eye())
        assert (answer, standing, repeated) == (recognition(7), 3, False)

    @running
    async def test_is_told_to_all_who_repeated_the_call(self):
        kept, eye = sessions(), Eye(RuntimeError("no light"), held=True)
        calls = [asyncio.create_task(add(kept, eye)) for _ in range(3)]
        await settle()
        eye.free.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [str(result) for result in results] == ["no light"] * 3

    @running
    async def test_makes_room_for_another_device(self):
        kept = sessions()
        await add(kept, Eye(), "a", views=2)
        with pytest.raises(RuntimeError):
            await add(kept, Eye(RuntimeError()), "b", views=2)
        _, standing, _ = await add(kept, Eye(), "c", views=2)
        assert standing == Vote(7, "class 7", 2, 2)

    @running
    async def test_of_the_only_view_leaves_no_object(self):
        kept = sessions()
        with pytest.raises(RuntimeError):
            await add(kept, Eye(RuntimeError()), views=4)
        with pytest.raises(UnknownObject):
            await kept.wait("cup", 0)
        _, standing, _ = await add(kept, Eye(), views=1)  # nothing binds the object to four views
        assert isinstance(standing, Vote)

    @running
    async def test_does_not_lose_who_waits(self):
        """The first view fails while someone waits for the vote; its retry's vote wakes them."""
        kept, eye = sessions(), Eye(RuntimeError(), held=True)
        call = asyncio.create_task(add(kept, eye, views=1))
        await settle()
        waiting = asyncio.create_task(kept.wait("cup", 5))
        await settle()
        eye.free.set()
        with pytest.raises(RuntimeError):
            await call
        _, vote, _ = await add(kept, Eye(), views=1)
        assert await waiting == vote

    @running
    async def test_caller_hangs_up_but_the_vote_completes(self):
        kept, eye = sessions(), Eye(held=True)
        await add(kept, Eye(), "a", views=2)
        call = asyncio.create_task(add(kept, eye, "b", views=2))
        await settle()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        waiting = asyncio.create_task(kept.wait("cup", 5))
        await settle()
        eye.free.set()
        vote = Vote(7, "class 7", 2, 2)
        assert await waiting == vote
        other = Eye(recognition(9))
        assert await add(kept, other, "b", views=2) == (recognition(7), vote, True)
        assert eye.calls == 1
        assert other.calls == 0

    @running
    async def test_a_view_that_nobody_waits_for_is_let_go(self):
        kept, eye = sessions(), Eye(held=True, patient=True)
        calls = [asyncio.create_task(add(kept, eye)) for _ in range(2)]
        await settle()
        calls[0].cancel()
        await settle()
        assert await kept.wait("cup", 0) == 4  # the other one still waits
        calls[1].cancel()
        await settle()
        with pytest.raises(UnknownObject):
            await kept.wait("cup", 0)
        assert eye.calls == 1

    @running
    async def test_a_retry_in_the_moment_of_letting_go_starts_afresh(self):
        kept, eye = sessions(), Eye(held=True, patient=True)
        call = asyncio.create_task(add(kept, eye, views=2))
        await settle()
        call.cancel()
        await asyncio.sleep(0)  # the call has ended; what follows from that has not happened yet
        answer, standing, repeated = await add(kept, Eye(recognition(9)), views=2)
        await settle()
        assert (answer, standing, repeated) == (recognition(9), 1, False)
        assert await kept.wait("cup", 0) == 1

    @running
    async def test_of_the_deadline(self):
        kept, eye = sessions(), Eye(held=True, patient=True)
        patient = asyncio.create_task(add(kept, eye))
        await settle()
        with pytest.raises(Expired):
            await add(kept, eye, seconds=0.01)
        eye.free.set()
        answer, *_ = await patient  # whoever gives more time is answered
        assert answer == recognition(7)

    @running
    async def test_refused_views_make_nothing_be_forgotten(self):
        def full():
            raise Overloaded("full", 1)

        kept = sessions(max_objects=1)
        await add(kept, Eye(), thing="cup")
        with pytest.raises(Overloaded):
            await add(kept, full, thing="saucer")
        assert await kept.wait("cup", 0) == 3
        with pytest.raises(UnknownObject):
            await kept.wait("saucer", 0)

    @running
    async def test_caller_hangs_up_and_nobody_comes_back(self):
        """An error that nobody waits for any more is not reported as forgotten either."""
        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        kept, eye = sessions(), Eye(RuntimeError(), held=True)
        call = asyncio.create_task(add(kept, eye))
        await settle()
        call.cancel()
        await settle()
        eye.free.set()
        await settle()
        del call
        assert not complaints
        with pytest.raises(UnknownObject):
            await kept.wait("cup", 0)


class TestForgetting:
    @running
    async def test_after_the_last_view(self, clock):
        kept = sessions(ttl_seconds=600)
        await add(kept, Eye(), "a")
        clock.now += 500
        await add(kept, Eye(), "b")
        clock.now += 599
        assert await kept.wait("cup", 0) == 2
        clock.now += 1
        with pytest.raises(UnknownObject, match="'cup'"):
            await kept.wait("cup", 0)

    @running
    async def test_then_everything_is_new(self, clock):
        kept = sessions()
        await add(kept, Eye(), views=1)
        clock.now += 600
        answer, standing, repeated = await add(kept, Eye(recognition(9)), frame=1, views=3)
        assert (answer, standing, repeated) == (recognition(9), 2, False)

    @running
    async def test_asking_does_not_keep_it(self, clock):
        kept = sessions()
        await add(kept, Eye())
        for _ in range(3):
            clock.now += 199
            await kept.wait("cup", 0)
            await add(kept, Eye())
        clock.now += 199
        with pytest.raises(UnknownObject):
            await kept.wait("cup", 0)

    @running
    async def test_the_refusal_says_how_long_it_takes(self, clock):
        kept = sessions()
        await add(kept, Eye())
        clock.now += 100
        with pytest.raises(AlreadyViewed, match="wait 500 s"):
            await add(kept, Eye(), frame=1)

    @running
    async def test_expired_objects_do_not_count(self, clock):
        kept = sessions(max_objects=2)
        await add(kept, Eye(), thing="old")
        clock.now += 300
        await add(kept, Eye(), thing="young")
        clock.now += 301
        await add(kept, Eye(), thing="new")
        assert await kept.wait("young", 0) == 3
        assert await kept.wait("new", 0) == 3

    @running
    async def test_at_most_so_many_the_one_longest_untouched_goes_first(self):
        kept = sessions(max_objects=3)
        for number in range(3):
            await add(kept, Eye(), thing=str(number))
        await add(kept, Eye(), "b", thing="0")  # touched again
        for number in range(3, 5):
            await add(kept, Eye(), thing=str(number))
        known = []
        for number in range(5):
            try:
                await kept.wait(str(number), 0)
                known.append(number)
            except UnknownObject:
                pass
        assert known == [0, 3, 4]

    @running
    async def test_an_object_forgotten_while_looked_at_still_answers(self):
        kept, eye = sessions(max_objects=1), Eye(held=True)
        call = asyncio.create_task(add(kept, eye, thing="first", views=1))
        await settle()
        await add(kept, Eye(), thing="second")
        eye.free.set()
        _, standing, _ = await call
        assert isinstance(standing, Vote)


class TestWait:
    @running
    async def test_unknown(self):
        with pytest.raises(UnknownObject, match="'cup'"):
            await sessions().wait("cup", 10)

    @running
    async def test_no_longer_than_asked(self):
        kept = sessions()
        await add(kept, Eye())
        loop = asyncio.get_running_loop()
        begun = loop.time()
        assert await kept.wait("cup", 0.1) == 3
        assert 0.09 <= loop.time() - begun < 1

    @running
    async def test_wakes_all_with_the_same_vote(self):
        kept = sessions()
        await add(kept, Eye(), "a", views=2)
        waiting = [asyncio.create_task(kept.wait("cup", 60)) for _ in range(10)]
        await settle()
        assert not any(task.done() for task in waiting)
        _, vote, _ = await add(kept, Eye(), "b", views=2)
        assert await asyncio.gather(*waiting) == [vote] * 10

    @running
    async def test_for_a_first_view_that_is_still_being_worked_out(self):
        kept, eye = sessions(), Eye(held=True)
        call = asyncio.create_task(add(kept, eye, views=1))
        await settle()
        assert await kept.wait("cup", 0) == 1
        waiting = asyncio.create_task(kept.wait("cup", 60))
        await settle()
        eye.free.set()
        assert await waiting == Vote(7, "class 7", 1, 1)
        await call

    @running
    async def test_who_hangs_up_does_not_disturb_the_others(self):
        kept = sessions()
        await add(kept, Eye(), "a", views=2)
        gone, stays = (asyncio.create_task(kept.wait("cup", 60)) for _ in range(2))
        await settle()
        gone.cancel()
        _, vote, _ = await add(kept, Eye(), "b", views=2)
        assert await stays == vote

    @running
    async def test_at_most_so_many_wait(self):
        kept = sessions(max_waiting=2)
        await add(kept, Eye(), "a", views=2)
        waiting = [asyncio.create_task(kept.wait("cup", 60)) for _ in range(2)]
        await settle()
        with pytest.raises(Overloaded, match="2 calls wait for votes"):
            await kept.wait("cup", 60)
        assert await kept.wait("cup", 0) == 1  # asking without waiting is always answered
        waiting[0].cancel()
        await settle()
        waiting[0] = asyncio.create_task(kept.wait("cup", 60))
        await settle()
        _, vote, _ = await add(kept, Eye(), "b", views=2)
        assert await asyncio.gather(*waiting) == [vote] * 2
        assert await kept.wait("cup", 60) == vote


@pytest.mark.parametrize(
    ("labels", "outcome"),
    [((7,), "unanimous"), ((7, 7, 7), "unanimous"), ((7, 7, 3), "majority"), ((7, 7, 3, 4), "plurality"),
     ((7, 3), "plurality")],
)  # fmt: skip
def test_votes_are_counted_by_how_clear_they_are(labels, outcome):
    metrics = Metrics()

    async def look():
        kept = sessions(metrics=metrics)
        for device, label in enumerate(labels):
            for _ in range(2):  # a repeated view is no second vote
                await add(kept, Eye(recognition(label)), str(device), views=len(labels))

    asyncio.run(look())
    counted = {each: metrics.registry.get_sample_value("semlink_server_votes_total", {"outcome": each})
               for each in ("unanimous", "majority", "plurality")}  # fmt: skip
    assert counted.pop(outcome) == 1
    assert set(counted.values()) == {0}
