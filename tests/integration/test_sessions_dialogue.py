"""Views in layers and the wishes between them, in memory and in Redis alike."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from session_stores import Eye, add, recognition, until, until_waiting

from semlink.decision.asking import Ask, ViewState
from server.batching import Recognition
from server.metrics import Metrics
from server.model import Prediction
from server.refusals import AlreadyViewed, UnknownObject, WrongViews
from server.sessions import FOLLOWS, NOTHING, ON_WISH, Sessions, Vote, Wish

WISH = Wish(layer=1, most_bytes=1500, side=160)


def ask_unsure(views: Sequence[ViewState]) -> list[Ask]:
    """Asks every view that is less than half sure, once."""
    return [
        Ask(number, WISH.side, WISH.most_bytes)
        for number, view in enumerate(views)
        if view.may_be_asked and not view.looks and view.belief.confidence < 0.5
    ]


async def opine(kept: Sessions, device: str, label: int, confidence: float, *, more: int = ON_WISH, **others):
    eye = Eye(recognition(label, confidence, is_look=False))
    return (await add(kept, eye, device, more=more, **{"views": 2} | others))[1]


async def show(kept: Sessions, device: str, label: int, *, more: int = NOTHING, **others):
    eye = Eye(recognition(label, 0.9))
    others = {"views": 2, "layer": 1, "fingerprint": b"picture"} | others
    return (await add(kept, eye, device, more=more, **others))[1]


def counted(metrics: Metrics, name: str) -> float:
    return metrics.registry.get_sample_value(f"semlink_server_{name}_total")


class TestWish:
    async def test_goes_to_the_view_that_is_asked_and_its_picture_ends_it(self, store):
        metrics = Metrics()
        kept = store(metrics, ask=ask_unsure)
        assert await opine(kept, "a", 3, 0.4) == 1
        assert await opine(kept, "b", 7, 0.8) == 0  # nothing is missing, but more is wanted of the other
        assert await kept.wait("cup", 0, device_id="b") == 0
        assert await kept.wait("cup", 0, device_id="a") == await opine(kept, "a", 3, 0.4) == WISH
        vote = Vote(7, "class 7", 2, 2)
        assert await show(kept, "a", 7) == vote
        assert await kept.wait("cup", 0) == await kept.wait("cup", 0, device_id="a") == vote
        assert await show(kept, "a", 9) == vote  # repeated
        assert counted(metrics, "wishes") == 1
        assert counted(metrics, "late_views") == counted(metrics, "overdue_votes") == 0

    async def test_wakes_its_device_alone_and_the_vote_all(self, store):
        kept = store(ask=ask_unsure)
        await opine(kept, "a", 3, 0.4)
        asked, other = (asyncio.create_task(kept.wait("cup", 60, device_id=each)) for each in ("a", ""))
        await until_waiting(kept, 2)
        await opine(kept, "b", 7, 0.8)
        assert await asked == WISH
        assert not other.done()
        vote = await show(kept, "a", 7)
        assert await other == vote == Vote(7, "class 7", 2, 2)

    async def test_that_is_not_fulfilled_ends_in_a_vote_with_what_is_there(self, store):
        metrics = Metrics()
        kept = store(metrics, ask=ask_unsure, wish_seconds=300)
        await opine(kept, "a", 3, 0.4)
        await opine(kept, "b", 7, 0.8)
        store.age(200)
        assert await kept.wait("cup", 0, device_id="a") == WISH
        store.age(100)
        assert await show(kept, "a", 7) == Vote(7, "class 7", 1, 2)  # too late, though nobody had asked
        assert counted(metrics, "late_views") == counted(metrics, "overdue_votes") == 1

    async def test_several_are_decided_with_each_picture_that_comes(self, store):
        kept = store(ask=ask_unsure, wish_seconds=30)
        for device, standing in [("a", 2), ("b", 1), ("c", WISH)]:
            assert await opine(kept, device, 3, 0.4, views=3) == standing
        store.age(20)
        assert await show(kept, "a", 7, views=3) == 0  # the other two are still awaited, for as long as before
        assert await kept.wait("cup", 0, device_id="b") == WISH
        store.age(10)
        assert await kept.wait("cup", 0, device_id="b") == Vote(3, "class 3", 2, 3)

    async def test_that_is_overdue_waits_for_nothing_else(self, store):
        """One of two that were asked says that more follows, and the other is silent."""
        kept = store(ask=ask_unsure, wish_seconds=30)
        for device in "ab":
            await opine(kept, device, 3, 0.4)
        assert await show(kept, "a", 7, more=FOLLOWS) == 1
        assert await kept.wait("cup", 0, device_id="b") == WISH
        store.age(30)
        assert await show(kept, "b", 7) == Vote(7, "class 7", 1, 2)
        assert await kept.wait("cup", 0) == Vote(7, "class 7", 1, 2)

    async def test_can_be_withdrawn(self, store):
        """What another picture says may be enough: then nobody waits for those that were asked too."""

        def ask_while_none_is_seen(views):
            return [] if any(view.looks for view in views) else ask_unsure(views)

        kept = store(ask=ask_while_none_is_seen)
        await opine(kept, "a", 3, 0.4)
        await opine(kept, "b", 3, 0.4)
        assert await show(kept, "b", 7) == Vote(7, "class 7", 1, 2)
        assert await show(kept, "a", 7) == Vote(7, "class 7", 1, 2)  # answered, and not counted any more

    async def test_at_the_deadline_those_that_are_in_are_asked(self, store):
        kept = store(ask=ask_unsure, vote_after_seconds=30, wish_seconds=5)
        await opine(kept, "a", 3, 0.4)
        store.age(30)
        assert await kept.wait("cup", 0, device_id="a") == WISH
        assert await show(kept, "a", 7) == Vote(7, "class 7", 1, 1)

    async def test_a_view_that_comes_while_others_are_asked_is_counted(self, store):
        kept = store(ask=ask_unsure, vote_after_seconds=30, wish_seconds=5)
        await opine(kept, "a", 3, 0.4, views=3)
        store.age(31)
        assert await kept.wait("cup", 0, device_id="a") == WISH
        assert await opine(kept, "b", 7, 0.9, views=3) == 1
        assert await show(kept, "a", 7, views=3) == Vote(7, "class 7", 2, 2)


class TestLayers:
    async def test_a_view_that_is_to_go_on_is_incomplete(self, store):
        kept = store(ask=ask_unsure)
        await opine(kept, "a", 7, 0.9)
        assert await opine(kept, "b", 3, 0.2, more=FOLLOWS) == 1
        assert await show(kept, "b", 7) == Vote(7, "class 7", 2, 2)

    async def test_what_was_to_follow_and_does_not_holds_nobody_up(self, store):
        kept = store(vote_after_seconds=30)
        await opine(kept, "a", 3, 0.6, more=FOLLOWS, views=1)
        store.age(30)
        assert await kept.wait("cup", 0) == Vote(3, "class 3", 1, 1)

    async def test_each_is_given_the_opinion(self, store):
        kept, eye = store(), Eye()
        await opine(kept, "a", 3, 0.4)
        await add(kept, eye, views=2, layer=1, more=ON_WISH)
        assert (eye.known.labels.tolist(), eye.known.classes) == ([3, 999], 1000)
        assert eye.known.probabilities == pytest.approx([0.4, 0.01])
        third = Eye()
        await add(kept, third, views=2, layer=2)
        assert third.known.labels.tolist() == [3, 999]  # not what was made of it since
        picture = Eye()
        await add(kept, Eye(), "b", views=2, more=ON_WISH)
        await add(kept, picture, "b", views=2, layer=1)
        assert picture.known is None

    async def test_repeated_is_answered_with_its_first_answer(self, store):
        kept, unused = store(ask=ask_unsure), Eye()
        await opine(kept, "a", 3, 0.4)
        await opine(kept, "b", 7, 0.9)
        await show(kept, "a", 7)
        for layer, fingerprint, first in [
            (0, b"frame", recognition(3, 0.4, is_look=False)),
            (1, b"picture", recognition(7, 0.9)),
        ]:
            answer = await add(kept, unused, "a", views=2, layer=layer, fingerprint=fingerprint)
            assert answer == (first, Vote(7, "class 7", 2, 2), True)
        assert unused.calls == 0

    async def test_waits_for_the_one_before(self, store):
        kept, eye = store(), Eye(recognition(3, 0.4), held=True)
        first = asyncio.create_task(add(kept, eye, views=1, more=FOLLOWS))
        await until(lambda: eye.calls)
        second = asyncio.create_task(show(kept, "a", 7, views=1))
        await asyncio.sleep(0)
        eye.free.set()
        assert (await first)[1] == 1
        assert await second == Vote(7, "class 7", 1, 1)

    async def test_of_what_is_forgotten_begins_anew(self, store):
        kept = store()
        with pytest.raises(UnknownObject, match=r"layer 0 .* has not arrived, or it has been forgotten: begin"):
            await show(kept, "a", 7)
        await opine(kept, "b", 7, 0.9)
        with pytest.raises(UnknownObject):
            await show(kept, "a", 7)
        with pytest.raises(UnknownObject, match="no view of object 'cup' by this device"):
            await kept.wait("cup", 60, device_id="a")
        await opine(kept, "a", 7, 0.9)
        with pytest.raises(UnknownObject):
            await show(kept, "a", 7, layer=2)

    async def test_refusals(self, store):
        kept = store()
        await opine(kept, "a", 3, 0.4)
        for other in ({"frame": 1}, {"layer": 0, "fingerprint": b"other"}):
            with pytest.raises(AlreadyViewed):
                await show(kept, "a", 7, **other)
        await show(kept, "a", 7)
        with pytest.raises(AlreadyViewed):
            await show(kept, "a", 7, fingerprint=b"other")
        with pytest.raises(WrongViews, match="is complete"):
            await show(kept, "a", 7, layer=2)
        assert await kept.wait("cup", 0) == 1

    async def test_one_that_fails_leaves_those_before(self, store):
        kept = store(ask=ask_unsure)
        await opine(kept, "a", 3, 0.4)
        await opine(kept, "b", 7, 0.8)
        with pytest.raises(RuntimeError):
            await add(kept, Eye(RuntimeError("no light")), "a", views=2, layer=1, fingerprint=b"broken")
        assert await kept.wait("cup", 0, device_id="a") == WISH
        assert await show(kept, "a", 7) == Vote(7, "class 7", 2, 2)

    async def test_late_ones_know_their_own_opinion(self, store):
        kept = store(vote_after_seconds=30)
        await opine(kept, "a", 7, 0.9)
        store.age(30)
        vote = Vote(7, "class 7", 1, 1)
        assert await opine(kept, "b", 3, 0.4) == vote
        eye = Eye()
        assert await add(kept, eye, "b", views=2, layer=1) == (recognition(7), vote, False)
        assert eye.known.label == 3


async def test_all_views_together(store):
    """Two views of one mind and one that is surer: the majority and what is likeliest differ."""
    kept = store()
    for device, likely in [("a", {3: 0.5, 7: 0.4}), ("b", {3: 0.5, 7: 0.4}), ("c", {7: 0.9, 3: 0.09})]:
        named = tuple(Prediction(label, f"class {label}", sure) for label, sure in likely.items())
        eye = Eye(Recognition(named, 0, 0, 0, named, 3 + 5))
        _, vote, _ = await add(kept, eye, device, views=3)
    assert (vote.label, vote.votes, vote.fused.label, vote.fused.name) == (3, 2, 7, "class 7")
    weights = np.array([0.5 * 0.5 * 0.09, 0.4 * 0.4 * 0.9, *6 * [(0.1 / 6) ** 2 * 0.01 / 6]]) ** 3**-0.5
    assert vote.fused.confidence == pytest.approx((weights / weights.sum())[1])
    (listed,) = await kept.votes("", "", 10)
    assert listed.vote.fused == vote.fused == (await kept.wait("cup", 0)).fused
