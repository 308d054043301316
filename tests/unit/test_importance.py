import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semlink.source.iaq.importance import importance_weights

pytestmark = pytest.mark.numeric

finite = st.floats(allow_nan=False, allow_infinity=False)
vectors = st.lists(finite, min_size=1, max_size=20)


def equation_31(scores: list[float], gamma: float, floor: float) -> list[float]:
    """As the paper prints it."""
    low, high = min(scores), max(scores)
    return [(1 - floor) / (high - low) ** gamma * (score - low) ** gamma + floor for score in scores]


@pytest.mark.parametrize("gamma", [0.25, 0.5, 1.0, 2.0, 3.7])
@pytest.mark.parametrize("floor", [0.0, 1e-7, 0.3])
def test_is_equation_31(gamma, floor):
    scores = np.random.default_rng(0).dirichlet(np.full(196, 0.5)).tolist()
    expected = equation_31(scores, gamma, floor)
    np.testing.assert_allclose(importance_weights(scores, gamma=gamma, floor=floor), expected, rtol=1e-9)


def test_defaults_are_the_papers():
    np.testing.assert_allclose(importance_weights([3, 1, 2]), [1, 1e-7, (1 - 1e-7) / 2 + 1e-7], rtol=1e-9)


@given(vectors, st.floats(1e-3, 1e3), st.floats(0, 1))
def test_stays_within_floor_and_one_and_keeps_the_order(scores, gamma, floor):
    weights = importance_weights(scores, gamma=gamma, floor=floor)
    assert weights.shape == (len(scores),)
    assert weights.dtype == np.float64
    assert (weights >= floor).all()
    assert (weights <= 1).all()
    assert (np.diff(weights[np.argsort(scores)]) >= 0).all()


@given(vectors.filter(lambda scores: min(scores) < max(scores)))
def test_best_score_weighs_one_and_worst_the_floor(scores):
    weights = importance_weights(scores, floor=0.125)
    assert weights[np.argmax(scores)] == 1
    assert weights[np.argmin(scores)] == 0.125


@given(finite, st.integers(1, 20))
def test_equal_scores_weigh_one(score, count):
    np.testing.assert_array_equal(importance_weights([score] * count), np.ones(count))


@pytest.mark.parametrize(
    "scores",
    [
        [-1.7e308, 0.0, 1.7e308],  # the spread overflows
        [0.0, 1e-323, 2e-323],  # half of it vanishes
        [1.0, np.nextafter(1.0, 2), np.nextafter(np.nextafter(1.0, 2), 2)],
    ],
)
def test_extreme_scores_keep_their_spacing(scores):
    np.testing.assert_allclose(importance_weights(scores, floor=0.0), [0, 0.5, 1], atol=1e-9)


@pytest.mark.parametrize("scores", [[0.0, 5e-324], [-5e-324, 0.0], [5e-324, 1e-323], [-1.7e308, 1.7e308]])
def test_two_different_scores_never_collapse(scores):
    np.testing.assert_array_equal(importance_weights(scores), [1e-7, 1])


def test_gamma_bends_the_middle():
    middle = [importance_weights([0, 0.5, 1], gamma=gamma)[1] for gamma in (0.5, 1, 2)]
    assert middle[0] > middle[1] > middle[2]


@given(vectors, st.integers(-3, 3))
def test_ignores_a_scale_that_loses_nothing(scores, exponent):
    scores = [np.clip(score, -1e9, 1e9) if abs(score) > 1e-9 else 0.0 for score in scores]
    scaled = [score * 2.0**exponent for score in scores]
    np.testing.assert_array_equal(importance_weights(scores), importance_weights(scaled))


@pytest.mark.parametrize("scores", [[], [[1, 2]], 3.0, [1, np.nan], [np.inf, 0], ["a"], None, {"a": 1}])
def test_refuses_scores(scores):
    with pytest.raises(ValueError, match=r"^scores must"):
        importance_weights(scores)


@pytest.mark.parametrize("gamma", [0, -1, np.nan, np.inf])
def test_refuses_gamma(gamma):
    with pytest.raises(ValueError, match=r"^gamma must"):
        importance_weights([1, 2], gamma=gamma)


@pytest.mark.parametrize("floor", [-1e-9, 1.1, np.nan])
def test_refuses_floor(floor):
    with pytest.raises(ValueError, match=r"^floor must"):
        importance_weights([1, 2], floor=floor)
