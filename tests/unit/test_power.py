"""Power allocation for given bits: equal finishing times, Theorem 2's linearised rates, and the baselines."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize

from semlink.access.ia_qsmpa import theorem_2_power
from semlink.access.power import capacity_water_filling, equal_finish, least_power, uniform_power
from semlink.channel.blocks import Blocks
from semlink.channel.rates import dispersion_penalty

pytestmark = pytest.mark.numeric

PENALTY = dispersion_penalty(1e-3, 800)


def blocks_of(seed, count=6, width=3, *, snr_db=10.0, penalty=0.0, spread=1.0):
    gains = np.exp(spread * np.random.default_rng(seed).standard_normal((count, width)))
    return Blocks(gains, 10 ** (-snr_db / 10), float(count * width), 15e3, 768, penalty)


def rate_by_hand(power, gains, blocks):
    """Equation 38, subchannel by subchannel."""
    total = 0.0
    for gain in gains:
        snr = power * gain**2 / blocks.noise_power
        nats = np.log(1 + snr) - blocks.penalty * np.sqrt(1 - 1 / (1 + snr) ** 2)
        total += blocks.bandwidth * max(nats / np.log(2), 0)
    return total


def latency_by_hand(bits, blocks, near):
    """One root within another, by scipy: each block's power for a latency, and the latency for the budget."""

    def power_for(latency):
        needed = []
        for count, gains in zip(bits, blocks.gains, strict=True):
            wanted = blocks.values_per_segment * count / latency
            root = brentq(
                lambda p, g=gains, w=wanted: rate_by_hand(np.exp(p), g, blocks) - w, -60, 300, xtol=1e-14
            )
            needed.append(np.exp(root))
        return np.array(needed)

    latency = brentq(lambda y: np.log(power_for(y).sum() / blocks.power_budget), near / 2, near * 2, xtol=1e-18)
    return latency, power_for(latency)


@pytest.mark.parametrize("penalty", [0.0, PENALTY, 0.5])
@pytest.mark.parametrize("snr_db", [0.0, 10.0, 45.0])
def test_equal_finish_is_the_root_that_scipy_finds(snr_db, penalty):
    blocks = blocks_of(3, snr_db=snr_db, penalty=penalty)
    bits = np.array([1, 8, 2, 3, 1.5, 4])
    found = equal_finish(bits, blocks)
    latency, power = latency_by_hand(bits, blocks, found.latency)
    assert found.latency == pytest.approx(latency, rel=1e-9)
    np.testing.assert_allclose(found.power, power, rtol=1e-8)


@settings(deadline=None, max_examples=200)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 40),
    width=st.integers(1, 16),
    snr_db=st.floats(-20, 80),
    penalty=st.sampled_from([0.0, 0.01, PENALTY, 1.0]),
    spread=st.floats(0, 3),
)
@example(seed=817, count=11, width=3, snr_db=0.0, penalty=1.0, spread=2.4921875)  # barely above the least power
def test_every_latency_constraint_is_tight_and_the_budget_is_spent(seed, count, width, snr_db, penalty, spread):
    blocks = blocks_of(seed, count, width, snr_db=snr_db, penalty=penalty, spread=spread)
    bits = np.random.default_rng(seed).integers(1, 9, count)
    power, latency = equal_finish(bits, blocks)
    if np.isinf(latency):
        # No share of the budget gets every block above the least power that carries anything.
        assert least_power(blocks).sum() >= blocks.power_budget
        assert not power.any()
        return
    assert power.sum() == pytest.approx(blocks.power_budget, rel=1e-9)
    latencies = blocks.latencies(bits, power)
    # Just above the least power a rate changes with the power's last digits.
    assert latencies.min() == pytest.approx(latency, rel=1e-9 if penalty == 0 else 1e-5)
    assert latencies.max() == latency


def test_no_other_powers_finish_earlier():
    blocks, bits = blocks_of(0, penalty=PENALTY), np.array([1, 2, 3, 4, 5, 6])
    power, latency = equal_finish(bits, blocks)
    rng = np.random.default_rng(1)
    for size in (1e-4, 1e-2, 1):
        for _ in range(50):
            other = power * np.exp(size * rng.standard_normal(6))
            assert blocks.latencies(bits, other * power.sum() / other.sum()).max() > latency


def test_equation_20_for_one_wide_subchannel_each():
    blocks = blocks_of(5).averaged()
    bits = np.array([1, 8, 2, 3, 1, 4])
    power, latency = equal_finish(bits, blocks)
    wanted = blocks.noise_power / blocks.gains[:, 0] ** 2 * (2 ** (768 * bits / latency / (3 * 15e3)) - 1)
    np.testing.assert_allclose(power, wanted, rtol=1e-9)
    assert wanted.sum() == pytest.approx(6, rel=1e-9)


def test_the_optimality_conditions_of_theorem_1():
    """Equations 47 and 48: multipliers of the latency constraints add up to 1 for one price of power."""
    blocks = blocks_of(5).averaged()
    bits = np.array([1, 8, 2, 3, 1, 4])
    power = equal_finish(bits, blocks).power
    step = 1e-6
    slopes = (blocks.latencies(bits, power * (1 + step)) - blocks.latencies(bits, power * (1 - step))) / (
        2 * step * power
    )
    # Their prices: the latency falls by 1/Σ(1/slope) for each unit of power, whichever way it is measured.
    price = 1 / np.sum(1 / slopes)
    more = replace(blocks, total_power=blocks.total_power * (1 + step))
    less = replace(blocks, total_power=blocks.total_power * (1 - step))
    change = equal_finish(bits, more).latency - equal_finish(bits, less).latency
    assert change / (2 * step * blocks.power_budget) == pytest.approx(price, rel=1e-5)


def test_a_general_solver_finds_the_same_latency():
    blocks, bits = blocks_of(8, count=4, snr_db=15), np.array([1, 5, 2, 3])

    def excess(x):
        return x[-1] * 1e-3 - blocks.latencies(bits, np.exp(x[:4]))

    found = minimize(
        lambda x: x[-1],
        np.r_[np.zeros(4), 10],
        constraints=[
            {"type": "ineq", "fun": excess},
            {"type": "eq", "fun": lambda x: np.exp(x[:4]).sum() - blocks.power_budget},
        ],
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert found.success
    assert equal_finish(bits, blocks).latency == pytest.approx(found.x[-1] * 1e-3, rel=1e-6)


def test_a_block_without_bits_gets_no_power():
    blocks = blocks_of(2)
    power, latency = equal_finish([0, 1, 2, 0, 3, 1], blocks)
    assert (power[[0, 3]] == 0).all()
    some = replace(blocks, gains=blocks.gains[[1, 2, 4, 5]])
    alone = equal_finish([1, 2, 3, 1], some)
    assert latency == pytest.approx(alone.latency, rel=1e-9)
    assert power.sum() == pytest.approx(blocks.power_budget, rel=1e-9)


@pytest.mark.parametrize("penalty", [1e-4, PENALTY, 1.0, 3.0])
def test_below_the_least_power_nothing_gets_through(penalty):
    blocks = blocks_of(4, penalty=penalty)
    least = least_power(blocks)
    assert (blocks.rates(least * (1 - 1e-6)) == 0).all()
    assert (blocks.rates(least * (1 + 1e-6)) > 0).all()


def test_a_budget_below_the_least_power_is_an_infinite_latency():
    blocks = blocks_of(4, snr_db=-30, penalty=1.0)
    power, latency = equal_finish(np.ones(6), blocks)
    assert latency == np.inf
    assert not power.any()


@pytest.mark.parametrize("bits", [[1, 2], [1, 1, 1, 1, 1, -1], [0] * 6, [1, 1, 1, 1, 1, np.nan]])
def test_equal_finish_refuses_bits(bits):
    with pytest.raises(ValueError, match=r"^bits must be"):
        equal_finish(bits, blocks_of(0))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gains", np.ones(3)),
        ("gains", np.zeros((2, 2))),
        ("gains", np.full((2, 2), np.nan)),
        ("noise_power", 0.0),
        ("total_power", -1.0),
        ("bandwidth", np.inf),
        ("values_per_segment", 0),
        ("penalty", -0.1),
    ],
)
def test_blocks_refuse(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must"):
        replace(blocks_of(0), **{name: value})


class TestTheorem2:
    def test_every_linearised_latency_is_the_same_and_the_budget_is_spent(self):
        """Equation 51b, with the case of each block by its SNR under equal powers; both cases occur."""
        blocks, bits = blocks_of(1, count=12, snr_db=5.0, penalty=0.05), np.arange(1, 13) % 8 + 1
        power, latency = theorem_2_power(bits, blocks)
        gains = blocks.gains.mean(axis=1)
        alpha = 1 - 0.05 / 2
        low = gains**2 / blocks.noise_power < 1
        assert 0 < low.sum() < 12
        snr = power * gains**2 / blocks.noise_power
        linear = np.where(low, snr * alpha + alpha - 1, snr - 2 + 2 * alpha)
        np.testing.assert_allclose(768 * bits * np.log(2) / (3 * 15e3 * linear), latency, rtol=1e-9)
        assert power.sum() == pytest.approx(12, rel=1e-9)

    def test_equation_36_where_all_blocks_are_in_one_case(self):
        """As printed, with Θ, Φ and τ from 35 and 37."""
        blocks, bits = blocks_of(1, snr_db=-25.0, penalty=0.001, spread=0.3), np.arange(1, 7)
        alpha, gains = 1 - 0.0005, blocks.gains.mean(axis=1)
        theta = np.sqrt(15e3 / (blocks.noise_power * 768 * np.log(2)))
        phi = 1 / np.sqrt(np.sum(bits / (alpha * gains**2)))
        scale = blocks.noise_power * np.log(2) / (alpha * gains**2)

        def powers(tau):
            return scale * (768 * theta * phi * bits / (3 * 15e3 * np.sqrt(tau)) + (1 - alpha) / np.log(2))

        tau = np.exp(brentq(lambda t: powers(np.exp(t)).sum() - 6, -60, 60, xtol=1e-14))
        power, latency = theorem_2_power(bits, blocks)
        np.testing.assert_allclose(power, powers(tau), rtol=1e-9)
        assert latency == pytest.approx(np.sqrt(tau) / (theta * phi), rel=1e-9)

    def test_without_a_solution_it_says_so(self):
        power, latency = theorem_2_power(np.ones(6), blocks_of(1, snr_db=-30.0, penalty=0.2))
        assert latency == np.inf
        assert not power.any()

    def test_the_second_round_as_printed_cannot_place_the_bits(self):
        """Why only the first is run: the caps (26) of the true rate fall short of the bits of the linearised y."""
        blocks, bits = blocks_of(1, snr_db=20.0, penalty=PENALTY), np.array([1, 2, 2, 3, 3, 4])
        power, latency = theorem_2_power(bits, blocks)
        caps = latency * blocks.averaged().rates(power) / 768
        assert caps.sum() < bits.sum()

    @pytest.mark.parametrize("bits", [[1, 1], [1, 1, 1, 1, 1, 0]])
    def test_refuses_bits(self, bits):
        with pytest.raises(ValueError, match=r"^bits must be"):
            theorem_2_power(bits, blocks_of(1))

    def test_refuses_a_rate_that_does_not_rise(self):
        with pytest.raises(ValueError, match="penalty below 2"):
            theorem_2_power(np.ones(6), blocks_of(1, penalty=2.0))

    @given(st.integers(0, 2**32 - 1), st.floats(-5, 45))
    @settings(deadline=None, max_examples=50)
    def test_it_never_finishes_before_the_exact_powers(self, seed, snr_db):
        blocks = blocks_of(seed, snr_db=snr_db, penalty=PENALTY)
        bits = np.random.default_rng(seed).integers(1, 9, 6)
        printed = blocks.latencies(bits, theorem_2_power(bits, blocks).power).max()
        assert equal_finish(bits, blocks).latency <= printed


class TestBaselines:
    def test_uniform_power_spends_the_budget_evenly(self):
        np.testing.assert_array_equal(uniform_power(blocks_of(0)), np.ones(6))

    @pytest.mark.parametrize("snr_db", [-20, 0, 20])
    def test_water_filling_is_the_capacity_optimum(self, snr_db):
        blocks = blocks_of(3, count=5, snr_db=snr_db)
        noise = blocks.noise_power / blocks.gains.mean(axis=1) ** 2
        power = capacity_water_filling(blocks)
        assert power.sum() == pytest.approx(5, rel=1e-9)
        assert (power >= 0).all()
        found = minimize(
            lambda p: -np.log1p(p / noise).sum(),
            np.ones(5),
            jac=lambda p: -1 / (noise + p),
            bounds=[(0, None)] * 5,
            constraints={"type": "eq", "fun": lambda p: p.sum() - 5},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert np.log1p(power / noise).sum() >= -found.fun * (1 - 1e-9)
        np.testing.assert_allclose(power, found.x, atol=1e-3)

    def test_water_filling_starves_weak_blocks(self):
        blocks = blocks_of(3, snr_db=-20)
        power = capacity_water_filling(blocks)
        assert (power == 0).any()
        assert blocks.latencies(np.ones(6), power).max() == np.inf
