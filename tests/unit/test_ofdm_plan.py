"""The rules of a plan: whoever is handed one may rely on them."""

from dataclasses import replace

import numpy as np
import pytest

from semlink.access.planner import plan
from semlink.access.recipe import draw_gains, draw_scores
from semlink.access.transmission_plan import RULES, Plan
from semlink.channel.ofdm import Numerology


@pytest.fixture(scope="module")
def made():
    return plan(draw_scores(0), draw_gains(Numerology(), 0), 20.0)


def with_value(array, place, value):
    changed = np.array(array)
    changed[place] = value
    return changed


def test_it_survives_a_message(made):
    copy = Plan.from_arrays(made.to_arrays())
    for name in ("bits", "block_of_subchannel", "power", "latencies", "mean_gains"):
        np.testing.assert_array_equal(getattr(copy, name), getattr(made, name))
    for name in ("method", "numerology", "snr_db", "rho", "weighted_error", "block_error_rate", "bits_per_level"):
        assert getattr(copy, name) == getattr(made, name)


def test_an_infinite_latency_survives_too(made):
    starved = replace(made, latencies=with_value(made.latencies, 3, np.inf))
    assert Plan.from_arrays(starved.to_arrays()).t_d == np.inf
    assert starved.exceeds_coherence


def test_the_subchannels_of_a_block_are_those_that_carry_it(made):
    subchannels = made.to_arrays()["subchannels"]
    assert subchannels.shape == (196, 16)
    for block in (0, 77, 195):
        np.testing.assert_array_equal(subchannels[block], np.flatnonzero(made.block_of_subchannel == block))


def test_power_goes_to_the_subchannels_of_its_block(made):
    for block in (0, 195):
        assert (made.power_of_subchannel[made.block_of_subchannel == block] == made.power[block]).all()
    assert made.power_of_subchannel.sum() == pytest.approx(made.numerology.total_power)


def test_coherence(made):
    """50 symbols of 1/15 kHz each are 3.3 ms."""
    assert made.coherence_seconds == pytest.approx(1 / 300)
    for latency, longer in ((0.00333, False), (0.00334, True)):
        slow = replace(made, latencies=np.full(196, latency))
        assert slow.exceeds_coherence is longer


@pytest.mark.parametrize(
    ("field", "change", "rule"),
    [
        ("power", lambda power: power * 1.001, r"power: it adds up to 3139\.136, P_tot is 3136"),
        ("power", lambda power: with_value(power, 5, -0.1), "power: it must be finite and at least 0"),
        ("power", lambda power: with_value(power, 5, np.nan), "power: it must be finite and at least 0"),
        ("power", lambda power: power[:-1], "sizes: power must be one per block"),
        ("latencies", lambda latencies: latencies[None], "sizes: latencies must be one per block"),
        ("latencies", lambda latencies: with_value(latencies, 0, np.nan), "latency: it must be at least 0"),
        ("mean_gains", lambda gains: gains[1:], "sizes: mean_gains must be one per block"),
        ("bits", lambda bits: with_value(bits, 0, 0), r"bits: they must be within \[1, 8\], not 0 to"),
        ("bits", lambda bits: with_value(bits, 0, 9), r"bits: they must be within \[1, 8\], not 1 to 9"),
        ("bits", lambda bits: bits.astype(float), "bits: they must be integers"),
        ("bits", lambda bits: with_value(bits, 0, 2), r"budget: the bits add up to 393, ρ = 0\.25 allows 392"),
        ("bits", lambda bits: bits[:0], "sizes: bits must be one per block"),
        (
            "block_of_subchannel",
            lambda blocks: blocks[1:],
            r"sizes: block_of_subchannel must have shape \(784, 4\)",
        ),
        (
            "block_of_subchannel",
            lambda blocks: with_value(blocks, (0, 0), (blocks[0, 0] + 1) % 196),
            "mapping: .* must give every block 16 subchannels",
        ),
        ("block_of_subchannel", lambda blocks: with_value(blocks, (0, 0), 196), "mapping: .* within"),
        ("snr_db", lambda _: np.inf, "snr_db must be finite"),
        ("rho", lambda _: 0.2, "budget: the bits add up to 392"),
        ("rho", lambda _: np.nan, "rho must be within"),
    ],
)
def test_a_broken_rule_is_named(made, field, change, rule):
    with pytest.raises(ValueError, match=rf"^{rule}") as refusal:
        replace(made, **{field: change(getattr(made, field))})
    named = rule.partition(":")[0]
    assert getattr(refusal.value, "rule", None) == (named if named in RULES else None)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda s: with_value(s, (9, 0), s[4, 2]), r"mapping: subchannel \d+ is used by blocks 4 and 9"),
        (lambda s: with_value(s, (0, 0), 3136), r"mapping: subchannels must be within \[0, 3135\]"),
        (lambda s: with_value(s, (0, 0), -1), r"mapping: subchannels must be within \[0, 3135\]"),
        (lambda s: s[:-1], "mapping: it has 3120 subchannels, the link 3136"),
        (lambda s: s.ravel(), "mapping: subchannels must be integers of shape"),
        (lambda s: s.astype(float), "mapping: subchannels must be integers of shape"),
        (lambda s: s.reshape(392, 8), "mapping: .* must be within"),
    ],
)
def test_a_mapping_that_no_link_has_is_refused(made, change, rule):
    arrays = made.to_arrays()
    with pytest.raises(ValueError, match=rf"^{rule}"):
        Plan.from_arrays(arrays | {"subchannels": change(arrays["subchannels"])})


def test_a_numerology_that_no_link_has_is_refused(made):
    with pytest.raises(ValueError, match="subcarriers must"):
        Plan.from_arrays(made.to_arrays() | {"subcarriers": 0})
