"""A channel that is not the one a plan was made for: interference, latencies over many intervals, late bits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semlink.channel.blocks import MAX_INTERVALS, latencies_over_intervals
from semlink.channel.layout import BlockLayout
from semlink.channel.ofdm import (
    Numerology,
    beamforming,
    draw_channel,
    equivalent_gains,
    estimated_channel,
    subchannel_gains,
)
from semlink.channel.uncoded import send_over_matrices, send_over_subchannels

pytestmark = pytest.mark.numeric

SMALL = Numerology(subcarriers=24, streams=3)
POWERS = np.random.default_rng(3).uniform(0.2, 2, (24, 3))


def channel(seed: int) -> np.ndarray:
    return draw_channel(SMALL, np.random.default_rng(seed))


def layout(bits: list[int], order: int = 16) -> BlockLayout:
    blocks = np.random.default_rng(7).permutation(np.repeat(np.arange(len(bits)), SMALL.subchannels // len(bits)))
    return BlockLayout(blocks.reshape(24, 3), np.array(bits), order)


def bits_of(of: BlockLayout) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, of.bits.sum(), dtype=np.uint8)


def test_a_perfect_estimate_has_the_singular_values_as_gains():
    gains = equivalent_gains(channel(0), beamforming(channel(0)), POWERS, 0.1)
    np.testing.assert_allclose(gains, subchannel_gains(channel(0)), rtol=1e-9)


def test_equivalent_gains_give_the_ratio_that_a_receiver_measures():
    """Random symbols over every subcarrier, the share of each stream's own found by correlation."""
    generator = np.random.default_rng(1)
    true, noise = channel(0), 0.1
    beams = beamforming(estimated_channel(true, 0.05, generator))
    sent = (
        generator.standard_normal((24, 3, 40_000)) + 1j * generator.standard_normal((24, 3, 40_000))
    ) / math.sqrt(2)
    sent *= np.sqrt(POWERS)[:, :, None]
    arriving = true @ (beams.precoder @ sent)
    arriving += math.sqrt(noise / 2) * (
        generator.standard_normal(arriving.shape) + 1j * generator.standard_normal(arriving.shape)
    )
    seen = beams.combiner.conj().swapaxes(1, 2) @ arriving
    own = (seen * sent.conj()).sum(-1) / (np.abs(sent) ** 2).sum(-1)
    rest = seen - own[:, :, None] * sent
    measured = np.abs(own) ** 2 * POWERS / (np.abs(rest) ** 2).mean(-1)
    gains = equivalent_gains(true, beams, POWERS, noise)
    np.testing.assert_allclose(POWERS * gains**2 / noise, measured, rtol=0.1)


def test_constant_rates_take_load_over_rate():
    rates = np.array([10.0, 1.0, 0.5, 2.0])
    load = np.array([5.0, 3.0, 0.0, 2000.0])
    np.testing.assert_allclose(latencies_over_intervals(load, lambda _: rates, 0.7), load / rates, rtol=1e-9)


def test_a_block_without_rate_never_ends_and_one_that_gets_it_late_does():
    def rates(number: int) -> np.ndarray:
        return np.array([0.0, 0.0 if number < 3 else 4.0, 1.0])

    np.testing.assert_allclose(latencies_over_intervals([1, 2, 0.25], rates, 1.0), [np.inf, 3.5, 0.25])


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_rates_add_up_to_the_load(seed, intervals):
    generator = np.random.default_rng(seed)
    rates = generator.uniform(0, 5, (MAX_INTERVALS, 6))
    load = generator.uniform(0, intervals, 6)
    ends = latencies_over_intervals(load, lambda number: rates[number], 0.5)
    inside = ends <= 0.5 * MAX_INTERVALS
    times = np.clip(ends[None] - 0.5 * np.arange(MAX_INTERVALS)[:, None], 0, 0.5)
    np.testing.assert_allclose((times * rates).sum(0)[inside], load[inside], rtol=1e-9, atol=1e-9)


def test_what_many_intervals_do_not_carry_goes_on_at_their_mean_without_the_first():
    load = 3.0 * (MAX_INTERVALS - 1) + 1000.0
    (seconds,) = latencies_over_intervals([load], lambda number: np.array([1000.0 if number == 0 else 3.0]), 1.0)
    assert seconds == pytest.approx(MAX_INTERVALS)
    (seconds,) = latencies_over_intervals([load + 6], lambda number: np.array([3.0 if number else 1000.0]), 1.0)
    assert seconds == pytest.approx(MAX_INTERVALS + 2)


def send_by_hand(bits, of, true, estimate, noise_power, generator):
    """All OFDM symbols at once through precoder, channel, noise and combiner."""
    beams = beamforming(estimate)
    grid = of.to_grid(of.modulate(bits)) * np.sqrt(POWERS)
    arriving = np.einsum("frs,tfs->tfr", beams.combiner.conj().swapaxes(1, 2) @ true @ beams.precoder, grid)
    noise = (generator.standard_normal(2 * of.times.size) * math.sqrt(0.5)).view(complex)
    received = of.from_grid(arriving) + noise * math.sqrt(noise_power)
    return of.demodulate(received / (beams.gains * np.sqrt(POWERS)).take(of.subchannels))


@pytest.mark.parametrize("interval", [1, 2, 5, 1000])
def test_a_channel_that_stays_gives_the_bits_of_a_held_one(interval):
    of = layout([200, 0, 1, 77, 300, 160])
    true = channel(0)
    estimate = estimated_channel(true, 0.02, np.random.default_rng(2))
    bits = bits_of(of)
    held = send_by_hand(bits, of, true, estimate, 0.05, np.random.default_rng(9))
    assert (held != bits).any()
    asked = []
    redrawn = send_over_matrices(
        bits, of, lambda number: asked.append(number) or true, estimate, POWERS, 0.05, np.random.default_rng(9),
        interval=interval,
    )  # fmt: skip
    np.testing.assert_array_equal(of.demodulate(redrawn), held)
    assert asked == list(range(math.ceil(max(of.ofdm_symbols) / interval)))


def test_each_interval_meets_its_own_channel():
    of = layout([480, 480])  # 120 symbols on 36 subchannels: 4 OFDM symbols
    bits, first = bits_of(of), channel(0)
    second = [first, channel(1), first, first]
    arrived = send_over_matrices(
        bits, of, second.__getitem__, first, POWERS, 0.0, np.random.default_rng(0), interval=1
    )
    wrong = (of.demodulate(arrived) != bits).reshape(-1, 4).any(1)
    assert not wrong[of.times != 1].any()
    assert wrong[of.times == 1].mean() > 0.5
    held = send_over_subchannels(bits, of, subchannel_gains(first), POWERS, 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(of.demodulate(held), bits)


def test_an_empty_payload_passes_and_an_interval_of_nothing_does_not():
    of = layout([0, 0])
    sent = np.empty(0, np.uint8)
    given_ = (sent, of, channel, channel(0), POWERS, 0.1, np.random.default_rng(0))
    assert send_over_matrices(*given_, interval=3).size == 0
    with pytest.raises(ValueError, match="interval must be"):
        send_over_matrices(*given_, interval=0)
