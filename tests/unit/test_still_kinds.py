"""Kinds of stills that were tried, and what is kept of answers; against definitions and brute force."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from experiments.still_kinds import KEPT, NAMED, Answers, Kind, _window, kinds, made

GENERATOR = np.random.default_rng(0)


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    coarse = np.random.default_rng(1).integers(0, 256, (14, 14, 3), np.uint8)
    return coarse.repeat(16, axis=0).repeat(16, axis=1)


@pytest.mark.parametrize(
    "kind",
    [
        Kind("whole", 160, 3010, "jpeg"),
        Kind("crop", 160, 3010, "jpeg", window=0.5),
        Kind("blurred", 160, 3010, "jpeg", background=3.0),
        Kind("refined", 224, 3010, "jpeg", refines=Kind("first", 112, 1505, "jpeg")),
    ],
    ids=lambda kind: kind.name,
)
def test_a_still_keeps_to_its_budget(kind: Kind, picture) -> None:
    size, seen = made(kind, picture, GENERATOR.dirichlet([0.5] * 196))
    assert size <= kind.budget_bytes
    assert (seen.shape, seen.dtype) == ((224, 224, 3), np.uint8)


def test_a_second_still_refines_the_first(picture) -> None:
    first = Kind("first", 112, 1505, "jpeg")
    attention = np.full(196, 1 / 196)
    (spent, coarse), (_, fine) = (
        made(kind, picture, attention) for kind in (first, Kind("fine", 224, 12040, "jpeg", refines=first))
    )
    assert spent <= 1505
    errors = [np.abs(seen.astype(int) - picture).mean() for seen in (coarse, fine)]
    assert errors[1] < errors[0] / 2


def test_the_window_is_the_smallest_square_with_its_share() -> None:
    for _ in range(20):
        attention = GENERATOR.dirichlet([0.05] * 196)
        share = GENERATOR.uniform(0.2, 1)
        left, top, right, bottom = (each // 16 for each in _window(attention, share))
        held = attention.reshape(14, 14)
        assert right - left == bottom - top
        assert held[top:bottom, left:right].sum() >= share - 1e-12
        smaller = range(14 - (right - left) + 2) if right - left > 1 else ()
        side = right - left - 1
        assert all(held[y : y + side, x : x + side].sum() < share for y in smaller for x in smaller)


def test_likely_and_named_classes_are_kept() -> None:
    logits = GENERATOR.normal(0, 3, (3, 100))
    named = GENERATOR.permuted(np.tile(np.arange(100, dtype=np.int16), (3, 1)), axis=1)[:, :NAMED]
    kept, whole = Answers.of(logits, named).log_probabilities(), np.log(softmax(logits, axis=1))
    rows = np.arange(3)[:, None]
    # Half precision has three digits.
    assert kept[rows, named] == pytest.approx(whole[rows, named], rel=1e-3)
    likely = np.argsort(-whole, axis=1)[:, :KEPT]
    assert kept[rows, likely] == pytest.approx(whole[rows, likely], rel=1e-3)
    assert np.exp(kept).sum(axis=1) == pytest.approx(1, abs=5e-3)


def test_every_kind_has_a_name_of_its_own() -> None:
    names = [kind.name for kind in kinds()]
    assert len(set(names)) == len(names)
