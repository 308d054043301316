"""What only sessions in Redis promise: servers that share objects, and may die, as Redis may."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator

import pytest
from session_stores import (
    PATIENT_SECONDS,
    Eye,
    RedisStore,
    add,
    recognition,
    until,
    until_waiting,
)

from semlink.decision.asking import Ask
from server.metrics import Metrics
from server.refusals import Refusal, StoreAway, UnknownObject, WrongViews
from server.sessions import FOLLOWS, NOTHING, ON_WISH, Rules, SubmittedView, Vote, Wish, redis, sessions


@pytest.fixture
async def store(redis_server, monkeypatch) -> AsyncIterator[RedisStore]:
    monkeypatch.setattr(redis, "CALL_SECONDS", PATIENT_SECONDS)
    made = RedisStore(redis_server)
    yield made
    await made.close()


@pytest.fixture
def short_lease(monkeypatch):
    """A claim ends soon, and with it the wait for a server that has died."""
    for module in (redis, sessions):
        monkeypatch.setattr(module, "LEASE_SECONDS", 0.3)


def counted(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"semlink_server_{name}_total", labels)


class TestServersThatShare:
    async def test_take_one_vote(self, store):
        metrics = [Metrics(), Metrics()]
        one, other = (store(each) for each in metrics)
        for device, kept in zip("abcd", (one, other, one, other), strict=True):
            _, standing, _ = await add(kept, Eye(), device)
        vote = Vote(7, "class 7", 4, 4)
        assert standing == vote
        assert await one.wait("cup", 0) == await other.wait("cup", 0) == vote
        assert sum(counted(each, "votes", outcome="unanimous") for each in metrics) == 1

    async def test_wake_each_others_callers(self, store):
        one, other = store(), store()
        await add(one, Eye(), "a", views=2)
        callers = [asyncio.create_task(kept.wait("cup", 60)) for kept in (one, other)]
        await until_waiting(one, 1)
        await until_waiting(other, 1)
        _, vote, _ = await add(other, Eye(), "b", views=2)
        assert await asyncio.gather(*callers) == [vote, vote]

    async def test_give_the_first_answer(self, store):
        one, other, eye = store(), store(), Eye(held=True)
        first = asyncio.create_task(add(one, eye, views=1))
        await until(lambda: eye.calls)
        unused = Eye(recognition(9))
        retry = asyncio.create_task(add(other, unused, views=1))
        await asyncio.sleep(0.1)
        assert not retry.done()
        eye.free.set()
        vote = Vote(7, "class 7", 1, 1)
        assert await first == (recognition(7), vote, False)
        assert await retry == await add(other, unused, views=1) == (recognition(7), vote, True)
        assert unused.calls == 0

    async def test_refuse_alike(self, store):
        one, other = store(), store()
        await add(one, Eye(), "a", views=1)
        with pytest.raises(WrongViews, match="has all its 1 views"):
            await add(other, Eye(), "b", views=1)

    async def test_count_each_view_once_however_it_is_sent(self, store):
        metrics = [Metrics() for _ in range(3)]
        servers = [store(each) for each in metrics]
        calls = [
            add(kept, Eye(recognition(device)), str(device), thing=str(thing), views=5)
            for thing in range(8)
            for device in range(5)
            for kept in servers
        ]
        answers = await asyncio.gather(*calls)
        assert {answer for answer, _, _ in answers} == {recognition(device) for device in range(5)}
        assert [repeated for _, _, repeated in answers].count(False) == 8 * 5
        for thing in range(8):
            assert {await kept.wait(str(thing), 0) for kept in servers} == {Vote(0, "class 0", 1, 5)}
        assert sum(counted(each, "votes", outcome="plurality") for each in metrics) == 8

    async def test_decide_once_whoever_hears_what(self, store):
        """Every layer goes to all three at once, and each of them would decide."""

        def ask(views):
            unseen = [number for number, view in enumerate(views) if not view.looks]
            return [Ask(number, 160, 1000) for number in unseen[:1]]  # one after the other

        metrics = [Metrics() for _ in range(3)]
        servers = [store(each, ask=ask, wish_seconds=60) for each in metrics]

        async def tell(thing: str, device: str, label: int, layer: int, is_look: bool):
            eye = Eye(recognition(label, is_look=is_look))
            more = NOTHING if is_look else ON_WISH
            calls = [
                add(kept, eye, device, thing=thing, views=3, layer=layer, more=more, fingerprint=bytes([layer]))
                for kept in servers
            ]
            answers = await asyncio.gather(*calls)
            assert len({answer for answer, _, _ in answers}) == 1
            assert [repeated for _, _, repeated in answers].count(False) == eye.calls == 1

        async def converse(thing: str, device: str) -> Vote:
            await tell(thing, device, 3, 0, False)
            kept = servers[ord(device) % 3]
            while not isinstance(status := await kept.wait(thing, 60, device_id=device), Vote):
                assert status == Wish(1, 1000, 160)
                await tell(thing, device, 7, 1, True)
            return status

        dialogues = [converse(str(thing), device) for thing in range(6) for device in "abc"]
        assert set(await asyncio.gather(*dialogues)) == {Vote(7, "class 7", 3, 3)}
        assert sum(counted(each, "wishes") for each in metrics) == 6 * 3
        assert sum(counted(each, "votes", outcome="unanimous") for each in metrics) == 6
        assert sum(counted(each, name) for each in metrics for name in ("late_views", "overdue_votes")) == 0


class TestServerThatDies:
    async def test_loses_a_layer_and_not_those_before(self, store, short_lease):
        dead, alive = store(), store()
        await add(dead, Eye(recognition(3, is_look=False)), views=1, more=FOLLOWS)
        eye = Eye(held=True)
        call = asyncio.create_task(add(dead, eye, views=1, layer=1))
        await until(lambda: eye.calls)
        await dead.close()
        call.cancel()
        vote = Vote(5, "class 5", 1, 1)
        again = Eye(recognition(5))
        assert await add(alive, again, views=1, layer=1) == (recognition(5), vote, False)
        assert again.known.label == 3
        assert await add(alive, Eye(), views=1, more=FOLLOWS) == (recognition(3, is_look=False), vote, True)

    async def test_loses_its_view_to_a_retry_elsewhere(self, store, short_lease):
        dead, alive = store(), store()
        eye = Eye(held=True)
        call = asyncio.create_task(add(dead, eye, views=2))
        await until(lambda: eye.calls)
        await dead.close()
        call.cancel()
        assert await add(alive, Eye(recognition(3)), views=2) == (recognition(3), 1, False)
        _, vote, _ = await add(alive, Eye(recognition(3)), "b", views=2)
        assert vote == Vote(3, "class 3", 2, 2)

    async def test_leaves_its_place_to_another_device(self, store):
        dead, alive = store(), store()
        eye = Eye(held=True)
        call = asyncio.create_task(add(dead, eye, "a", views=1))
        await until(lambda: eye.calls)
        with pytest.raises(WrongViews):
            await add(alive, Eye(), "b", views=1)
        await dead.close()
        call.cancel()
        store.age(redis.LEASE_SECONDS)
        _, vote, _ = await add(alive, Eye(), "b", views=1)
        assert vote == Vote(7, "class 7", 1, 1)

    async def test_while_it_works_it_keeps_its_view(self, store, monkeypatch):
        lease = 3.0
        monkeypatch.setattr(redis, "LEASE_SECONDS", lease)
        monkeypatch.setattr(sessions, "LEASE_SECONDS", lease / 5)  # by which it is renewed
        one, other, eye, unused = store(), store(), Eye(held=True), Eye()
        first = asyncio.create_task(add(one, eye, views=1))
        await until(lambda: eye.calls)
        retry = asyncio.create_task(add(other, unused, views=1))
        await asyncio.sleep(1.5 * lease)
        eye.free.set()
        await asyncio.gather(first, retry)
        assert unused.calls == 0

    async def test_when_it_wakes_up_its_answer_is_not_counted(self, store, short_lease, monkeypatch):
        slow, quick = store(), store()

        async def sleep(view: SubmittedView, token: str) -> None:
            pass

        monkeypatch.setattr(slow._store, "renew", sleep)
        eye = Eye(recognition(9), held=True)
        late = asyncio.create_task(add(slow, eye, views=2))
        await until(lambda: eye.calls)
        assert await add(quick, Eye(recognition(3)), views=2) == (recognition(3), 1, False)
        eye.free.set()
        assert await late == (recognition(3), 1, True)
        _, vote, _ = await add(quick, Eye(recognition(3)), "b", views=2)
        assert vote == Vote(3, "class 3", 2, 2)


class TestRepeatedCalls:
    """The answer to a call may be lost on the way; the call is then made again."""

    async def test_change_nothing(self, store):
        metrics = Metrics()
        kept = redis.RedisStore(store.server.url, Rules(10, 600, vote_after_seconds=60), metrics)
        view, other = (SubmittedView("cup", device, 0, 2, b"frame") for device in "ab")
        for _ in range(2):
            assert (await kept.claim(view, "one")).outcome == "claimed"
        assert (await kept.claim(view, "two")).outcome == "busy"
        assert (await kept.settle(view, "two", recognition(9))).outcome == "lost"
        for _ in range(2):
            assert (await kept.settle(view, "one", recognition(7))).outcome == "counted"
        for late in (kept.release, kept.renew):
            await late(view, "one")
        assert (await kept.claim(view, "two")).outcome == "answered"
        await kept.claim(other, "one")
        for _ in range(2):
            assert (await kept.settle(other, "one", recognition(7))).status() == Vote(7, "class 7", 2, 2)
        assert counted(metrics, "votes", outcome="unanimous") == 1
        await kept.close()


class TestRedisAway:
    async def test_is_said_and_gets_over(self, store):
        metrics = Metrics()
        kept, eye = store(metrics), Eye()
        await add(kept, Eye(), "a")
        store.server.kill()
        try:
            with pytest.raises(StoreAway, match="can't be reached; send the same request again"):
                await add(kept, eye, "b")
            with pytest.raises(StoreAway):
                await kept.wait("cup", 60)
        finally:
            store.server.start()
        assert eye.calls == 0  # nobody looks at what could not be counted
        assert counted(metrics, "store_errors") == 2
        assert (await add(kept, Eye(), "b"))[1] == 3  # this Redis keeps nothing

    async def test_that_stands_still_is_away_too(self, store, monkeypatch):
        monkeypatch.setattr(redis, "CALL_SECONDS", 2.0)
        kept = store()
        for number in range(5):
            await add(kept, Eye(recognition(number)), thing=str(number), views=1)
        store.server.process.send_signal(signal.SIGSTOP)
        try:
            calls = [kept.wait(str(number), 0) for number in range(5)]
            results = await asyncio.gather(*calls, return_exceptions=True)
        finally:
            store.server.process.send_signal(signal.SIGCONT)
        assert [type(result) for result in results] == [StoreAway] * 5
        # Nobody is told what somebody else had asked for.
        standings = await asyncio.gather(*(kept.wait(str(number), 0) for number in range(5)))
        assert [standing.label for standing in standings] == list(range(5))

    async def test_full_is_away_too(self, store):
        kept = store()
        await add(kept, Eye(), "a", views=2)
        store.server.client.config_set("maxmemory", 1)
        try:
            with pytest.raises(StoreAway):
                await add(kept, Eye(), "b", views=2)
        finally:
            store.server.client.config_set("maxmemory", 0)
        _, vote, _ = await add(kept, Eye(), "b", views=2)
        assert vote == Vote(7, "class 7", 2, 2)  # refused, and nothing that was kept has been forgotten

    async def test_not_there_yet_is_no_reason_not_to_start(self, store):
        store.server.kill()
        kept = store()
        with pytest.raises(Refusal):
            await kept.wait("cup", 0)
        store.server.start()
        with pytest.raises(UnknownObject):
            await kept.wait("cup", 0)


class TestRedisKilled:
    """By -9, and started again; it keeps what it has answered for."""

    @pytest.fixture
    async def store(self, persistent_redis) -> AsyncIterator[RedisStore]:
        made = RedisStore(persistent_redis)
        yield made
        await made.close()

    async def test_views_stay(self, store):
        kept = store()
        for device in "abc":
            await add(kept, Eye(), device)
            store.server.kill()
            store.server.start()
            assert (await add(kept, Eye(recognition(9)), device))[::2] == (recognition(7), True)
        _, vote, _ = await add(kept, Eye(), "d")
        store.server.kill()
        store.server.start()
        assert await kept.wait("cup", 0) == vote == Vote(7, "class 7", 4, 4)

    async def test_views_under_way_are_counted_and_who_waits_is_told(self, store):
        kept, eye = store(), Eye(held=True)
        await add(kept, Eye(), "a", views=2)
        call = asyncio.create_task(add(kept, eye, "b", views=2))
        await until(lambda: eye.calls)
        caller = asyncio.create_task(kept.wait("cup", 60))
        await until_waiting(kept, 1)
        store.server.kill()
        eye.free.set()
        await asyncio.sleep(0.2)
        await asyncio.to_thread(store.server.start)
        vote = Vote(7, "class 7", 2, 2)
        assert await call == (recognition(7), vote, False)
        assert await caller == vote


class TestWhatIsKept:
    async def test_names_from_outside_reach_no_key(self, store):
        kept = store()
        names = ("semlink:2:objects", "*", "a b\r\nFLUSHALL\r\n", "\ud800", "x" * 128, "{a}", "ö")
        for name in names:
            await add(kept, Eye(), name, thing=name, views=1)
            assert await kept.wait(name, 0) == Vote(7, "class 7", 1, 1)
        keys = [key.decode() for key in store.server.client.keys("*")]
        assert len(keys) == len(names) + 2
        for key in keys:
            assert re.fullmatch(r"semlink:2:(objects|(object|votes):[0-9a-f]{64})", key)
            if key.startswith("semlink:2:object:"):
                for field in store.server.client.hkeys(key):
                    assert re.fullmatch(
                        rb"expected|vote|id|list|ttl|most|(answer|print):[0-9a-f]{64}:0"
                        rb"|(frame|layers|token|more|counted|belief|classes|looks):[0-9a-f]{64}",
                        field,
                    )

    async def test_is_bounded_and_ends(self, store):
        kept = store(max_objects=5)
        for number in range(20):
            await add(kept, Eye(), thing=str(number))
        client = store.server.client
        assert len(client.keys("semlink:2:object:*")) == client.zcard("semlink:2:objects") == 5
        assert all(0 < client.pttl(key) <= 600_000 for key in client.keys("*"))

    async def test_refused_and_abandoned_views_leave_nothing(self, store):
        kept, eye = store(), Eye(held=True, patient=True)
        with pytest.raises(RuntimeError):
            await add(kept, Eye(RuntimeError()), thing="one")
        call = asyncio.create_task(add(kept, eye, thing="two"))
        await until(lambda: eye.calls)
        call.cancel()
        await until(lambda: not store.server.client.keys("*"))

    def test_is_told_at_the_start_whether_there_is_such_an_address(self):
        with pytest.raises(ValueError, match="must specify one of the following schemes"):
            redis.RedisStore("http://127.0.0.1", Rules(1, 60), Metrics())
