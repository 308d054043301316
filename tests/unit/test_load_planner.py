"""Plans of frames as they are: powers and error rates beside brute force, any segments, what is safest."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import norm

from semlink.access.load_planner import LOAD_METHODS, error_rates, plan_loads
from semlink.access.planner import PlanMethod, draw_gains, plan
from semlink.channel.finite_blocklength import FiniteBlocklength
from semlink.channel.mimo_ofdm import MimoOfdm
from semlink.channel.ofdm import Numerology
from semlink.source.codec.frame import CodecFrame
from semlink.source.codec.head import Head
from semlink.source.iaq.importance import importance_weights

pytestmark = pytest.mark.numeric

GAINS = np.array([[0.4, 1.0], [2.1, 0.9], [1.6, 0.7]])


def codec_frame(payload_bytes, seed=0):
    payload = np.random.default_rng(seed).integers(0, 256, payload_bytes, np.uint8).tobytes()
    return CodecFrame("jpeg", 64, 64, Head(64, 64, 50), payload)


def latency(powers, made, error_rates=None):
    """T_d of three blocks by equations (24) and (38), block by block."""
    longest = 0.0
    for block, (load, power) in enumerate(zip(made.load, powers, strict=True)):
        snr = power * GAINS[made.block_of_subchannel == block] ** 2 * 10**1.2
        rate = np.log2(1 + snr)
        if error_rates is not None:
            # Two subchannels, 50 OFDM symbols.
            rate -= norm.isf(error_rates[block]) / np.sqrt(100) * np.sqrt(1 - 1 / (1 + snr) ** 2) / np.log(2)
        longest = max(longest, load / (15e3 * np.maximum(rate, 0).sum() + 1e-300))
    return longest


@pytest.mark.parametrize("block_error_rate", [None, 0.05])
def test_no_other_powers_are_faster(block_error_rate):
    """All powers of three blocks on a grid of the budget's simplex."""
    importance, loads = [0.2, 3.0, 1.0], [512, 200, 40]
    made = plan_loads(loads, importance, GAINS, 12.0, block_error_rate=block_error_rate)
    np.testing.assert_allclose(made.latencies, made.t_d, rtol=1e-9)
    assert latency(made.power, made, made.error_rates) == pytest.approx(made.t_d)
    budget = Numerology(3, 2).total_power / 2
    shares = np.arange(1, 60) / 60
    grid = [budget * np.array([a, b, 1 - a - b]) for a in shares for b in shares if a + b < 1]
    found = min(latency(powers, made, made.error_rates) for powers in grid)
    assert made.t_d <= found < 1.03 * made.t_d  # a grid of 1/60 misses the best share of 5 to 90 % by that much


def test_the_more_important_have_the_better_subchannels_whatever_they_have_to_carry():
    made = plan_loads([512, 200, 40], [0.2, 3.0, 1.0], GAINS, 12.0)
    assert GAINS[made.block_of_subchannel == 1].tolist() == [2.1, 1.6]
    assert sorted(GAINS[made.block_of_subchannel == 0]) == [0.4, 0.7]


def test_segments_without_bits_have_no_block():
    made = plan_loads([0, 512, 0, 200, 40, 0], [9, 0.2, 5, 3.0, 1.0, 7], GAINS, 12.0, block_error_rate=0.01)
    alone = plan_loads([512, 200, 40], [0.2, 3.0, 1.0], GAINS, 12.0, block_error_rate=0.01)
    np.testing.assert_array_equal(made.load, alone.load)
    np.testing.assert_array_equal(made.block_of_subchannel, alone.block_of_subchannel)
    np.testing.assert_array_equal(made.power, alone.power)
    np.testing.assert_array_equal(made.error_rates, alone.error_rates)


def test_a_frame_of_the_bits_that_a_plan_has_chosen_gets_its_powers():
    """For the ideal transmission; at a finite block length the error rates are other ones."""
    gains, weights = draw_gains(Numerology(), 0), importance_weights(np.linspace(1, 2, 196) / 294)
    for method in LOAD_METHODS:
        chosen = plan(weights, gains, 20.0, method=method)
        made = plan_loads(768 * chosen.bits, weights, gains, 20.0, method=method)
        np.testing.assert_allclose(made.power, chosen.power, rtol=1e-9)
        np.testing.assert_allclose(made.latencies, chosen.latencies, rtol=1e-9)


def test_exact_powers_are_the_fastest():
    frame, gains = codec_frame(1487), draw_gains(Numerology(), 1)
    assert frame.segment_bits.size == 24
    for error_rate in (None, 0.01):
        make = partial(plan_loads, frame.segment_bits, frame.importance, gains, 10.0, block_error_rate=error_rate)
        latencies = {method: make(method=method).t_d for method in LOAD_METHODS}
        assert latencies["exact"] == min(latencies.values())
        assert latencies["fixed"] > 2 * latencies["exact"]


@settings(deadline=None, max_examples=40)
@given(
    subcarriers=st.integers(1, 120),
    streams=st.integers(1, 4),
    segments=st.integers(1, 700),
    finite=st.booleans(),
    seed=st.integers(0, 5),
)
def test_any_channel_has_a_plan_for_any_number_of_segments(subcarriers, streams, segments, finite, seed):
    generator = np.random.default_rng(seed)
    loads = generator.integers(0, 5000, segments) * (generator.random(segments) < 0.7)
    loads[generator.integers(segments)] = 1
    link = Numerology(subcarriers, streams, total_power=float(subcarriers * streams))
    gains = generator.random((subcarriers, streams)) + 0.1
    made = plan_loads(
        loads, generator.random(segments), gains, 20.0, numerology=link, block_error_rate=0.01 if finite else None
    )
    np.testing.assert_array_equal(made.load, loads[loads > 0])
    times = made.numerology.subcarriers // subcarriers
    if np.isfinite(made.t_d):
        np.testing.assert_allclose(made.latencies, made.t_d, rtol=1e-6)
        assert made.power_of_subchannel.sum() == pytest.approx(link.total_power * times)
    else:
        assert finite  # too short a block for any rate


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            {"method": "uniform"},
            "method must be one of exact, ia-qsmpa, fixed, fixed-b-wf for bits",
        ),
        ({"method": "best"}, "method must be one of"),
        ({"segment_bits": [0, 0, 0]}, "segment_bits must be 3 integers, 0 or more, not all 0"),
        ({"segment_bits": [1, -1, 1]}, "segment_bits must"),
        ({"segment_bits": [1.0, 1.0, 1.0]}, "segment_bits must"),
        ({"segment_bits": [1, 1]}, "segment_bits must be 3"),
        ({"importance": [-1, 1, 1]}, "importance must be 0 or more"),
        ({"block_error_rate": 0.7}, "block_error_rate must"),
        ({"snr_db": np.nan}, "snr_db must be finite"),
    ],
)
def test_refuses(arguments, reason):
    given = {"segment_bits": [1, 2, 3], "importance": [3, 2, 1], "gains": GAINS, "snr_db": 10.0} | arguments
    with pytest.raises(ValueError, match=f"^{reason}"):
        plan_loads(**given)


class TestErrorRates:
    def test_no_others_lose_less_at_the_same_cost_of_rate(self):
        """What a codec's frame loses on average, Σ w[i]·Q(x[i]), at the same Σ x[i]."""
        weights = np.array([4.0, 3.0, 2.0, 1.0])
        x = norm.isf(error_rates(weights, 0.05))
        assert norm.sf(x[-1]) == pytest.approx(0.05)
        found = minimize(
            lambda each: np.log(weights @ norm.sf(each)),
            np.full(4, x.mean()),
            constraints={"type": "eq", "fun": lambda each: (each - x).sum()},
            tol=1e-12,
        )
        np.testing.assert_allclose(x, found.x, atol=1e-3)

    @given(st.lists(st.integers(0, 5), min_size=1, max_size=300), st.sampled_from([1e-9, 1e-3, 0.1, 0.5]))
    def test_they_go_by_the_order_alone_and_never_exceed_what_was_asked_for(self, importance, highest):
        importance = np.array(importance, float)
        rates = error_rates(importance, highest)
        assert rates.max() == highest == rates[importance.argmin()]
        order = np.argsort(importance, kind="stable")
        assert (np.diff(rates[order]) <= 0).all()
        np.testing.assert_array_equal(rates, error_rates(np.exp(importance), highest))
        for level in set(importance):
            assert np.ptp(rates[importance == level]) == 0


class TestWhatComesFirstIsSafest:
    """A codec's picture ends where a block is lost: as many segments as possible before that."""

    FRAME = codec_frame(1487)

    def sent(self, channel, importance, seed, **options):
        state = channel.draw_state(lambda *numbers: np.random.default_rng([seed, *numbers]))
        made = plan_loads(
            self.FRAME.segment_bits,
            importance,
            state.gains,
            channel.snr_db,
            numerology=channel.numerology,
            block_error_rate=channel.block_error_rate,
            **options,
        )
        return channel.transmit(self.FRAME, made, state, np.random.default_rng(seed))

    def test_where_blocks_are_lost(self):
        channel = FiniteBlocklength(snr_db=10.0, target_bler=0.5)
        ways = {
            "importance": self.FRAME.importance,
            "no importance": np.ones(24),
            "inverse": self.FRAME.importance[::-1],
        }
        kept = {
            name: np.mean([self.FRAME.without(self.sent(channel, way, seed).lost).rho for seed in range(60)])
            / self.FRAME.rho
            for name, way in ways.items()
        }
        assert kept["importance"] > 0.75
        assert kept["inverse"] < 0.5  # in half of the frames already the first is lost
        assert kept["no importance"] < 0.1

    def test_the_first_block_of_all_is_the_last_to_be_lost(self):
        channel = FiniteBlocklength(snr_db=10.0, target_bler=0.5)
        lost = np.zeros(24)
        for seed in range(120):
            lost[self.sent(channel, self.FRAME.importance, seed).lost] += 1
        assert lost[0] < lost[-1] / 10
        assert lost[:6].sum() < lost[6:12].sum() < lost[12:18].sum() < lost[18:].sum()

    def test_it_costs_little_time(self):
        gains = draw_gains(Numerology(), 0)
        make = partial(plan_loads, self.FRAME.segment_bits, self.FRAME.importance, gains, 10.0)
        ideal, unequal = make(), make(block_error_rate=0.01)
        assert ideal.t_d < unequal.t_d < 1.05 * ideal.t_d

    @pytest.mark.parametrize("order", [4, 16])
    def test_where_bits_are_decided_one_by_one_at_equal_powers(self, order):
        channel = MimoOfdm(snr_db=10.0, coding="uncoded", order=order)
        first = {}
        for name, way in (("importance", self.FRAME.importance), ("inverse", self.FRAME.importance[::-1])):
            arrivals = [self.sent(channel, way, seed, method=PlanMethod.FIXED) for seed in range(3)]
            first[name] = min(arrival.flips.min() for arrival in arrivals)
        assert first["inverse"] < 512
        assert first["importance"] > 4 * 512
