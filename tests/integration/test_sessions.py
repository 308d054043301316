"""What sessions promise, in memory and in Redis alike."""

import asyncio
import itertools
import random

import pytest
from session_stores import Eye, add, recognition, until, until_waiting

from semlink.service.admission import Busy
from server.metrics import Metrics
from server.refusals import AlreadyViewed, Expired, Overloaded, Stopping, UnknownObject, WrongViews
from server.sessions import Sessions, Vote
from server.sessions import memory as in_memory
from server.sessions import redis as in_redis


async def standing_of(kept: Sessions, thing: str = "cup"):
    """How an object stands; None where it is unknown."""
    try:
        return await kept.wait(thing, 0)
    except UnknownObject:
        return None


async def until_standing(kept: Sessions, standing, thing: str = "cup") -> None:
    """Returns once an object stands so."""
    while await standing_of(kept, thing) != standing:
        await asyncio.sleep(0.002)


class TestVote:
    async def test_when_all_are_in(self, store):
        kept = store()
        standings = []
        for device, label in zip("abcd", (7, 3, 7, 7), strict=True):
            answer, standing, repeated = await add(kept, Eye(recognition(label)), device)
            assert answer == recognition(label)
            assert not repeated
            standings.append(standing)
        vote = Vote(label=7, name="class 7", votes=3, views=4)
        assert standings == [3, 2, 1, vote]
        assert await kept.wait("cup", 0) == vote

    async def test_one_view(self, store):
        _, standing, _ = await add(store(), Eye(), views=1)
        assert standing == Vote(7, "class 7", 1, 1)

    async def test_does_not_depend_on_the_order(self, store):
        views = [(7, 0.1), (7, 0.7), (3, 0.3), (3, 0.5), (5, 0.99)]
        votes, kept = set(), store()
        for order in itertools.islice(itertools.permutations(views), 0, None, 7):
            for device, (label, confidence) in enumerate(order):
                eye = Eye(recognition(label, confidence))
                _, standing, _ = await add(kept, eye, str(device), thing=str(order), views=5)
            votes.add(standing)
        assert len(votes) == 1
        assert votes.pop().label in (3, 7)

    async def test_does_not_depend_on_who_is_ready_first(self, store):
        devices, labels = "abcd", (7, 3, 7, 5)
        kept = store()
        for seed in range(10):
            eyes = [Eye(recognition(label), held=True) for label in labels]
            calls = [
                asyncio.create_task(add(kept, eye, device, thing=str(seed)))
                for eye, device in zip(eyes, devices, strict=True)
            ]
            await until(lambda: all(eye.calls for eye in eyes))  # noqa: B023
            for done, eye in enumerate(random.Random(seed).sample(eyes, 4), 1):
                eye.free.set()
                await until(lambda: sum(call.done() for call in calls) == done)  # noqa: B023
            standings = [standing for _, standing, _ in await asyncio.gather(*calls)]
            assert standings.count(Vote(7, "class 7", 2, 4)) == 1
            assert sorted(each for each in standings if isinstance(each, int)) == [1, 2, 3]

    async def test_objects_do_not_mix(self, store):
        kept = store()
        await add(kept, Eye(recognition(1)), thing="one", views=2)
        await add(kept, Eye(recognition(2)), thing="two", views=2)
        _, standing, _ = await add(kept, Eye(recognition(1)), "b", thing="one", views=2)
        assert standing == Vote(1, "class 1", 2, 2)
        assert await kept.wait("two", 0) == 1


class TestRepeated:
    async def test_gets_the_first_answer_and_counts_once(self, store):
        kept = store()
        await add(kept, Eye())
        other = Eye(recognition(9))
        answer, standing, repeated = await add(kept, other)
        assert (answer, standing, repeated) == (recognition(7), 3, True)
        assert other.calls == 0

    async def test_while_the_first_is_still_running(self, store):
        kept, eye = store(), Eye(held=True)
        first = asyncio.create_task(add(kept, eye))
        await until(lambda: eye.callers == 1)
        again = [asyncio.create_task(add(kept, Eye(recognition(9)))) for _ in range(3)]
        await until(lambda: eye.callers == 4)
        assert not any(call.done() for call in (first, *again))
        eye.free.set()
        answers = await asyncio.gather(first, *again)
        assert [answer for answer, _, _ in answers] == [recognition(7)] * 4
        assert [repeated for _, _, repeated in answers] == [False, True, True, True]
        assert {standing for _, standing, _ in answers} == {3}
        assert eye.calls == 1

    async def test_after_the_vote_it_gets_the_vote(self, store):
        kept = store()
        await add(kept, Eye(), "a", views=2)
        await add(kept, Eye(), "b", views=2)
        _, standing, repeated = await add(kept, Eye(), "a", views=2)
        assert standing == Vote(7, "class 7", 2, 2)
        assert repeated

    @pytest.mark.parametrize("other", [{"frame": 1}, {"fingerprint": b"other"}])
    async def test_another_frame_of_the_same_device(self, store, other):
        kept = store()
        await add(kept, Eye())
        with pytest.raises(AlreadyViewed, match="device 'a' has given another view of object 'cup'"):
            await add(kept, Eye(), **other)
        assert await kept.wait("cup", 0) == 3

    async def test_same_device_looks_at_another_object(self, store):
        kept = store()
        await add(kept, Eye(), thing="cup")
        _, _, repeated = await add(kept, Eye(), thing="saucer", frame=1)
        assert not repeated


class TestNumberOfViews:
    async def test_must_agree(self, store):
        kept = store()
        await add(kept, Eye())
        with pytest.raises(WrongViews, match="expects 4 views, not 3"):
            await add(kept, Eye(), "b", views=3)
        assert await kept.wait("cup", 0) == 3

    async def test_one_device_too_many(self, store):
        kept = store()
        for device in "ab":
            await add(kept, Eye(), device, views=2)
        with pytest.raises(WrongViews, match="has all its 2 views"):
            await add(kept, Eye(recognition(9)), "c", views=2)
        assert await kept.wait("cup", 0) == Vote(7, "class 7", 2, 2)

    async def test_views_under_way_take_their_place(self, store):
        kept, eye = store(), Eye(held=True)
        first = asyncio.create_task(add(kept, eye, views=1))
        await until(lambda: eye.calls)
        with pytest.raises(WrongViews):
            await add(kept, Eye(), "b", views=1)
        eye.free.set()
        await first


class TestFailure:
    async def test_leaves_no_view_and_a_retry_works(self, store):
        kept = store()
        with pytest.raises(RuntimeError, match="no light"):
            await add(kept, Eye(RuntimeError("no light")))
        answer, standing, repeated = await add(kept, Eye())
        assert (answer, standing, repeated) == (recognition(7), 3, False)

    async def test_is_told_to_all_who_repeated_the_call(self, store):
        kept, eye = store(), Eye(RuntimeError("no light"), held=True)
        calls = [asyncio.create_task(add(kept, eye)) for _ in range(3)]
        await until(lambda: eye.callers == 3)
        eye.free.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [str(result) for result in results] == ["no light"] * 3

    async def test_makes_room_for_another_device(self, store):
        kept = store()
        await add(kept, Eye(), "a", views=2)
        with pytest.raises(RuntimeError):
            await add(kept, Eye(RuntimeError()), "b", views=2)
        _, standing, _ = await add(kept, Eye(), "c", views=2)
        assert standing == Vote(7, "class 7", 2, 2)

    async def test_of_the_only_view_leaves_no_object(self, store):
        kept = store()
        with pytest.raises(RuntimeError):
            await add(kept, Eye(RuntimeError()), views=4)
        with pytest.raises(UnknownObject):
            await kept.wait("cup", 0)
        _, standing, _ = await add(kept, Eye(), views=1)  # nothing binds the object to four views
        assert isinstance(standing, Vote)

    async def test_does_not_lose_who_waits(self, store):
        """The first view fails while someone waits for the vote; its retry's vote wakes them."""
        kept, eye = store(), Eye(RuntimeError(), held=True)
        call = asyncio.create_task(add(kept, eye, views=1))
        await until(lambda: eye.calls)
        waiting = asyncio.create_task(kept.wait("cup", 60))
        await until_waiting(kept, 1)
        eye.free.set()
        with pytest.raises(RuntimeError):
            await call
        _, vote, _ = await add(kept, Eye(), views=1)
        assert await waiting == vote

    async def test_caller_hangs_up_but_the_vote_completes(self, store):
        kept, eye = store(), Eye(held=True)
        await add(kept, Eye(), "a", views=2)
        call = asyncio.create_task(add(kept, eye, "b", views=2))
        await until(lambda: eye.calls)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        waiting = asyncio.create_task(kept.wait("cup", 60))
        await until_waiting(kept, 1)
        eye.free.set()
        vote = Vote(7, "class 7", 2, 2)
        assert await waiting == vote
        other = Eye(recognition(9))
        assert await add(kept, other, "b", views=2) == (recognition(7), vote, True)
        assert eye.calls == 1
        assert other.calls == 0

    async def test_a_view_that_nobody_waits_for_is_let_go(self, store):
        kept, eye = store(), Eye(held=True, patient=True)
        calls = [asyncio.create_task(add(kept, eye)) for _ in range(2)]
        await until(lambda: eye.callers == 2)
        calls[0].cancel()
        await until(lambda: eye.callers == 1)
        assert await kept.wait("cup", 0) == 4  # the other one still waits
        calls[1].cancel()
        await until_standing(kept, None)
        assert eye.calls == 1

    async def test_a_retry_in_the_moment_of_letting_go_starts_afresh(self, store):
        kept, eye = store(), Eye(held=True, patient=True)
        call = asyncio.create_task(add(kept, eye, views=2))
        await until(lambda: eye.calls)
        call.cancel()
        await asyncio.sleep(0)  # the call has ended; what follows from that has not happened yet
        answer, standing, repeated = await add(kept, Eye(recognition(9)), views=2)
        assert (answer, standing, repeated) == (recognition(9), 1, False)
        assert await kept.wait("cup", 0) == 1

    async def test_of_the_deadline(self, store):
        kept, eye = store(), Eye(held=True, patient=True)
        patient = asyncio.create_task(add(kept, eye))
        await until(lambda: eye.calls)
        with pytest.raises(Expired):
            await add(kept, eye, seconds=0.01)
        eye.free.set()
        answer, *_ = await patient  # whoever gives more time is answered
        assert answer == recognition(7)

    async def test_refused_views_make_nothing_be_forgotten(self, store):
        def full(_known):
            raise Overloaded("full", 1)

        kept = store(max_objects=1)
        await add(kept, Eye(), thing="cup")
        with pytest.raises(Overloaded):
            await add(kept, full, thing="saucer")
        assert await kept.wait("cup", 0) == 3
        with pytest.raises(UnknownObject):
            await kept.wait("saucer", 0)

    async def test_caller_hangs_up_and_nobody_comes_back(self, store):
        """An error that nobody waits for any more is not reported as forgotten either."""
        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        kept, eye = store(), Eye(RuntimeError(), held=True)
        call = asyncio.create_task(add(kept, eye))
        await until(lambda: eye.calls)
        call.cancel()
        await until(call.done)
        eye.free.set()
        await until_standing(kept, None)
        del call
        assert not complaints


class TestForgetting:
    async def test_after_the_last_view(self, store):
        kept = store(ttl_seconds=600)
        await add(kept, Eye(), "a")
        store.age(500)
        await add(kept, Eye(), "b")
        store.age(590)
        assert await kept.wait("cup", 0) == 2
        store.age(10)
        with pytest.raises(UnknownObject, match="'cup'"):
            await kept.wait("cup", 0)

    async def test_then_everything_is_new(self, store):
        kept = store()
        await add(kept, Eye(), views=1)
        store.age(600)
        answer, standing, repeated = await add(kept, Eye(recognition(9)), frame=1, views=3)
        assert (answer, standing, repeated) == (recognition(9), 2, False)

    async def test_asking_does_not_keep_it(self, store):
        kept = store()
        await add(kept, Eye())
        for _ in range(3):
            store.age(190)
            await kept.wait("cup", 0)
            await add(kept, Eye())
        store.age(190)
        with pytest.raises(UnknownObject):
            await kept.wait("cup", 0)

    async def test_the_refusal_says_how_long_it_takes(self, store):
        kept = store()
        await add(kept, Eye())
        store.age(100)
        with pytest.raises(AlreadyViewed, match=r"wait (500|49\d) s"):
            await add(kept, Eye(), frame=1)

    async def test_expired_objects_do_not_count(self, store):
        kept = store(max_objects=2)
        await add(kept, Eye(), thing="old")
        store.age(300)
        await add(kept, Eye(), thing="young")
        store.age(301)
        await add(kept, Eye(), thing="new")
        assert await kept.wait("young", 0) == 3
        assert await kept.wait("new", 0) == 3

    async def test_at_most_so_many_the_one_longest_untouched_goes_first(self, store):
        kept = store(max_objects=3)
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

    async def test_an_object_forgotten_while_looked_at_still_answers(self, store):
        kept, eye = store(max_objects=1), Eye(held=True)
        call = asyncio.create_task(add(kept, eye, thing="first", views=1))
        await until(lambda: eye.calls)
        await add(kept, Eye(), thing="second")
        eye.free.set()
        _, standing, _ = await call
        assert isinstance(standing, Vote)


class TestWait:
    async def test_unknown(self, store):
        with pytest.raises(UnknownObject, match="'cup'"):
            await store().wait("cup", 10)

    async def test_no_longer_than_asked(self, store):
        kept = store()
        await add(kept, Eye())
        loop = asyncio.get_running_loop()
        begun = loop.time()
        assert await kept.wait("cup", 0.1) == 3
        assert 0.09 <= loop.time() - begun < 30  # not for ever

    async def test_wakes_all_with_the_same_vote(self, store):
        kept = store()
        await add(kept, Eye(), "a", views=2)
        waiting = [asyncio.create_task(kept.wait("cup", 60)) for _ in range(10)]
        await until_waiting(kept, 10)
        assert not any(task.done() for task in waiting)
        _, vote, _ = await add(kept, Eye(), "b", views=2)
        assert await asyncio.gather(*waiting) == [vote] * 10

    async def test_for_a_first_view_that_is_still_being_worked_out(self, store):
        kept, eye = store(), Eye(held=True)
        call = asyncio.create_task(add(kept, eye, views=1))
        await until(lambda: eye.calls)
        assert await kept.wait("cup", 0) == 1
        waiting = asyncio.create_task(kept.wait("cup", 60))
        await until_waiting(kept, 1)
        eye.free.set()
        assert await waiting == Vote(7, "class 7", 1, 1)
        await call

    async def test_who_hangs_up_does_not_disturb_the_others(self, store):
        kept = store()
        await add(kept, Eye(), "a", views=2)
        gone, stays = (asyncio.create_task(kept.wait("cup", 60)) for _ in range(2))
        await until_waiting(kept, 2)
        gone.cancel()
        _, vote, _ = await add(kept, Eye(), "b", views=2)
        assert await stays == vote

    async def test_at_most_so_many_wait(self, store):
        kept = store(max_waiting=2)
        await add(kept, Eye(), "a", views=2)
        waiting = [asyncio.create_task(kept.wait("cup", 60)) for _ in range(2)]
        await until_waiting(kept, 2)
        with pytest.raises(Busy, match="2 calls wait for votes"):
            await kept.wait("cup", 60)
        assert await kept.wait("cup", 0) == 1  # asking without waiting is always answered
        waiting[0].cancel()
        await until_waiting(kept, 1)
        waiting[0] = asyncio.create_task(kept.wait("cup", 60))
        await until_waiting(kept, 2)
        _, vote, _ = await add(kept, Eye(), "b", views=2)
        assert await asyncio.gather(*waiting) == [vote] * 2
        assert await kept.wait("cup", 60) == vote

    async def test_at_the_end_all_are_let_go(self, store):
        kept = store()
        await add(kept, Eye(), "a", views=2)
        waiting = [asyncio.create_task(kept.wait("cup", 60)) for _ in range(2)]
        await until_waiting(kept, 2)
        kept.end_waits()
        for caller in waiting:
            with pytest.raises(Stopping):
                await caller
        with pytest.raises(Stopping):
            await kept.wait("cup", 60)
        assert await kept.wait("cup", 0) == 1


class TestDeadline:
    """The vote is taken so long after the first counted view, with what is in."""

    async def test_a_device_that_dies_holds_nobody_up(self, store):
        kept = store(vote_after_seconds=30)
        for device, label in zip("abc", (7, 7, 3), strict=True):
            _, standing, _ = await add(kept, Eye(recognition(label)), device)
        assert standing == 1
        store.age(30)
        assert await kept.wait("cup", 0) == Vote(7, "class 7", 2, 3)

    async def test_all_who_wait_are_told_the_same(self, store):
        kept = store(vote_after_seconds=0.1)
        opening = Eye(held=True)
        call = asyncio.create_task(add(kept, opening))
        await until(lambda: opening.calls)
        callers = [asyncio.create_task(kept.wait("cup", 60)) for _ in range(5)]
        await until_waiting(kept, 5)
        opening.free.set()  # only now is it known when the vote will be
        await call
        assert await asyncio.gather(*callers) == [Vote(7, "class 7", 1, 1)] * 5

    async def test_not_before(self, store):
        kept = store(vote_after_seconds=3600)
        await add(kept, Eye())
        assert await kept.wait("cup", 0.1) == 3
        for device in "bcd":
            _, standing, _ = await add(kept, Eye(), device)
        assert standing == Vote(7, "class 7", 4, 4)  # all are in: there is nothing to wait for

    async def test_is_that_of_the_first_counted_view(self, store):
        kept, eye = store(vote_after_seconds=0.1), Eye(held=True)
        slow = asyncio.create_task(add(kept, eye, "slow"))
        await until(lambda: eye.calls)
        assert await kept.wait("cup", 0.3) == 4  # nothing is counted yet, so nothing is due
        await add(kept, Eye(recognition(3)), "quick")
        vote = await kept.wait("cup", 60)
        assert vote == Vote(3, "class 3", 1, 1)
        eye.free.set()
        assert await slow == (recognition(7), vote, False)

    async def test_a_late_view_gets_its_own_answer_and_the_vote_that_was_taken(self, store):
        metrics = Metrics()
        kept = store(metrics, vote_after_seconds=30)
        for device in "ab":
            await add(kept, Eye(recognition(3)), device)
        store.age(30)
        vote = Vote(3, "class 3", 2, 2)  # nobody has asked for it yet, and what comes now is late all the same
        for device in "cd":
            for repeated in (False, True):
                late = Eye(recognition(7, 0.99))
                assert await add(kept, late, device) == (recognition(7, 0.99), vote, repeated)
                assert late.calls == (not repeated)
        assert await kept.wait("cup", 0) == vote
        with pytest.raises(WrongViews, match="has all its 4 views"):
            await add(kept, Eye(), "e")
        with pytest.raises(AlreadyViewed):
            await add(kept, Eye(), "d", frame=1)
        counted = {
            name: metrics.registry.get_sample_value(f"semlink_server_{name}_total")
            for name in ("late_views", "partial_votes")
        }
        assert counted == {"late_views": 2, "partial_votes": 1}

    async def test_views_under_way_do_not_hold_it_up(self, store):
        kept, eye = store(vote_after_seconds=0.05), Eye(held=True)
        slow = asyncio.create_task(add(kept, eye, "slow", views=2))
        await until(lambda: eye.calls)
        await add(kept, Eye(recognition(3)), "quick", views=2)
        vote = await kept.wait("cup", 60)
        eye.free.set()
        assert (await slow)[1] == vote == Vote(3, "class 3", 1, 1)

    async def test_never_with_fewer_than_the_quorum(self, store):
        kept = store(vote_after_seconds=0.05, quorum=3)
        for device in "ab":
            await add(kept, Eye(), device)
        assert await kept.wait("cup", 0.2) == 2
        answer, standing, _ = await add(kept, Eye(recognition(3)), "c")
        assert (answer, standing) == (recognition(3), Vote(7, "class 7", 2, 3))  # it counts: there was no vote yet

    async def test_who_waits_is_told_once_the_quorum_is_reached(self, store):
        kept = store(vote_after_seconds=0.05, quorum=2)
        await add(kept, Eye())
        caller = asyncio.create_task(kept.wait("cup", 60))
        await until_waiting(kept, 1)
        await asyncio.sleep(0.1)
        assert not caller.done()
        await add(kept, Eye(), "b")
        assert await caller == Vote(7, "class 7", 2, 2)

    async def test_an_object_of_fewer_views_than_the_quorum_is_voted_on_when_all_are_in(self, store):
        _, standing, _ = await add(store(vote_after_seconds=3600, quorum=3), Eye(), views=1)
        assert standing == Vote(7, "class 7", 1, 1)

    async def test_an_id_used_again_later_gets_a_vote_of_its_own(self, store):
        kept = store(vote_after_seconds=0.05)
        await add(kept, Eye(recognition(3)))
        assert await kept.wait("cup", 60) == Vote(3, "class 3", 1, 1)
        store.age(600)
        await add(kept, Eye(recognition(7)), frame=1, views=2)
        assert await kept.wait("cup", 60) == Vote(7, "class 7", 1, 1)


@pytest.mark.parametrize(
    ("labels", "outcome"),
    [((7,), "unanimous"), ((7, 7, 7), "unanimous"), ((7, 7, 3), "majority"), ((7, 7, 3, 4), "plurality"),
     ((7, 3), "plurality")],
)  # fmt: skip
async def test_votes_are_counted_by_how_clear_they_are(store, labels, outcome):
    metrics = Metrics()
    kept = store(metrics)
    for device, label in enumerate(labels):
        for _ in range(2):  # a repeated view is no second vote
            await add(kept, Eye(recognition(label)), str(device), views=len(labels))
    counted = {each: metrics.registry.get_sample_value("semlink_server_votes_total", {"outcome": each})
               for each in ("unanimous", "majority", "plurality")}  # fmt: skip
    assert counted.pop(outcome) == 1
    assert set(counted.values()) == {0}


class TestOwners:
    async def test_a_stranger_is_in_nobodys_way(self, store):
        """Whoever opened an object first, with 64 views expected of it, had all its other cameras refused."""
        kept = store()
        _, missing, _ = await add(kept, Eye(recognition(3)), "a", views=64, owner="mallory")
        assert missing == 63
        for device in "ab":
            _, status, _ = await add(kept, Eye(), device, views=2, owner="alice")
        assert status == Vote(7, "class 7", 2, 2)
        assert await kept.wait("cup", 0, "alice") == status
        assert await kept.wait("cup", 0, "mallory") == 63
        with pytest.raises(UnknownObject):
            await kept.wait("cup", 0)

    async def test_a_vote_is_announced_to_its_owner(self, store):
        kept = store()
        await add(kept, Eye(), views=2, owner="alice")
        await add(kept, Eye(), views=2, owner="bob")
        waiting = asyncio.create_task(kept.wait("cup", 60, "alice"))
        await until_waiting(kept, 1)
        await add(kept, Eye(recognition(3)), "b", views=2, owner="bob")
        _, vote, _ = await add(kept, Eye(), "b", views=2, owner="alice")
        assert await waiting == vote == Vote(7, "class 7", 2, 2)

    @pytest.mark.parametrize(("owner", "whose"), [("", "no key, as anybody may"), ("site", "a key of 'site'")])
    async def test_a_refusal_says_who_said_so(self, store, owner, whose):
        kept = store()
        await add(kept, Eye(), "a", views=64, owner=owner)
        with pytest.raises(WrongViews, match=f"expects 64 views, not 4: .* sent with {whose}"):
            await add(kept, Eye(), "b", views=4, owner=owner)


class TestListedVotes:
    async def test_every_vote_is_seen_once(self, store):
        kept = store()
        for thing in range(7):
            await add(kept, Eye(recognition(thing)), views=1, thing=str(thing), owner="alice")
        await add(kept, Eye(), views=1, thing="other", owner="bob")
        await add(kept, Eye(), views=2, thing="unfinished", owner="alice")
        seen, cursor = [], "0-0"
        while listed := await kept.votes("alice", cursor, 3):
            assert len(listed) <= 3
            seen += listed
            cursor = listed[-1].cursor
        assert [(each.object_id, each.vote, each.expected_views) for each in seen] == [
            (str(thing), Vote(thing, f"class {thing}", 1, 1), 1) for thing in range(7)
        ]
        assert await kept.votes("alice", "", 3) == seen[-3:]
        assert await kept.votes("alice", "", 100) == seen
        assert [each.object_id for each in await kept.votes("bob", "", 100)] == ["other"]
        assert await kept.votes("", "", 100) == []
        await add(kept, Eye(recognition(9)), views=1, thing="later \0 \u00e4", owner="alice")
        (later,) = await kept.votes("alice", cursor, 3)
        assert (later.object_id, later.vote.label) == ("later \0 \u00e4", 9)

    async def test_a_vote_at_its_deadline_too(self, store):
        kept = store(vote_after_seconds=0.01)
        await add(kept, Eye(), views=2)
        await until_standing(kept, Vote(7, "class 7", 1, 1))
        (listed,) = await kept.votes("", "", 10)
        assert (listed.expected_views, listed.vote) == (2, Vote(7, "class 7", 1, 1))

    async def test_they_are_bounded_in_number_and_in_time(self, store, monkeypatch):
        for module in (in_memory, in_redis):
            monkeypatch.setattr(module, "MAX_VOTES", 3)
        kept = store()
        for thing in range(5):
            await add(kept, Eye(), views=1, thing=str(thing))
        assert [each.object_id for each in await kept.votes("", "0-0", 10)] == ["2", "3", "4"]
        brief = store(ttl_seconds=0.05)
        await add(brief, Eye(), views=1, thing="brief", owner="brief")
        for after in ("", "0-0"):
            while await brief.votes("brief", after, 10):
                await asyncio.sleep(0.01)
