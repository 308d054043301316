"""Joint optimum of bits and power, relaxed and in integers, beside Theorem 1 as printed."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from semlink.access.exact import error_costs, exact, joint_optimum, weighted_error
from semlink.access.ia_qsmpa import capped_bits, ia_qsmpa_bits, theorem_1, top_beta
from semlink.access.power import equal_finish
from semlink.channel.blocks import Blocks
from semlink.channel.rates import dispersion_penalty
from semlink.source.iaq.allocation import incremental
from semlink.source.iaq.importance import importance_weights

pytestmark = pytest.mark.numeric

PENALTY = dispersion_penalty(1e-3, 800)


def problem(seed, count=196, width=16, *, snr_db=20.0, penalty=0.0):
    """Costs c_i and blocks as importance-aware mapping leaves them: the more important, the better."""
    rng = np.random.default_rng(seed)
    scores = np.sort(rng.dirichlet(np.full(count, 0.5)))
    gains = np.sort(rng.rayleigh(size=count * width) + 0.05).reshape(count, width)
    blocks = Blocks(gains, 10 ** (-snr_db / 10), float(count * width), 15e3, 768, penalty)
    return error_costs(importance_weights(scores), value_range=12**0.5), blocks


def objective(costs, bits, blocks, weight):
    return weighted_error(costs, bits) + weight * equal_finish(bits, blocks).latency


class TestJointOptimum:
    @pytest.mark.parametrize("weight", [1.0, 1e5, 1e6, 1e7, 1e9])
    @pytest.mark.parametrize("snr_db", [0.0, 20.0, 40.0])
    def test_a_general_convex_solver_finds_no_better_and_the_same_bits(self, weight, snr_db):
        costs, blocks = problem(4, 5, 2, snr_db=snr_db)
        found = joint_optimum(costs, 12, blocks, weight)
        best = objective(costs, found.bits, blocks, weight)
        scale = best / 100
        general = minimize(
            lambda bits: objective(costs, bits, blocks, weight) / scale,
            np.full(5, 2.4),
            bounds=[(1, 8)] * 5,
            constraints={"type": "eq", "fun": lambda bits: bits.sum() - 12},
            method="SLSQP",
            options={"ftol": 1e-13, "maxiter": 500},
        )
        assert best <= general.fun * scale * (1 + 1e-9)
        assert best == pytest.approx(general.fun * scale, rel=1e-5)
        np.testing.assert_allclose(found.bits, general.x, atol=0.02)

    @pytest.mark.parametrize("weight", [1.0, 1e6, 1e8, 1e12])
    @pytest.mark.parametrize("snr_db", [-5.0, 20.0, 45.0])
    def test_the_optimality_conditions(self, snr_db, weight):
        """Slopes of the objective by central differences: one price for all bits between their bounds."""
        costs, blocks = problem(1, snr_db=snr_db)
        found = joint_optimum(costs, 392, blocks, weight)
        assert found.bits.sum() == pytest.approx(392, rel=1e-9)
        assert found.bits.min() >= 1
        assert found.bits.max() <= 8
        assert found.power.sum() == pytest.approx(blocks.power_budget, rel=1e-9)
        step, slopes = 1e-4, np.empty(196)
        for i in range(196):
            change = step * np.eye(196)[i]
            more, less = (equal_finish(found.bits + side, blocks).latency for side in (change, -change))
            slopes[i] = weight * (more - less) / (2 * step) - np.log(4) * costs[i] * 0.25 ** found.bits[i]
        between = (found.bits > 1.001) & (found.bits < 7.999)
        assert between.sum() > 10
        size = np.abs(slopes).max()
        assert np.ptp(slopes[between]) < 1e-3 * size
        assert -slopes[between].mean() == pytest.approx(found.price_of_bit, abs=1e-3 * size)
        # At the lower bound a bit more would not pay, at the upper one it would.
        assert (slopes[found.bits < 1.001] > slopes[between].mean() - 1e-3 * size).all()
        assert (slopes[found.bits > 7.999] < slopes[between].mean() + 1e-3 * size).all()

    @settings(deadline=None, max_examples=40)
    @given(
        st.integers(0, 2**32 - 1),
        st.integers(2, 30),
        st.floats(-5, 45),
        st.floats(-3, 12),
        st.floats(0.01, 0.99),
    )
    def test_no_feasible_bits_are_better(self, seed, count, snr_db, log_weight, fill):
        costs, blocks = problem(seed, count, 3, snr_db=snr_db)
        weight, steps = 10**log_weight, round(count + fill * 7 * count)
        found = joint_optimum(costs, steps, blocks, weight)
        best = objective(costs, found.bits, blocks, weight)
        rng = np.random.default_rng(seed)
        for size in (0.01, 0.3, 3):
            other = found.bits + size * rng.standard_normal(count)
            # Onto the budget and within the bounds: the nearest such bits.
            other = capped_bits(4.0**other, steps, np.full(count, 8.0), 1)
            assert objective(costs, other, blocks, weight) >= best * (1 - 1e-7)

    def test_the_price_of_power_is_what_more_power_saves(self):
        costs, blocks = problem(2, 20, 4)
        found = joint_optimum(costs, 50, blocks, 1e7)
        step = 1e-4
        more, less = (
            Blocks(blocks.gains, blocks.noise_power, blocks.total_power * (1 + side), blocks.bandwidth)
            for side in (step, -step)
        )
        values = [objective(costs, joint_optimum(costs, 50, case, 1e7).bits, case, 1e7) for case in (less, more)]
        assert (values[0] - values[1]) / (2 * step * blocks.power_budget) == pytest.approx(
            found.price_of_power, rel=1e-4
        )

    @pytest.mark.parametrize("steps", [196, 196 * 8])
    def test_a_budget_that_leaves_no_choice(self, steps):
        costs, blocks = problem(0)
        found = joint_optimum(costs, steps, blocks, 1.0)
        np.testing.assert_array_equal(found.bits, steps / 196)

    @pytest.mark.parametrize(
        ("name", "value"), [("latency_weight", 0.0), ("latency_weight", np.inf), ("min_bits", 0), ("steps", 195)]
    )
    def test_refuses(self, name, value):
        costs, blocks = problem(0)
        arguments = {"steps": 392, "latency_weight": 1.0, "min_bits": 1} | {name: value}
        with pytest.raises(ValueError, match=rf"^{name} must"):
            joint_optimum(costs, blocks=blocks, **arguments)

    def test_refuses_costs_of_other_blocks(self):
        with pytest.raises(ValueError, match=r"^costs must be 196"):
            joint_optimum(np.ones(3), 6, problem(0)[1], 1.0)


class TestTheorem1:
    @pytest.mark.parametrize("snr_db", [-5.0, 20.0, 45.0])
    def test_the_descent_cannot_move_after_its_first_round(self, snr_db):
        costs, blocks = problem(3, snr_db=snr_db)
        first, fifth = (theorem_1(costs, 392, blocks, rounds=rounds) for rounds in (1, 5))
        np.testing.assert_allclose(fifth.bits, first.bits, rtol=1e-9)
        assert fifth.latency == pytest.approx(first.latency, rel=1e-9)

    def test_and_the_joint_optimum_is_what_it_misses(self):
        costs, blocks = problem(3)
        for weight, gain in ((1.0, 0.0), (1e6, 0.001), (1e7, 0.02), (1e8, 0.05)):
            printed = objective(costs, theorem_1(costs, 392, blocks).bits, blocks, weight)
            best = objective(costs, joint_optimum(costs, 392, blocks, weight).bits, blocks, weight)
            assert best <= printed * (1 - gain + 1e-9)

    @pytest.mark.parametrize("steps", [196, 200, 392, 1000, 1560, 1568])
    def test_capped_bits_are_the_water_level_of_equations_15_and_17(self, steps):
        costs, _ = problem(5)
        caps = np.random.default_rng(0).uniform(2, 8, 196) if steps < 900 else np.full(196, 8.0)
        bits = capped_bits(costs, steps, caps, 1)
        assert bits.sum() == pytest.approx(steps, rel=1e-9)
        between = (bits > 1 + 1e-9) & (bits < caps - 1e-9)
        levels = costs * 0.25**bits
        if between.any():
            level = levels[between].mean()
            np.testing.assert_allclose(levels[between], level, rtol=1e-9)
            assert (levels[bits <= 1 + 1e-9] <= level * (1 + 1e-9)).all()
            assert (levels[bits >= caps - 1e-9] >= level * (1 - 1e-9)).all()

    def test_capped_bits_of_segments_without_importance_come_last(self):
        bits = capped_bits(np.array([0.0, 1.0, 0.0, 4.0]), 12, np.full(4, 8.0), 1)
        np.testing.assert_allclose(bits, [1, 4.5, 1, 5.5])
        np.testing.assert_allclose(capped_bits(np.array([0.0, 1, 0, 4]), 24, np.full(4, 8.0), 1), [4, 8, 4, 8])
        np.testing.assert_allclose(capped_bits(np.zeros(4), 12, np.full(4, 8.0), 1), [3, 3, 3, 3])

    @pytest.mark.parametrize("steps", [196, 250, 392, 784, 1500, 1568])
    def test_whole_bits_meet_the_budget_within_their_bounds(self, steps):
        costs, blocks = problem(6)
        bits = ia_qsmpa_bits(costs, steps, blocks)
        assert bits.sum() == steps
        assert bits.min() >= 1
        assert bits.max() <= 8
        assert np.abs(bits - theorem_1(costs, steps, blocks).bits).max() < 2

    def test_top_beta_by_hand(self):
        np.testing.assert_array_equal(top_beta([0.3, 0.1, 0.9, 0.2], 4 + 14), [8, 1, 8, 1])
        # A remainder of 6 pays for no third segment.
        np.testing.assert_array_equal(top_beta([0.3, 0.1, 0.9, 0.2], 4 + 20), [8, 1, 8, 1])
        np.testing.assert_array_equal(top_beta([0.3, 0.1, 0.9, 0.2], 32), [8, 8, 8, 8])

    def test_top_beta_spends_the_ratio_of_equation_42(self):
        bits = top_beta(np.random.default_rng(0).random(196), 392)
        share = np.count_nonzero(bits == 8)
        assert share == 28
        assert (share * 8 + (196 - share) * 1) / (196 * 8) == 0.25


class TestExact:
    @pytest.mark.parametrize("penalty", [0.0, PENALTY])
    @pytest.mark.parametrize("weight", [1.0, 1e6, 1e7, 1e9])
    @pytest.mark.parametrize("seed", range(4))
    def test_near_the_best_of_all_whole_bits(self, seed, weight, penalty):
        """By brute force over 5 blocks of 1 to 5 bits; a Lagrangian method may miss what no price can express."""
        costs, blocks = problem(seed, 5, 3, penalty=penalty)
        every = [bits for bits in itertools.product(range(1, 6), repeat=5) if sum(bits) == 12]
        best = min(objective(costs, np.array(bits), blocks, weight) for bits in every)
        found = exact(costs, 12, blocks, weight, max_bits=5)
        assert found.bits.sum() == 12
        assert best * (1 - 1e-9) <= found.objective <= best * 1.03

    @pytest.mark.parametrize("weight", [1.0, 1e5, 1e6, 1e7, 1e8])
    @pytest.mark.parametrize("snr_db", [-5.0, 5.0, 20.0, 45.0])
    def test_between_the_relaxed_optimum_and_the_printed_methods(self, snr_db, weight):
        costs, blocks = problem(7, snr_db=snr_db)
        printed = [ia_qsmpa_bits(costs, 392, blocks), top_beta(costs, 392), np.full(196, 2)]
        found = exact(costs, 392, blocks, weight, candidates=printed)
        assert found.bits.sum() == 392
        assert found.objective >= objective(costs, joint_optimum(costs, 392, blocks, weight).bits, blocks, weight)
        for bits in printed:
            power = equal_finish(bits, blocks.averaged()).power
            assert found.objective <= weighted_error(costs, bits) + weight * blocks.latencies(bits, power).max()
        np.testing.assert_allclose(blocks.latencies(found.bits, found.power), found.latency, rtol=1e-9)
        assert found.objective == weighted_error(costs, found.bits) + weight * found.latency

    def test_without_a_latency_weight_the_error_is_the_least(self):
        costs, blocks = problem(8)
        found = exact(costs, 392, blocks, 0.0)
        np.testing.assert_array_equal(found.bits, incremental(costs, 392, min_bits=1))

    def test_a_budget_that_no_block_gets_a_bit_through(self):
        costs, blocks = problem(8, snr_db=-40, penalty=0.5)
        found = exact(costs, 392, blocks, 1.0)
        assert found.latency == np.inf
        assert found.bits.sum() == 392

    @pytest.mark.parametrize("weight", [-1, np.inf, np.nan])
    def test_refuses_latency_weight(self, weight):
        with pytest.raises(ValueError, match=r"^latency_weight must"):
            exact(*problem(0)[:1], 392, problem(0)[1], weight)


def test_the_weighted_error_is_equation_12():
    weights, bits = np.array([0.5, 1, 1e-7]), np.array([1, 2, 8])
    by_hand = sum(w * 768 * 3.5**2 / 4 * 4.0**-b for w, b in zip(weights, bits, strict=True))
    assert weighted_error(error_costs(weights, value_range=3.5), bits) == pytest.approx(by_hand, rel=1e-9)
    with pytest.raises(ValueError, match=r"^value_range must"):
        error_costs(weights, value_range=0)
