"""Planner: latencies of every method over five channels and SNRs from -5 to 45 dB, and which method is ahead."""

import itertools

import numpy as np
import pytest
from scipy.stats import norm

from semlink.access.planner import PlanMethod, draw_gains, draw_importance, plan
from semlink.channel.blocks import gains_of_blocks
from semlink.channel.ofdm import Numerology

pytestmark = pytest.mark.numeric

SEEDS, SNRS = range(5), range(-5, 50, 5)
IMPORTANCE_WEIGHTED = [PlanMethod.IA_QSMPA_LC, PlanMethod.FIXED_P_IAQ, PlanMethod.FIXED_P_TOP_BETA]
"""IA-QSMPA's competitors among them; `exact` and `uniform` are no competitors of the paper's."""


@pytest.fixture(scope="module")
def channels():
    return [(draw_importance(seed), draw_gains(Numerology(), seed)) for seed in SEEDS]


@pytest.fixture(scope="module", params=[None, 1e-3], ids=["ideal", "finite"])
def every(request, channels):
    """T_d in ms of every method, SNR and channel: a dict of (method, SNR) to (5,)."""
    return request.param, {
        (method, snr): np.array(
            [1e3 * plan(*channel, snr, method=method, block_error_rate=request.param).t_d for channel in channels]
        )
        for method in PlanMethod
        for snr in SNRS
    }


@pytest.mark.parametrize(
    ("method", "snr", "latency"),
    [
        ("fixed", 0, 1742),
        ("fixed-p-iaq", 0, 871),
        ("ia-qsmpa-lc", 0, 14.7),
        ("ia-qsmpa", 0, 14.9),
        ("fixed", 20, 20.1),
        ("fixed-p-iaq", 20, 10.0),
        ("ia-qsmpa-lc", 20, 2.04),
        ("ia-qsmpa", 20, 1.11),
        ("fixed", 40, 1.44),
        ("fixed-p-iaq", 40, 0.90),
        ("ia-qsmpa-lc", 40, 1.35),
        ("ia-qsmpa", 40, 0.70),
        ("uniform", 40, 0.61),
    ],
)
def test_mean_latencies_found_before_with_other_code(channels, method, snr, latency):
    found = np.mean([1e3 * plan(*channel, snr, method=method).t_d for channel in channels])
    assert found == pytest.approx(latency, rel=0.01)


def test_ia_qsmpa_is_the_fastest_of_the_importance_weighted_from_5_db_up(every):
    """At a finite block length the linearised rates lose to equal powers at high SNR, as the paper says."""
    error_rate, latencies = every
    for snr in SNRS if error_rate is None else range(0, 35, 5):
        own = latencies[PlanMethod.IA_QSMPA, snr].mean()
        others = min(latencies[method, snr].mean() for method in IMPORTANCE_WEIGHTED)
        assert own < others * (1 if snr >= 5 else 1.03)


def test_exact_is_never_slower_than_ia_qsmpa_as_printed_nor_than_equal_powers(every):
    _, latencies = every
    for snr in SNRS:
        exact = latencies[PlanMethod.EXACT, snr]
        assert np.isfinite(exact).all()
        for other in (PlanMethod.IA_QSMPA, PlanMethod.FIXED_P_IAQ):
            assert (exact <= latencies[other, snr]).all()


def test_latency_falls_as_the_snr_rises(every):
    _, latencies = every
    for method in PlanMethod:
        found = np.stack([latencies[method, snr] for snr in SNRS])
        finite = np.where(np.isinf(found), 1e9, found)
        assert (np.diff(finite, axis=0) <= 0).all()


def test_water_filling_starves_blocks_at_low_snr(every):
    _, latencies = every
    assert np.isinf(latencies[PlanMethod.FIXED_B_WF, 0]).all()
    assert np.isfinite(latencies[PlanMethod.FIXED_B_WF, 45]).all()


def test_a_finite_block_length_costs_latency(channels):
    for method in PlanMethod:
        for snr in (10.0, 40.0):
            latencies = [
                plan(*channels[0], snr, method=method, block_error_rate=rate).t_d
                for rate in (None, 0.1, 1e-3, 1e-6)
            ]
            for better, worse in itertools.pairwise(latencies):
                assert better < worse or better == np.inf


@pytest.mark.parametrize("method", PlanMethod)
@pytest.mark.parametrize("error_rate", [None, 1e-3])
def test_latencies_are_the_papers_sums_over_subchannels(channels, method, error_rate):
    """Equations 24, 25 and 38 by hand, one block after the other."""
    importance, gains = channels[1]
    made = plan(importance, gains, 15.0, method=method, block_error_rate=error_rate)
    worst = 0.0
    for i in range(196):
        snr = made.power[i] * gains[made.block_of_subchannel == i] ** 2 / 10**-1.5
        rate = np.log2(1 + snr)
        if error_rate is not None:
            rate -= norm.isf(error_rate) / np.sqrt(16 * 50) * np.sqrt(1 - 1 / (1 + snr) ** 2) / np.log(2)
        rate = 15e3 * np.maximum(rate, 0).sum()
        worst = max(worst, 768 * made.bits[i] / rate if rate else np.inf)
    assert made.t_d == pytest.approx(worst, rel=1e-9)


@pytest.mark.parametrize("method", PlanMethod)
def test_the_budgets_of_bits_and_power_are_spent(channels, method):
    made = plan(*channels[2], 20.0, method=method)
    assert made.bits.sum() == 392
    assert made.power_of_subchannel.sum() == pytest.approx(3136, rel=1e-9)
    assert made.power_of_subchannel.shape == (784, 4)


def test_segments_may_come_in_any_order(channels):
    importance, gains = channels[3]
    order = np.random.default_rng(0).permutation(196)
    sorted_plan, shuffled = plan(importance, gains, 20.0), plan(importance[order], gains, 20.0)
    np.testing.assert_array_equal(shuffled.bits, sorted_plan.bits[order])
    np.testing.assert_allclose(shuffled.power, sorted_plan.power[order], rtol=1e-9)
    np.testing.assert_allclose(shuffled.mean_gains, sorted_plan.mean_gains[order])


def test_the_mapping_is_the_one_asked_for(channels):
    weights, gains = channels[0]
    importance, inverse, random = (
        plan(weights, gains, 20.0, mapping=mapping, generator=np.random.default_rng(0))
        for mapping in ("importance", "inverse", "random")
    )
    assert (np.diff(importance.mean_gains) > 0).all()
    np.testing.assert_allclose(inverse.mean_gains, importance.mean_gains[::-1])
    assert np.ptp(random.mean_gains) < np.ptp(importance.mean_gains) / 2
    rows = gains_of_blocks(gains, random.block_of_subchannel, 196)
    np.testing.assert_allclose(random.mean_gains, rows.mean(axis=1))


@pytest.mark.parametrize("method", PlanMethod)
@pytest.mark.parametrize("streams", [1, 6, 8])
def test_other_numbers_of_streams(method, streams):
    numerology = Numerology(streams=streams)
    made = plan(draw_importance(0), draw_gains(numerology, 0), 30.0, method=method, numerology=numerology)
    assert made.numerology.subchannels == 784 * streams
    assert (np.bincount(made.block_of_subchannel.ravel()) == 4 * streams).all()


def test_more_streams_are_faster(channels):
    """IA-QSMPA, Figure 4, at P_tot = 3136 for all."""
    latencies = [
        plan(draw_importance(0), draw_gains(Numerology(streams=streams), 0), 20.0).t_d for streams in (4, 6, 8)
    ]
    assert latencies[0] > latencies[1] > latencies[2]


def test_the_exact_method_trades_latency_for_error_by_its_weight(channels):
    plans = [plan(*channels[0], 20.0, method="exact", latency_weight=weight) for weight in (1, 1e7, 1e8)]
    assert plans[0].t_d > plans[1].t_d > plans[2].t_d
    assert plans[0].weighted_error < plans[1].weighted_error < plans[2].weighted_error


def test_the_error_scales_with_the_squared_range(channels):
    small, large = (plan(*channels[0], 20.0, value_range=spread) for spread in (1.0, 3.0))
    assert large.weighted_error == pytest.approx(9 * small.weighted_error)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"method": "best"}, "method must be one of ia-qsmpa, ia-qsmpa-lc, fixed"),
        ({"rho": 0.1}, "rho must be within"),
        ({"rho": np.nan}, "rho must be within"),
        ({"mapping": "best"}, "mapping must be one of"),
        ({"mapping": "random"}, "generator must"),
        ({"block_error_rate": 0.7}, "block_error_rate must"),
        ({"value_range": 0.0}, "value_range must"),
        ({"method": "exact", "latency_weight": -1.0}, "latency_weight must"),
        ({"numerology": Numerology(streams=2)}, "gains must have the numerology's shape"),
        ({"snr_db": np.nan}, "snr_db must be finite"),
        ({"gains": np.ones(3136)}, "gains must have shape"),
        ({"gains": np.zeros((784, 4))}, "gains must be finite and above 0"),
        ({"importance": []}, "importance must have shape"),
        ({"importance": -np.ones(196)}, "importance must be 0 or more"),
    ],
)
def test_refuses(channels, arguments, reason):
    importance, gains = channels[0]
    with pytest.raises(ValueError, match=rf"^{reason}"):
        plan(**{"importance": importance, "gains": gains, "snr_db": 20.0} | arguments)
