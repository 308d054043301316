"""Sessions against a model of them that is as simple as can be, under any order of layers, failures and time."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from session_stores import Eye, MemoryStore, RedisStore, add, memory_store, recognition

from semlink.decision.asking import Ask
from server.refusals import AlreadyViewed, UnknownObject, WrongViews
from server.sessions import FOLLOWS, NOTHING, ON_WISH, Vote, Wish

TTL, PATIENCE, QUORUM, WISH_SECONDS = 60_000, 6_000, 2, 2_000
UNSURE = 1
"""Views of this label are asked for a picture."""


def ask(views):
    return [
        Ask(number, 160, 1000)
        for number, view in enumerate(views)
        if view.may_be_asked and not view.looks and view.belief.label == UNSURE
    ]


@dataclass
class View:
    """One device's: its frame, the label and what may follow of every layer, and how many layers are counted."""

    frame: int
    layers: list[tuple[int, int]] = field(default_factory=list)
    counted: int = 0

    @property
    def is_complete(self) -> bool:
        return self.counted > 0 and self.layers[self.counted - 1][1] != FOLLOWS

    @property
    def wish(self) -> Wish | None:
        """What is asked of it when the object is decided."""
        label, more = self.layers[self.counted - 1]
        is_open = self.counted == 1 and more == ON_WISH and label == UNSURE
        return Wish(1, 1000, 160) if is_open else None


class Model:
    """One object: its views by their devices, and its vote."""

    def __init__(self, expected: int, now: float) -> None:
        self.expected, self.touched = expected, now
        self.views: dict[str, View] = {}
        self.due: float | None = None
        self.asked: set[str] = set()
        self.asked_until = 0.0
        self.vote: Vote | None = None

    @property
    def counted(self) -> list[View]:
        return [view for view in self.views.values() if view.counted]

    @property
    def missing(self) -> int:
        return self.expected - sum(view.is_complete for view in self.counted)

    def decide(self, now: float, *, is_changed: bool = False) -> None:
        """Takes the vote or asks, if it is time."""
        due = self.due is not None and now >= self.due and len(self.counted) >= QUORUM
        is_overdue = self.asked and now >= self.asked_until
        if self.vote or not self.counted or not (is_overdue or due or not self.missing):
            return
        if self.asked and not is_changed and not is_overdue:
            return
        wanted = {device for device, view in self.views.items() if view.counted and view.wish}
        if wanted and not is_overdue:
            if wanted - self.asked:
                self.asked_until = now + WISH_SECONDS
            self.asked = wanted
            return
        counts = Counter(view.layers[view.counted - 1][0] for view in self.counted)
        label = max(counts, key=lambda label: (counts[label], -label))  # all are equally sure
        self.vote = Vote(label, f"class {label}", counts[label], len(self.counted))

    def standing(self, device: str = "") -> Vote | Wish | int:
        if self.vote is None and device in self.asked:
            return Wish(1, 1000, 160)
        return self.vote or self.missing


class SessionsMachine(RuleBasedStateMachine):
    store: MemoryStore | RedisStore

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        if isinstance(self.store, RedisStore):
            self.store.server.client.flushall()
        rules = {"ttl_seconds": TTL, "vote_after_seconds": PATIENCE, "quorum": QUORUM,
                 "ask": ask, "wish_seconds": WISH_SECONDS}  # fmt: skip
        servers = 2 if isinstance(self.store, RedisStore) else 1
        self.servers = [self.store(**rules) for _ in range(servers)]
        self.model: dict[str, Model] = {}
        self.now = 0.0

    def find(self, thing: str) -> Model | None:
        model = self.model.get(thing)
        if model is None or self.now >= model.touched + TTL or not model.views:
            return None
        model.decide(self.now)
        return model

    @rule(
        server=st.integers(0, 1),
        thing=st.sampled_from(["cup", "cup", "cup", "hat"]),
        device=st.sampled_from("abc"),
        frame=st.sampled_from([*9 * [0], 1]),
        layer=st.sampled_from([0, 0, 0, 0, 1, 1, 2]),
        more=st.sampled_from([NOTHING, FOLLOWS, *4 * [ON_WISH]]),
        expected=st.sampled_from([*7 * [2], 3, 1]),
        label=st.sampled_from([1, 1, 1, 2, 3]),
        fails=st.sampled_from([*7 * [False], True]),
    )
    def send(self, server, thing, device, frame, layer, more, expected, label, fails):
        kept = self.servers[server % len(self.servers)]
        said = recognition(label, is_look=layer > 0)
        model = self.find(thing) or Model(expected, self.now)
        view = model.views.get(device)
        call = add(
            kept, Eye(RuntimeError("no light") if fails else said), device,
            thing=thing, frame=frame, views=expected, layer=layer, more=more,
        )  # fmt: skip
        wanted: type[Exception] | None = RuntimeError if fails else None
        if view and view.frame != frame:
            wanted = AlreadyViewed
        elif view and layer < len(view.layers):
            first = recognition(view.layers[layer][0], is_look=layer > 0)
            assert self.runner.run(call) == (first, model.standing(device), True)
            return
        elif layer > (len(view.layers) if view else 0):
            wanted = UnknownObject
        elif view:
            wanted = WrongViews if view.layers[-1][1] == NOTHING else wanted
        elif model.views and (model.expected != expected or len(model.views) == model.expected):
            wanted = WrongViews
        if wanted:
            with pytest.raises(wanted):
                self.runner.run(call)
            if wanted is RuntimeError and model.views:
                model.touched = self.now  # as long as it was looked at, it was not forgotten
            return
        answer = self.runner.run(call)
        view = model.views.setdefault(device, View(frame))
        view.layers.append((label, more))
        if model.vote is None:
            view.counted += 1
            model.asked.discard(device)
            model.due = self.now + PATIENCE if model.due is None else model.due
            model.decide(self.now, is_changed=True)
        model.touched = self.now
        self.model[thing] = model
        assert answer == (said, model.standing(device), False)

    @rule(server=st.integers(0, 1), thing=st.sampled_from(["cup", "hat"]), device=st.sampled_from(["", *"abc"]))
    def ask(self, server, thing, device):
        call = self.servers[server % len(self.servers)].wait(thing, 0, device_id=device)
        model = self.find(thing)
        if model is None or (device and device not in model.views and not model.vote):
            with pytest.raises(UnknownObject):
                self.runner.run(call)
        else:
            assert self.runner.run(call) == model.standing(device)

    @precondition(lambda self: self.model)
    @rule(
        seconds=st.sampled_from(
            [*4 * [WISH_SECONDS // 2 + 100], WISH_SECONDS + 100, PATIENCE + 1000, TTL // 2, TTL + 1000]
        )
    )
    def age(self, seconds):
        self.store.age(seconds)
        self.now += seconds

    def teardown(self):
        self.runner.run(self.store.close())
        self.runner.close()


@pytest.mark.parametrize(("kind", "examples"), [("memory", 60), ("redis", 10)])
def test_sessions_are_as_their_model(kind, examples, request):
    with memory_store() as memory:
        store = memory if kind == "memory" else RedisStore(request.getfixturevalue("redis_server"))
        machine = type("Machine", (SessionsMachine,), {"store": store})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples, stateful_step_count=30, suppress_health_check=list(HealthCheck)
            ),
        )
