"""Tries of the dialogue: the budget that is kept to, and what each try changes."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from experiments import asking_tries
from experiments.asking_tries import Looks, all_tries, among_named, halves, looked_at, one_class, price_of
from experiments.calibrating import OPINION_BITS, Replay, Table, ask, fit_rungs
from experiments.classifiers import STAND_IN
from experiments.still_kinds import kinds
from semlink.vision.weights import DEVICE_MODEL

CLASSES, PICTURES = 20, 120


def answers(skill: float, seed: int) -> NDArray[np.float64]:
    """(B, C) logits that are right more often with more skill."""
    logits = np.random.default_rng(seed).normal(0, 1, (PICTURES, CLASSES))
    logits[np.arange(PICTURES), np.arange(PICTURES) % CLASSES] += skill
    return logits


def first_rung(table: Table) -> Table:
    return replace(table, looks=dict([*table.looks.items()][:1]))


@pytest.fixture(scope="module")
def looks() -> Looks:
    skills = np.linspace(1, 4, len(kinds()))
    found = {(STAND_IN, "clean"): answers(4, 0), (DEVICE_MODEL, "clean"): answers(2, 1)}
    for number, kind in enumerate(kinds()):
        found[STAND_IN, kind.name] = answers(skills[number], 2 + number)
        found[DEVICE_MODEL, kind.name] = found[DEVICE_MODEL, "clean"]
    sizes = {kind.name: np.full(PICTURES, kind.budget_bytes) for kind in kinds()}
    return Looks(np.arange(PICTURES) % CLASSES, sizes, found)


@pytest.fixture
def table(looks: Looks) -> Table:
    return looks.table(STAND_IN, ["112, 753", "224, 6020"])


def test_the_price_keeps_to_the_budget_and_spends_it(table: Table) -> None:
    even, _ = halves(table)
    replay = Replay(even, fit_rungs(even, "device", "server"))
    budget = 2_500.0

    def spent(price: float) -> float:
        return float(np.mean([ask(replay, view, price).bits for view in even.views()]))

    price = price_of(replay, ask, budget)
    assert spent(price) <= budget < spent(price / 1.01)


def test_halves_are_of_even_and_odd_labels(table: Table) -> None:
    even, odd = halves(table)
    assert not (even.labels % 2).any()
    assert (odd.labels % 2).all()
    assert even.labels.size + odd.labels.size == PICTURES


def test_every_photo_of_a_single_rung_is_sent(looks: Looks) -> None:
    outcome = looked_at(looks.table(STAND_IN, ["224, 6020"]))
    assert outcome.bits == OPINION_BITS + 8 * 6020
    assert len(outcome.right) == PICTURES // 2


def test_an_opinion_of_one_class_keeps_its_answer_alone(table: Table) -> None:
    changed = one_class(table)
    assert np.array_equal(changed.device.argmax(axis=1), table.device.argmax(axis=1))
    assert all(np.unique(each).size == 2 for each in changed.device)


def test_looks_at_named_classes_see_no_others(table: Table) -> None:
    seen = among_named(table, named=3).looks[224, 6020].server
    named = np.argsort(-table.device, axis=1)[:, :3]
    assert all(label in row for label, row in zip(seen.argmax(axis=1), named, strict=True))


def test_all_tries_can_be_measured(looks: Looks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking_tries, "SERVERS", (STAND_IN,))
    monkeypatch.setattr(
        asking_tries,
        "played",
        lambda table, *how: looked_at(replace(table, looks=dict([*table.looks.items()][:1]))),
    )
    rows = asking_tries.measure(looks)
    assert len(rows) == len(all_tries({kind.name for kind in kinds()}))
    assert {row["gain"]["images"] for row in rows} == {PICTURES // 2}
