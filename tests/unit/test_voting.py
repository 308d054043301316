from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from semlink.decision.voting import majority_vote


def exact_vote(labels: list[int], confidences: list[float]) -> int:
    """The rule in exact arithmetic: most views, then the highest summed confidence, then the lowest label."""
    views = Counter(labels)
    summed = dict.fromkeys(labels, Fraction(0))
    for label, confidence in zip(labels, confidences, strict=True):
        summed[label] += Fraction(confidence)
    return min(views, key=lambda label: (-views[label], -summed[label], label))


# Few labels and coarse confidences, so that ties of both kinds are common.
ballots = st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0.0, 0.25, 0.5, 1.0])), min_size=1, max_size=9)


@given(ballots)
def test_agrees_with_exact_arithmetic(ballot):
    labels, confidences = map(list, zip(*ballot, strict=True))
    assert majority_vote(labels, confidences) == exact_vote(labels, confidences)


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.1, 0.2, 0.3])), min_size=6, max_size=8))
@example([(0, 0.1), (0, 0.2), (0, 0.3), (1, 0.1), (1, 0.3), (1, 0.2)])
def test_order_of_arrival_does_not_matter(ballot):
    orders = [ballot, ballot[::-1], sorted(ballot), sorted(ballot)[::-1]]
    assert len({majority_vote(*zip(*order, strict=True)) for order in orders}) == 1


@pytest.mark.parametrize(
    ("labels", "confidences", "winner"),
    [
        ([7], [0.0], 7),
        ([3, 3, 5, 5], [0.2, 0.3, 0.1, 0.5], 5),  # two each: the surer
        ([9, 2], [0.5, 0.5], 2),  # nothing tells them apart: the lower
        ([1, 2, 2, 3], [1.0, 0.1, 0.1, 1.0], 2),  # many beat the sure
        ([8, 8, 8, 1, 1, 1], [0.1, 0.2, 0.3, 0.3, 0.2, 0.1], 1),  # 0.1 + 0.2 + 0.3 depends on the order
    ],
)
def test_ties(labels, confidences, winner):
    assert majority_vote(labels, confidences) == winner


def test_takes_arrays_and_returns_an_int():
    answer = majority_vote(np.array([4, 4, 1], np.uint32), np.array([0.1, 0.2, 0.9], np.float32))
    assert answer == 4
    assert type(answer) is int


@pytest.mark.parametrize(("labels", "confidences"), [([], []), ([1], []), ([1, 2], [0.5, np.nan])])
def test_refuses_confidences(labels, confidences):
    with pytest.raises(ValueError, match=r"^confidences must"):
        majority_vote(labels, confidences)


def test_refuses_a_count_and_says_which_is_right():
    with pytest.raises(ValueError, match=r"^confidences must be as many as labels: 3, not 2$"):
        majority_vote([1, 2, 3], [0.5, 0.5])
