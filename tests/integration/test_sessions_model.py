"""Sessions against a model of them that is as simple as can be, under any order of views, failures and time."""

import asyncio
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from session_stores import Eye, MemoryStore, RedisStore, add, memory_store, recognition

from server.refusals import AlreadyViewed, UnknownObject, WrongViews
from server.sessions import Vote

TTL, PATIENCE, QUORUM = 600, 60, 2


class Model:
    """One object: its views in the order they came, as (device, frame, label), and its vote."""

    def __init__(self, expected: int, now: float) -> None:
        self.expected, self.touched = expected, now
        self.views: list[tuple[str, int, int]] = []
        self.late: list[tuple[str, int, int]] = []
        self.due = None
        self.vote: Vote | None = None

    def take_vote(self, now: float) -> None:
        due = self.due is not None and now >= self.due and len(self.views) >= QUORUM
        if self.vote is None and (due or len(self.views) == self.expected):
            counts = Counter(label for _, _, label in self.views)
            label = max(counts, key=lambda label: (counts[label], -label))  # all are equally sure
            self.vote = Vote(label, f"class {label}", counts[label], len(self.views))

    @property
    def standing(self) -> Vote | int:
        return self.vote or self.expected - len(self.views)


class SessionsMachine(RuleBasedStateMachine):
    store: MemoryStore | RedisStore

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        if isinstance(self.store, RedisStore):
            self.store.server.client.flushall()
        rules = {"ttl_seconds": TTL, "vote_after_seconds": PATIENCE, "quorum": QUORUM}
        servers = 2 if isinstance(self.store, RedisStore) else 1
        self.servers = [self.store(**rules) for _ in range(servers)]
        self.model: dict[str, Model] = {}
        self.now = 0.0

    def find(self, thing: str) -> Model | None:
        model = self.model.get(thing)
        if model is None or self.now >= model.touched + TTL or not model.views:
            return None
        model.take_vote(self.now)
        return model

    @rule(
        server=st.integers(0, 1),
        thing=st.sampled_from(["cup", "hat"]),
        device=st.sampled_from("abcd"),
        frame=st.integers(0, 1),
        expected=st.sampled_from([1, 3, 3, 3]),
        label=st.integers(1, 3),
        fails=st.sampled_from([False, False, False, True]),
    )
    def send(self, server, thing, device, frame, expected, label, fails):
        kept = self.servers[server % len(self.servers)]
        eye = Eye(RuntimeError("no light") if fails else recognition(label))
        model = self.find(thing) or Model(expected, self.now)
        given = [view for view in (*model.views, *model.late) if view[0] == device]
        call = add(kept, eye, device, thing=thing, frame=frame, views=expected)
        if given and given[0][1] != frame:
            wanted: type[Exception] | None = AlreadyViewed
        elif given:
            wanted = None
        elif model.expected != expected or len(model.views) + len(model.late) == model.expected:
            wanted = WrongViews
        else:
            wanted = RuntimeError if fails else None
        if wanted:
            with pytest.raises(wanted):
                self.runner.run(call)
            if wanted is RuntimeError and model.views:
                model.touched = self.now  # as long as it was looked at, it was not forgotten
            return
        answer = self.runner.run(call)
        if given:
            assert answer == (recognition(given[0][2]), model.standing, True)
            return
        view = device, frame, label
        if model.vote:
            model.late.append(view)
        else:
            model.views.append(view)
            model.due = self.now + PATIENCE if model.due is None else model.due
            model.take_vote(self.now)
        model.touched = self.now
        self.model[thing] = model
        assert answer == (recognition(label), model.standing, False)

    @rule(server=st.integers(0, 1), thing=st.sampled_from(["cup", "hat"]))
    def ask(self, server, thing):
        call = self.servers[server % len(self.servers)].wait(thing, 0)
        model = self.find(thing)
        if model is None:
            with pytest.raises(UnknownObject):
                self.runner.run(call)
        else:
            assert self.runner.run(call) == model.standing

    @precondition(lambda self: self.model)
    @rule(seconds=st.sampled_from([PATIENCE + 10, TTL // 2, TTL + 10]))
    def age(self, seconds):
        self.store.age(seconds)
        self.now += seconds

    def teardown(self):
        self.runner.run(self.store.close())
        self.runner.close()


@pytest.mark.parametrize(("kind", "examples"), [("memory", 40), ("redis", 10)])
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
