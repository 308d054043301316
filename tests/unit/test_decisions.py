"""Decisions on an object: when there is one, and votes against counting by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semlink.decision.asking import Ask
from server.model import Prediction
from server.sessions.decisions import (
    FOLLOWS,
    LAST_LAYER,
    NOTHING,
    ON_WISH,
    CountedView,
    Standing,
    Vote,
    Wish,
    belief_of,
    decide,
    vote_of,
)

CLASSES = 8
"""As many as a belief names at most: none is spread evenly."""


def named(*likely: tuple[int, float]) -> tuple[Prediction, ...]:
    return tuple(Prediction(label, f"class {label}", sure) for label, sure in likely)


def view(label: int = 3, sure: float = 0.5, *, layer: int = 0, more: int = NOTHING, looks: int = 0) -> CountedView:
    return CountedView(named((label, sure)), CLASSES, layer, more, looks)


def ask_all(states):
    """Whatever may be asked."""
    return [Ask(number, 160, 1000) for number, state in enumerate(states) if state.may_be_asked]


def ask_nothing(states):
    return ()


@st.composite
def views(draw) -> CountedView:
    labels = draw(st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=5, unique=True))
    shares = sorted((draw(st.floats(0.01, 1)) for _ in labels), reverse=True)
    whole = sum(shares) + draw(st.floats(0.01, 2))
    likely = named(*((label, share / whole) for label, share in zip(labels, shares, strict=True)))
    return CountedView(likely, CLASSES, 0, NOTHING, 0)


def all_probabilities(counted: CountedView) -> np.ndarray:
    left = 1 - sum(each.confidence for each in counted.named)
    whole = np.full(CLASSES, left / (CLASSES - len(counted.named)))
    for each in counted.named:
        whole[each.label] = each.confidence
    return whole


@given(st.lists(views(), min_size=1, max_size=6), st.randoms())
def test_a_vote_counts_labels_and_multiplies_probabilities(counted, random):
    vote = vote_of(counted)
    firsts = [each.named[0] for each in counted]
    votes = {label: sum(first.label == label for first in firsts) for label in {first.label for first in firsts}}
    assert (vote.votes, vote.views) == (max(votes.values()), len(counted)) == (votes[vote.label], vote.views)
    assert vote.name == f"class {vote.label}"
    product = np.prod([all_probabilities(each) for each in counted], axis=0)
    names = {each.label for view in counted for each in view.named}
    assert product[vote.fused.label] == pytest.approx(max(product[label] for label in names))
    shares = product ** (1 / np.sqrt(len(counted)))
    assert vote.fused.confidence == pytest.approx(shares[vote.fused.label] / shares.sum())
    shuffled = random.sample(counted, len(counted))
    assert vote_of(shuffled) == vote


def test_rounded_probabilities_are_a_belief():
    """As a softmax in single precision gives them: a little too much in all, and nothing for the rest."""
    belief = belief_of(named((3, 1.0), (5, 1e-8), (7, 0.0)), CLASSES)
    assert belief.labels.tolist() == [3, 5]
    assert belief.probabilities.sum() <= 1


@pytest.mark.parametrize(
    ("standing", "is_vote"),
    [
        (Standing(), None),
        (Standing(2, {"a": view(), "b": None}), None),  # one is being worked out
        (Standing(2, {"a": view(), "b": view(more=FOLLOWS)}), None),
        (Standing(2, {"a": view(), "b": view(more=FOLLOWS)}, is_due=True), True),
        (Standing(2, {"a": None}, is_due=True), None),
        (Standing(2, {"a": view(), "b": view()}), True),
        (Standing(2, {"a": view(), "b": view(more=ON_WISH)}), False),
        (Standing(3, {"a": view(), "b": view(more=ON_WISH)}, is_due=True), False),
        (Standing(2, {"a": view(), "b": view(more=ON_WISH)}, decided=2), None),  # asked, and not heard since
        (Standing(2, {"a": view(), "b": view(more=ON_WISH)}, decided=1), False),
        (Standing(2, {"a": view(), "b": view(more=ON_WISH)}, decided=2, is_overdue=True), True),
        (Standing(3, {"a": view(), "b": view(more=ON_WISH)}, decided=2, is_overdue=True), True),
        (Standing(1, {"a": view(layer=LAST_LAYER, more=ON_WISH)}), True),  # there is no layer after it
        (Standing(1, {"a": view()}, vote=Vote(3, "class 3", 1, 1)), None),
    ],
)
def test_when_there_is_something_to_decide(standing, is_vote):
    decision = decide(standing, ask_all)
    assert isinstance(decision, Vote) == (is_vote is True)
    assert isinstance(decision, dict) == (is_vote is False)
    if is_vote is False:
        assert decision == {"b": Wish(1, 1000, 160)}
        assert isinstance(decide(standing, ask_nothing), Vote)


def test_those_that_are_asked_are_found_by_their_keys():
    """Servers list views in any order; each asks for the next layer of the same ones."""
    stood = {"b": view(more=ON_WISH, layer=1, looks=1), "c": view(), "a": view(more=ON_WISH)}
    wishes = {"a": Wish(1, 1000, 160), "b": Wish(2, 1000, 160)}
    assert decide(Standing(3, stood), ask_all) == wishes
    assert decide(Standing(3, dict(sorted(stood.items()))), ask_all) == wishes
