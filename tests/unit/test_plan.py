"""Rules that a transmission plan keeps."""

from dataclasses import replace

import numpy as np
import pytest

from semlink.access.planner import draw_gains, draw_importance, plan
from semlink.channel.ofdm import Numerology
from semlink.channel.plan import PLAN_RULES

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def made():
    return plan(draw_importance(0), draw_gains(Numerology(), 0), 20.0)


def with_value(array, place, value):
    changed = np.array(array)
    changed[place] = value
    return changed


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
        ("rho", lambda _: np.nan, "budget: rho must be within"),
    ],
)
def test_a_broken_rule_is_named(made, field, change, rule):
    with pytest.raises(ValueError, match=rf"^{rule}") as refusal:
        replace(made, **{field: change(getattr(made, field))})
    named = rule.partition(":")[0]
    assert getattr(refusal.value, "rule", None) == (named if named in PLAN_RULES else None)
