import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize

from semlink.source.iaq.allocation import incremental, water_filling
from semlink.source.iaq.allocation.water_filling import relaxed_bits
from semlink.source.iaq.distortion import one_error_bound

pytestmark = pytest.mark.numeric

RATES = [0.0, 0.01, 0.05, 0.1, 0.2]


def importance(seed: int, count: int = 196) -> np.ndarray:
    scores = np.random.default_rng(seed).dirichlet([0.5] * count)
    return scores / scores.max() + 1e-7


def slope(bits: np.ndarray, rate: float, step: float = 1e-4) -> np.ndarray:
    """dD/dM by central differences: independent of the paper's h (30)."""
    return (one_error_bound(bits + step, rate) - one_error_bound(bits - step, rate)) / (2 * step)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("steps", [98, 392, 784])
def test_kkt_conditions_hold_once_the_iterations_suffice(rate, steps):
    weights = importance(steps)
    bits = relaxed_bits(weights, steps, rate, 0, 8, bisections=60, newtons=40)
    assert bits.sum() == pytest.approx(steps, abs=1e-3)
    inside = (bits > 1e-3) & (bits < 8 - 1e-3)
    prices = -weights[inside] * slope(bits[inside], rate)
    assert np.ptp(prices) < 1e-3 * prices.mean()  # one multiplier for all patches inside their bounds
    at_most = -weights[bits <= 1e-3] * slope(np.full((bits <= 1e-3).sum(), 1e-4), rate)
    at_least = -weights[bits >= 8 - 1e-3] * slope(np.full((bits >= 8 - 1e-3).sum(), 8 - 1e-4), rate)
    assert (at_most <= prices.mean() * 1.001).all()  # too dear for those without bits
    assert (at_least >= prices.mean() * 0.999).all()  # worth more to those that have all


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_relaxed_optimum_agrees_with_a_general_solver(rate):
    weights, steps = importance(5, count=6), 17
    ours = relaxed_bits(weights, steps, rate, 0, 8, bisections=60, newtons=40)
    found = minimize(
        lambda bits: (weights * one_error_bound(np.clip(bits, 0, 8), rate)).sum(),
        np.full(6, steps / 6),
        bounds=[(0, 8)] * 6,
        constraints={"type": "eq", "fun": lambda bits: bits.sum() - steps},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert found.success
    assert (weights * one_error_bound(ours, rate)).sum() <= found.fun * (1 + 1e-6)


def test_without_errors_it_is_equation_16():
    weights, steps = importance(1, count=20), 60

    def levels(multiplier: float) -> np.ndarray:
        return np.clip(np.sqrt(weights * np.log(2) / (2 * multiplier)), 1, 256)

    multiplier = brentq(lambda value: np.log2(levels(value)).sum() - steps, 1e-9, 1, xtol=1e-15)
    bits = relaxed_bits(weights, steps, 0.0, 0, 8, bisections=60, newtons=0)
    np.testing.assert_allclose(bits, np.log2(levels(multiplier)), atol=1e-6)


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(1, 60),
    rate=st.sampled_from([*RATES, 3 / 13]),
    share=st.floats(0, 1),
    bounds=st.sampled_from([(0, 8), (1, 8), (0, 1), (2, 2), (3, 5)]),
)
def test_meets_every_budget_within_the_papers_iterations(seed, count, rate, share, bounds):
    low, high = bounds
    steps = count * low + int(share * count * (high - low))
    generator = np.random.default_rng(seed)
    weights = generator.random(count) ** 4 * (generator.random(count) < 0.8)  # some are zero
    bits = water_filling(weights, steps, bit_error_rate=rate, min_bits=low, max_bits=high)
    assert bits.dtype == np.int64
    assert bits.sum() == steps
    assert low <= bits.min()
    assert bits.max() <= high
    best = incremental(weights, steps, bit_error_rate=rate, min_bits=low, max_bits=high)
    objective = (weights * one_error_bound(bits, rate)).sum()
    assert objective >= (weights * one_error_bound(best, rate)).sum() - 1e-12


@pytest.mark.parametrize("rate", RATES)
def test_is_nearly_optimal(rate):
    # Section V: "the performance of IA and WF is nearly identical"; measured: at most 5 % here.
    for steps in (98, 196, 392, 784):
        weights = importance(steps)
        bits = water_filling(weights, steps, bit_error_rate=rate)
        best = incremental(weights, steps, bit_error_rate=rate)
        assert (weights * one_error_bound(bits, rate)).sum() < 1.06 * (weights * one_error_bound(best, rate)).sum()


def test_more_weight_never_means_fewer_bits_than_the_rounding_pass_can_explain():
    weights = np.sort(importance(3))
    bits = water_filling(weights, 400)
    assert (np.diff(bits) >= -1).all()


@pytest.mark.parametrize(
    ("argument", "arguments"),
    [
        ("weights", {"weights": [-1.0, 1.0]}),
        ("weights", {"weights": [np.nan, 1.0]}),
        ("steps", {"steps": 17}),
        ("bit_error_rate", {"bit_error_rate": 0.24}),
        ("min_bits", {"min_bits": 9}),
    ],
)
def test_errors_name_the_argument(argument, arguments):
    with pytest.raises(ValueError, match=argument):
        water_filling(**({"weights": [0.5, 1.0], "steps": 3} | arguments))
