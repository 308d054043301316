"""Blocks that do not divide the subchannels, and more blocks than subchannels."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from semlink.access import planner
from semlink.access.ia_qsmpa import theorem_2_power
from semlink.access.load_planner import plan_loads
from semlink.access.mapping import SubcarrierMapping, map_subcarriers
from semlink.access.planner import PlanMethod, draw_importance, plan
from semlink.access.power import capacity_water_filling, equal_finish
from semlink.channel.blocks import Blocks, gains_of_blocks
from semlink.channel.layout import BlockLayout
from semlink.channel.mimo_ofdm import MimoOfdm
from semlink.channel.ofdm import Numerology, draw_channel, subchannel_gains
from semlink.channel.rates import dispersion_penalty
from semlink.channel.uncoded import send_over_matrices, send_over_subchannels

pytestmark = pytest.mark.numeric

BITS = np.array([1, 3, 2, 5, 1])
BY_THEOREM_2 = {PlanMethod.IA_QSMPA, PlanMethod.IA_QSMPA_LC, PlanMethod.UNIFORM}


def fading(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal(shape) + 1j * generator.standard_normal(shape)


def ragged(seed=0, penalty=0.0, noise_power=0.1):
    """Five blocks over 13 subchannels."""
    gains = np.abs(fading(13, 1, seed=seed))
    blocks = map_subcarriers(BITS, gains)
    return Blocks(gains_of_blocks(gains, blocks, 5), noise_power, 13.0, 15e3, 768, penalty), gains, blocks


@given(
    subchannels=st.integers(1, 300),
    count=st.integers(1, 300),
    mapping=st.sampled_from(SubcarrierMapping),
    seed=st.integers(0, 100),
)
def test_every_block_gets_its_share_and_the_weakest_what_is_left(subchannels, count, mapping, seed):
    generator = np.random.default_rng(seed)
    importance, gains = generator.random(count), generator.random((subchannels, 1)) + 0.1
    if count > subchannels:
        with pytest.raises(ValueError, match="at least"):
            map_subcarriers(importance, gains, mapping, generator=generator)
        return
    blocks = map_subcarriers(importance, gains, mapping, generator=generator)
    widths = np.bincount(blocks.ravel(), minlength=count)
    more = widths > subchannels // count
    assert more.sum() == subchannels % count
    assert widths.min() == subchannels // count
    if more.any():  # the first groups, which go to the least important or, inversely, to the most important
        sign = -1 if mapping == SubcarrierMapping.INVERSE else 1
        assert (sign * importance[more]).max() < np.min(sign * importance[~more], initial=2)
    rows = gains_of_blocks(gains, blocks, count)
    np.testing.assert_array_equal(np.count_nonzero(rows, axis=1), widths)
    np.testing.assert_allclose(rows.sum(), gains.sum())
    if mapping == SubcarrierMapping.IMPORTANCE:  # a more important block has no worse subchannel
        order = np.argsort(importance, kind="stable")
        for lower, higher in pairwise(order):
            assert rows[lower].max() <= rows[higher][: widths[higher]].min()


@pytest.mark.parametrize("method", ["ia-qsmpa", "exact", "uniform", "fixed", "ia-qsmpa-lc"])
def test_frames_are_faster_where_the_weakest_have_what_is_left(method, monkeypatch):
    """Than where the strongest have it; but for Top-β, whose few important blocks have most of the bits."""

    def strongest(importance, gains, mapping, generator):
        order, (least, left) = np.argsort(importance), divmod(gains.size, importance.size)
        blocks = np.empty(gains.size, np.int64)
        blocks[np.argsort(gains, axis=None)] = np.repeat(order, least + (np.arange(196)[::-1] < left))
        return blocks.reshape(gains.shape)

    link = Numerology(300, 4, total_power=1200.0)
    drawn = [subchannel_gains(draw_channel(link, np.random.default_rng(seed))) for seed in range(4)]

    def latencies():
        made = (plan(draw_importance(0), gains, 15.0, method=method, numerology=link) for gains in drawn)
        return np.array([each.t_d for each in made])

    weakest_have_it = latencies()
    monkeypatch.setattr(planner, "map_subcarriers", strongest)
    assert ((weakest_have_it < latencies()) == (method != "ia-qsmpa-lc")).all()


@settings(deadline=None, max_examples=40)
@given(
    subcarriers=st.integers(1, 120),
    receive=st.integers(1, 5),
    transmit=st.integers(1, 5),
    count=st.integers(1, 60),
    method=st.sampled_from(PlanMethod),
    finite=st.booleans(),
    seed=st.integers(0, 5),
)
def test_any_channel_has_a_plan_for_any_number_of_blocks(
    subcarriers, receive, transmit, count, method, finite, seed
):
    gains = subchannel_gains(fading(subcarriers, receive, transmit, seed=seed))
    streams = min(receive, transmit)
    assert gains.shape == (subcarriers, streams)
    link = Numerology(subcarriers, streams, total_power=float(subcarriers * streams))
    importance = draw_importance(seed, segments=count)
    error_rate = 1e-3 if finite else None
    make = partial(plan, importance, gains, 15.0, numerology=link, block_error_rate=error_rate)
    times = -(-count // gains.size)
    shortest = times * gains.size // count * link.repeated(count).coherence_symbols
    if finite and method in BY_THEOREM_2 and dispersion_penalty(1e-3, shortest) >= 2:
        with pytest.raises(ValueError, match="take fewer blocks, or plan `exact`"):
            make(method=method)
        method = "exact"
    made = make(method=method)
    assert made.numerology.subcarriers == times * subcarriers
    assert made.power_of_subchannel.sum() <= link.total_power * times * (1 + 1e-9)
    power_is_spent = made.power_of_subchannel.sum() == pytest.approx(link.total_power * times)
    assert power_is_spent or not np.isfinite(made.t_d)
    # The latency of every block by equation (24), subchannel by subchannel.
    if not finite:
        snr = np.tile(gains, (times, 1)) ** 2 * made.power_of_subchannel * 10**1.5
        rates = (
            np.bincount(made.block_of_subchannel.ravel(), np.log2(1 + snr).ravel()) * made.numerology.spacing_hz
        )
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(made.latencies, 768 * made.bits / rates, rtol=1e-9)


@pytest.mark.parametrize("penalty", [0.0, dispersion_penalty(1e-3, 100)])
def test_powers_of_uneven_blocks_finish_together_and_earliest(penalty):
    blocks, _, of_subchannel = ragged(penalty=penalty)
    power, latency = equal_finish(BITS, blocks)
    np.testing.assert_allclose(blocks.latencies(BITS, power), latency, rtol=1e-9)
    assert power[of_subchannel].sum() == pytest.approx(13.0, rel=1e-9)
    generator = np.random.default_rng(0)
    for _ in range(20):  # any other way to spend the same power is slower
        other = power * np.exp(0.1 * generator.standard_normal(5))
        other *= 13.0 / other[of_subchannel].sum()
        assert blocks.latencies(BITS, other).max() > latency


def test_the_mean_gain_and_its_bandwidth_are_those_of_each_block():
    blocks, gains, of_subchannel = ragged()
    mean = blocks.averaged()
    for number in range(5):
        own = gains[of_subchannel == number]
        assert mean.gains[number, 0] == pytest.approx(own.mean())
        rate = 15e3 * own.size * np.log2(1 + 0.7 * own.mean() ** 2 / 0.1)
        assert mean.rates(np.full(5, 0.7))[number] == pytest.approx(rate)
    power, latency = equal_finish(BITS, mean)
    assert power[of_subchannel].sum() == pytest.approx(13.0)
    np.testing.assert_allclose(mean.latencies(BITS, power), latency)


def test_theorem_2_spends_the_budget_of_uneven_blocks_at_one_latency():
    blocks, _, of_subchannel = ragged(penalty=dispersion_penalty(1e-3, 100))
    power, latency = theorem_2_power(BITS, blocks)
    assert power[of_subchannel].sum() == pytest.approx(13.0)
    mean = blocks.averaged()
    snr = power * mean.gains[:, 0] ** 2 / 0.1
    alpha = 1 - blocks.penalty / 2
    low = mean.gains[:, 0] ** 2 / 0.1 < 1
    rate = np.where(low, alpha * snr - (1 - alpha), snr - 2 * (1 - alpha)) / np.log(2) * mean.bandwidth
    np.testing.assert_allclose(768 * BITS / rate, latency, rtol=1e-9)


def test_water_filling_over_uneven_blocks_is_what_an_optimiser_finds():
    blocks, _, _ = ragged(noise_power=3.0)
    power = capacity_water_filling(blocks)
    widths, snr = blocks.widths, blocks.mean_gains**2 / 3.0
    found = minimize(
        lambda each: -(widths * np.log1p(each * snr)).sum(),
        np.full(5, 1.0),
        bounds=[(0, None)] * 5,
        constraints={"type": "eq", "fun": lambda each: widths @ each - 13.0},
        tol=1e-12,
    )
    np.testing.assert_allclose(power, found.x, atol=1e-4)
    assert widths @ power == pytest.approx(13.0)


def test_blocks_without_bits_leave_their_power_to_the_others():
    blocks, _, of_subchannel = ragged()
    bits = np.array([2, 0, 1, 0, 3])
    power, latency = equal_finish(bits, blocks)
    assert (power[bits == 0] == 0).all()
    assert power[of_subchannel].sum() == pytest.approx(13.0)
    np.testing.assert_allclose(blocks.latencies(bits, power)[bits > 0], latency)


def test_the_exact_optimum_of_uneven_blocks_is_better_than_the_printed_ones():
    gains, importance = np.abs(fading(101, 3)), draw_importance(0, segments=47)
    link = Numerology(101, 3, total_power=303.0)
    made = {
        method: plan(importance, gains, 10.0, method=method, numerology=link, latency_weight=1e6)
        for method in PlanMethod
    }
    costs = {method: each.weighted_error + 1e6 * each.t_d for method, each in made.items()}
    assert costs[PlanMethod.EXACT] == min(costs.values())
    np.testing.assert_allclose(made[PlanMethod.EXACT].latencies, made[PlanMethod.EXACT].t_d, rtol=1e-6)


@settings(deadline=None, max_examples=40)
@given(subchannels=st.integers(1, 40), seed=st.integers(0, 1000), order=st.sampled_from([4, 64]))
def test_a_layout_of_uneven_blocks_gives_every_symbol_its_own_place(subchannels, seed, order):
    generator = np.random.default_rng(seed)
    count = int(generator.integers(1, subchannels + 1))
    blocks = map_subcarriers(generator.random(count), generator.random((subchannels, 1)))
    layout = BlockLayout(blocks, generator.integers(0, 60, count), order)
    places = layout.times * subchannels + layout.subchannels
    assert np.unique(places).size == places.size == layout.symbols.sum()
    of_symbol = np.repeat(np.arange(count), layout.symbols)
    np.testing.assert_array_equal(blocks.ravel()[layout.subchannels], of_symbol)
    for block in range(count):  # no OFDM symbol is left idle before the last
        assert np.max(layout.times[of_symbol == block], initial=-1) == layout.ofdm_symbols[block] - 1
    bits = generator.integers(0, 2, layout.bits.sum(), np.uint8)
    gains = generator.random((subchannels, 1)) + 0.1
    arrived = send_over_subchannels(bits, layout, gains, 1.0, 0.0, generator)
    np.testing.assert_array_equal(layout.demodulate(arrived), bits)


@pytest.mark.parametrize(("receive", "transmit", "streams"), [(5, 2, 2), (2, 5, 2), (4, 4, 3), (3, 6, 1)])
def test_rectangular_channels_carry_bits_over_their_beams(receive, transmit, streams):
    channel = fading(40, receive, transmit)
    generator = np.random.default_rng(0)
    gains = subchannel_gains(channel, streams)
    layout = BlockLayout(map_subcarriers(range(7), gains), np.full(7, 301), 16)
    bits = generator.integers(0, 2, layout.bits.sum(), np.uint8)
    short = send_over_subchannels(bits, layout, gains, 1.0, 0.05, np.random.default_rng(5))
    long = send_over_matrices(
        bits, layout, lambda _: channel, channel, 1.0, 0.05, np.random.default_rng(5), interval=50
    )
    np.testing.assert_array_equal(layout.demodulate(long), layout.demodulate(short))
    assert np.count_nonzero(layout.demodulate(short) != bits) < bits.size / 4


def test_more_blocks_than_subchannels_take_several_symbols_as_one():
    link = Numerology(64, 1, total_power=64.0).repeated(196)
    assert (link.subcarriers, link.spacing_hz, link.total_power, link.coherence_symbols) == (
        256,
        3750.0,
        256.0,
        12,
    )
    assert link.symbol_seconds == pytest.approx(4 / 15e3)
    assert Numerology().repeated(196) == Numerology()


def test_a_frame_over_fewer_subchannels_than_patches_takes_as_long_as_its_symbols(tmp_path):
    """A flat channel of one antenna: QAM symbols one after the other, as over white noise."""
    np.save(tmp_path / "flat.npy", np.ones((49, 1, 1), complex))
    channel = MimoOfdm(channel_file=tmp_path / "flat.npy", coding="uncoded", order=4, snr_db=30.0)

    class Segments:
        payload, payload_bits, segment_bits = bytes(196), 196 * 8, np.full(196, 8)

    state = channel.draw_state(lambda *_: np.random.default_rng(0))
    made = plan_loads(
        np.full(196, 8), np.ones(196), state.gains, 30.0, method="fixed", numerology=channel.numerology
    )
    arrival = channel.transmit(Segments(), made, state, np.random.default_rng(0))
    assert arrival.flips.size == 0
    # 196 blocks of 8 bits are 4 symbols each; 4 of them share a subcarrier: 16 OFDM symbols.
    np.testing.assert_allclose(arrival.seconds, 16 / 15e3)
