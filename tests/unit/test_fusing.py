import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semlink.decision.belief import Belief
from semlink.decision.calibration import Rung
from semlink.decision.fusing import fuse, together

CLASSES = 6
distributions = st.lists(st.integers(1, 40), min_size=CLASSES, max_size=CLASSES).map(
    lambda parts: np.array(parts) / sum(parts)
)
weights = st.sampled_from([0.0, 0.2, 0.5, 1.0, 1.3])


def rung(opinion_weight: float, look_weight: float) -> Rung:
    return Rung(160, 1505, 1500.0, opinion_weight, look_weight, (0.0, 1.0))


def every(belief: Belief) -> np.ndarray:
    return np.exp(belief.log_probabilities())


@given(distributions, distributions, weights, weights)
def test_multiplies_powers(opinion, look, opinion_weight, look_weight):
    product = opinion**opinion_weight * look**look_weight
    fused = fuse(Belief.of(opinion), np.log(look), rung(opinion_weight, look_weight))
    # Of the classes that are not named, what is left of 1 is rounded to 1e-16, which is 1e-7 of the least, 1e-9.
    np.testing.assert_allclose(every(fused), product / product.sum(), rtol=1e-6)


@given(distributions, st.floats(-50, 50))
def test_a_look_without_an_opinion_speaks_for_itself_up_to_a_constant(look, constant):
    fused = fuse(None, np.log(look) + constant, rung(0.3, 0.4))
    np.testing.assert_allclose(every(fused), look, rtol=1e-6)


def test_what_is_impossible_stays_a_distribution():
    fused = fuse(Belief(np.array([1]), np.array([1.0]), 3), [0.0, -2000.0, -2000.0], rung(1.0, 1.0))
    assert fused.label == 0
    assert np.isfinite(fused.log_probabilities()).all()


@given(st.lists(distributions, min_size=1, max_size=5))
def test_views_together_are_their_product_and_its_label(views):
    product = np.prod(views, axis=0)
    whole = together([Belief.of(view) for view in views])
    expected = product ** len(views) ** -0.5
    np.testing.assert_allclose(every(whole), expected / expected.sum(), rtol=1e-6)
    assert product[whole.label] == pytest.approx(product.max(), rel=1e-9)


def test_refuses_other_numbers_of_classes():
    three, four = Belief.of([0.2, 0.3, 0.5]), Belief.of([0.1, 0.2, 0.3, 0.4])
    with pytest.raises(ValueError, match=r"^look must have the opinion's 3 classes, not 4$"):
        fuse(three, np.zeros(4), rung(1, 1))
    with pytest.raises(ValueError, match=r"^views must be of the same classes, not of \[3, 4\]$"):
        together([three, four])
    with pytest.raises(ValueError, match=r"^views must be at least one$"):
        together([])
