import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semlink.source.iaq.allocation import incremental
from semlink.source.iaq.importance import importance_weights

pytestmark = pytest.mark.numeric

RATES = [0.0, 0.01, 0.05, 0.2, 3 / 13]


def distortion(bits: float, rate: float) -> float:
    """IAQ, equation (21), letter by letter, with D0 = 1/4."""
    levels = 2.0**bits
    bracket = 4 / 3 * rate * levels**2 + 4 * rate * levels + (1 - 16 / 3 * rate)
    return levels ** np.log2((1 - rate) / 4) / 4 / (1 - rate) * bracket


def objective(weights, bits, rate: float) -> float:
    return sum(weight * distortion(b, rate) for weight, b in zip(weights, bits, strict=True))


def best_objective(weights, steps: int, rate: float, min_bits: int, max_bits: int) -> float:
    """The optimum of (22)-(24) by dynamic programming: best[s] over the patches so far that use s steps."""
    best = {0: 0.0}
    for weight in weights:
        grown: dict[int, float] = {}
        for used, value in best.items():
            for bits in range(min_bits, max_bits + 1):
                candidate = value + weight * distortion(bits, rate)
                if candidate < grown.get(used + bits, np.inf):
                    grown[used + bits] = candidate
        best = grown
    return best[steps]


def one_bit_at_a_time(weights, steps: int, rate: float, min_bits: int, max_bits: int) -> np.ndarray:
    """The paper's loop (Section III-B): each bit goes where it helps most; argmax takes the lowest index."""
    drop = -np.diff([distortion(bits, rate) for bits in range(max_bits + 1)], append=0)
    bits = np.full(len(weights), min_bits)
    for _ in range(steps - bits.sum()):
        gains = np.where(bits < max_bits, weights * drop[bits], -np.inf)
        bits[np.argmax(gains)] += 1
    return bits


# Zeros and ties are common, and the largest weight is 1, so that no scaling rounds.
weight_vectors = st.lists(
    st.one_of(st.sampled_from([0.0, 1e-7, 0.25, 0.5, 1.0]), st.floats(1e-6, 1.0)), max_size=9
).map(lambda weights: np.array([*weights, 1.0]))


@st.composite
def problems(draw, largest: int = 6, most_bits: int = 8):
    weights = draw(weight_vectors)[-largest:]
    max_bits = draw(st.integers(0, most_bits))
    min_bits = draw(st.integers(0, max_bits))
    steps = draw(st.integers(weights.size * min_bits, weights.size * max_bits))
    return weights, steps, draw(st.sampled_from(RATES)), min_bits, max_bits


def solve(problem) -> np.ndarray:
    weights, steps, rate, min_bits, max_bits = problem
    return incremental(weights, steps, bit_error_rate=rate, min_bits=min_bits, max_bits=max_bits)


def assert_same_steps(found: np.ndarray, wanted: np.ndarray, problem) -> None:
    """The same bits, but where two gains differ by rounding only: there either is the best."""
    weights, _, rate, *_ = problem
    values = (objective(weights, bits, rate) for bits in (found, wanted))
    assert (found == wanted).all() or math.isclose(*values, rel_tol=1e-14)


@given(problems(largest=5))
def test_is_optimal(problem):
    weights, steps, rate, min_bits, max_bits = problem
    bits = solve(problem)
    assert bits.sum() == steps
    assert bits.min() >= min_bits
    assert bits.max() <= max_bits
    best = best_objective(weights, steps, rate, min_bits, max_bits)
    assert objective(weights, bits, rate) == pytest.approx(best, rel=1e-9, abs=1e-300)


@given(problems(largest=10))
def test_is_the_papers_loop(problem):
    assert_same_steps(solve(problem), one_bit_at_a_time(*problem), problem)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("steps", [1, 100, 392, 1000, 1567])
def test_is_the_papers_loop_on_an_image(steps, rate):
    rng = np.random.default_rng(steps)
    weights = importance_weights(rng.dirichlet(np.full(196, 0.5)))
    weights[rng.integers(196, size=60)] = weights[rng.integers(196, size=60)]  # ties
    problem = weights / weights.max(), steps, rate, 0, 8
    assert_same_steps(solve(problem), one_bit_at_a_time(*problem), problem)


@pytest.mark.parametrize("rate", RATES)
def test_each_further_step_adds_one_bit(rate):
    weights = importance_weights([5, 1, 1, 9, 0])
    ladder = np.array([incremental(weights, steps, bit_error_rate=rate) for steps in range(41)])
    np.testing.assert_array_equal(np.diff(ladder, axis=0).sum(axis=1), 1)
    assert (np.diff(ladder, axis=0) >= 0).all()


@given(problems(largest=10))
def test_more_important_patches_get_no_fewer_bits(problem):
    weights, bits = problem[0], solve(problem)
    for weight in set(weights):
        equals = bits[weights == weight]
        assert bits[weights > weight].min(initial=99) >= equals.max()
        # Equal patches share evenly, unless they do not matter: those are filled one after the other.
        assert weight == 0 or equals.max() - equals.min() <= 1


def test_ties_go_to_the_lower_index():
    np.testing.assert_array_equal(incremental([1, 1, 1, 1], 6), [2, 2, 1, 1])
    # At μ = 0 a weight four times as large has one bit more: patch 1's second bit ties with the others' first.
    np.testing.assert_array_equal(incremental([1, 4, 1], 2), [1, 1, 0])
    np.testing.assert_array_equal(incremental([1, 4, 1], 3), [1, 2, 0])


def test_patches_that_do_not_matter_come_last_and_in_order():
    np.testing.assert_array_equal(incremental([0, 1, 0], 8), [0, 8, 0])
    np.testing.assert_array_equal(incremental([0, 1, 0], 19), [8, 8, 3])
    np.testing.assert_array_equal(incremental([0, 0, 0], 10), [8, 2, 0])


@pytest.mark.parametrize("min_bits", [0, 1, 3])
@pytest.mark.parametrize("max_bits", [3, 8, 16])
def test_least_and_most_steps(min_bits, max_bits):
    limits = {"min_bits": min_bits, "max_bits": max_bits}
    np.testing.assert_array_equal(incremental([3, 1, 2], 3 * min_bits, **limits), [min_bits] * 3)
    np.testing.assert_array_equal(incremental([3, 1, 2], 3 * max_bits, **limits), [max_bits] * 3)


def test_no_bits_at_all():
    np.testing.assert_array_equal(incremental([3, 1], 0, max_bits=0), [0, 0])


@pytest.mark.parametrize("scale", [2.0**-1060, 1e-300, 1e300, 2.0**1022])
def test_scale_of_the_weights_does_not_matter(scale):
    weights = np.array([1.0, 0.5, 0.25, 0.125, 1.0])
    for steps in (13, 36):
        np.testing.assert_array_equal(incremental(weights * scale, steps), incremental(weights, steps))


def test_returns_int64_and_takes_numpy_integers():
    bits = incremental(np.array([1, 2], np.float32), np.int32(5), min_bits=np.uint8(1), max_bits=np.int64(4))
    assert bits.dtype == np.int64
    assert bits.shape == (2,)


@pytest.mark.parametrize("weights", [[], [[1.0]], 1.0, [1, np.nan], [np.inf], [1, -1e-9], ["a"], None])
def test_refuses_weights(weights):
    with pytest.raises(ValueError, match=r"^weights must"):
        incremental(weights, 0)


@pytest.mark.parametrize("steps", [-1, 25, 2.0, "3", None])
def test_refuses_steps(steps):
    with pytest.raises(ValueError, match=r"^steps must"):
        incremental([1, 2, 3], steps)


def test_refuses_fewer_steps_than_the_least_bits():
    with pytest.raises(ValueError, match=r"^steps must be within \[6, 24\], not 5$"):
        incremental([1, 2, 3], 5, min_bits=2)


@pytest.mark.parametrize("limits", [{"min_bits": -1}, {"min_bits": 9}, {"max_bits": 17}, {"max_bits": -1}])
def test_refuses_limits(limits):
    with pytest.raises(ValueError, match=rf"^{next(iter(limits))} must"):
        incremental([1, 2, 3], 0, **limits)


@pytest.mark.parametrize("rate", [-0.01, 0.24, 1.0, np.nan])
def test_refuses_bit_error_rates_where_greedy_is_not_optimal(rate):
    with pytest.raises(ValueError, match=r"^bit_error_rate must"):
        incremental([1, 2, 3], 4, bit_error_rate=rate)
