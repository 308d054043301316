import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semlink.decision.belief import LEAST, Belief

CLASSES = 12
shares = st.lists(st.integers(1, 50), min_size=CLASSES, max_size=CLASSES).map(lambda parts: np.array(parts, float))


@given(shares, st.integers(1, CLASSES))
def test_names_the_likeliest_and_keeps_what_is_left(parts, named):
    whole = parts / parts.sum()
    belief = Belief.of(whole, named)
    by_hand = sorted(range(CLASSES), key=lambda label: (-whole[label], label))[:named]
    assert belief.labels.tolist() == by_hand
    assert (belief.label, belief.confidence) == (by_hand[0], whole[by_hand[0]])
    every = np.exp(belief.log_probabilities())
    np.testing.assert_array_equal(every[by_hand], np.exp(np.log(whole[by_hand])))
    others = np.delete(every, by_hand)
    # All others are equally likely, and have together what the named ones leave, or the least there is: 1 less
    # a sum that is rounded to 1e-16, which is 1e-7 of 1e-9.
    np.testing.assert_allclose(others, max(1 - whole[by_hand].sum(), LEAST) / max(others.size, 1), rtol=1e-6)


@pytest.mark.parametrize(
    ("labels", "probabilities", "classes"),
    [
        ([0, 0], [0.5, 0.4], 3),
        ([3], [0.5], 3),
        ([-1], [0.5], 3),
        ([0, 1], [0.4, 0.5], 3),
        ([0, 1], [0.6, 0.5], 3),
        ([0, 1], [0.6, 0.0], 3),
        ([0, 1], [0.6], 3),
        ([0.0], [0.6], 3),
        ([], [], 3),
        ([0], [np.nan], 3),
        ([0], [0.5], 0),
    ],
)
def test_refuses_what_is_no_distribution(labels, probabilities, classes):
    with pytest.raises(ValueError, match=r"must"):
        Belief(np.array(labels), np.array(probabilities), classes)
