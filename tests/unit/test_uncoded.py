"""Uncoded MIMO-OFDM: the layout of a payload, the waveform behind the subcarriers, the errors that come out."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from waveform import frequency_response, multipath, ofdm_demodulate, ofdm_modulate

from semlink.channel.layout import BlockLayout
from semlink.channel.ofdm import Numerology, beamforming, draw_channel, estimated_channel, subchannel_gains
from semlink.channel.qam import ORDERS, awgn_bit_error_rate, bits_per_symbol, modulate
from semlink.channel.uncoded import send_over_matrices, send_over_subchannels, sent_amplitudes

pytestmark = pytest.mark.numeric

LONG = 10**6
"""OFDM symbols for which the channel stays."""
SMALL = Numerology(subcarriers=24, streams=3)
TAPS, PREFIX = 5, 4


def complex_normals(shape: tuple[int, ...], seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (generator.standard_normal(shape) + 1j * generator.standard_normal(shape)) / math.sqrt(2)


def shuffled_layout(bits: list[int] | np.ndarray, order: int, numerology: Numerology = SMALL) -> BlockLayout:
    """A fair share of the subchannels for each block, anywhere."""
    blocks = np.repeat(np.arange(len(bits)), numerology.subchannels // len(bits))
    blocks = np.random.default_rng(7).permutation(blocks)
    return BlockLayout(blocks.reshape(numerology.subcarriers, numerology.streams), np.array(bits), order)


def random_bits(layout: BlockLayout, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, layout.bits.sum(), dtype=np.uint8)


def random_powers(seed: int = 3, numerology: Numerology = SMALL) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.2, 2, (numerology.subcarriers, numerology.streams))


def send(bits, layout, *given_, **named):
    """Bits by hard decision, where both ends know the channel."""
    return layout.demodulate(send_over_subchannels(bits, layout, *given_, **named))


def estimated(bits, layout, channel, estimate, powers, noise_power, generator):
    """Over a channel that stays, but is known by an estimate only."""
    symbols = send_over_matrices(
        bits, layout, lambda interval: channel, estimate, powers, noise_power, generator, interval=LONG
    )
    return layout.demodulate(symbols)


layouts = st.builds(
    shuffled_layout,
    st.sampled_from([1, 2, 6, 9, 36]).flatmap(
        lambda count: st.lists(st.integers(0, 60), min_size=count, max_size=count)
    ),
    st.sampled_from(ORDERS),
)


def filled_one_by_one(layout: BlockLayout) -> dict[tuple[int, int], str]:
    """What each (OFDM symbol, subchannel) carries, in words, by filling them as one would by hand."""
    grid = {}
    for block, bits in enumerate(layout.bits.tolist()):
        own = np.flatnonzero(layout.block_of_subchannel.ravel() == block).tolist()
        time, free = -1, []
        for first in range(0, bits, bits_per_symbol(layout.order)):
            if not free:
                time, free = time + 1, own.copy()
            grid[time, free.pop(0)] = f"block {block} from bit {first}"
    return grid


@given(layouts)
def test_blocks_fill_their_subchannels_symbol_after_symbol(layout):
    expected = filled_one_by_one(layout)
    places = list(zip(layout.times.tolist(), layout.subchannels.tolist(), strict=True))
    words = [
        f"block {block} from bit {first}"
        for block, bits in enumerate(layout.bits.tolist())
        for first in range(0, bits, bits_per_symbol(layout.order))
    ]
    assert dict(zip(places, words, strict=True)) == expected
    owners = layout.block_of_subchannel.ravel()
    for block, count in enumerate(layout.ofdm_symbols.tolist()):
        assert count == 1 + max((time for time, place in expected if owners[place] == block), default=-1)


@given(layouts)
def test_the_grid_holds_what_was_put_there_and_is_idle_elsewhere(layout):
    values = complex_normals(layout.subchannels.shape, 0)
    grid = layout.to_grid(values)
    assert grid.shape == (layout.ofdm_symbols.max(), 24, 3)
    np.testing.assert_array_equal(layout.from_grid(grid), values)
    assert np.count_nonzero(grid) == values.size


def test_a_frame_of_the_paper_takes_as_many_symbols_as_its_arithmetic_says():
    """768 values of 4 bits a patch, 64-QAM on 16 subchannels: 96 bits in a symbol, 32 symbols."""
    layout = shuffled_layout(np.full(196, 768 * 4), 64, Numerology())
    np.testing.assert_array_equal(layout.ofdm_symbols, np.full(196, 32))


@given(layouts, st.integers(0, 2**32))
def test_bits_pass_without_noise_exactly(layout, seed):
    bits, channel, powers = (
        random_bits(layout, seed),
        draw_channel(SMALL, np.random.default_rng(seed)),
        random_powers(),
    )
    received = send(bits, layout, subchannel_gains(channel), powers, 0, np.random.default_rng(0))
    np.testing.assert_array_equal(received, bits)
    received = estimated(bits, layout, channel, channel, powers, 0, np.random.default_rng(0))
    np.testing.assert_array_equal(received, bits)


@given(layouts, st.integers(0, 2**32))
def test_the_long_way_round_gives_the_same_bits(layout, seed):
    """Through precoder, channel matrices and combiner, or subchannel by subchannel: same noise, same flips."""
    bits, channel, powers = (
        random_bits(layout, seed),
        draw_channel(SMALL, np.random.default_rng(seed)),
        random_powers(),
    )
    gains = subchannel_gains(channel)
    short = send(bits, layout, gains, powers, 0.05, np.random.default_rng(seed))
    long = estimated(bits, layout, channel, channel, powers, 0.05, np.random.default_rng(seed))
    np.testing.assert_array_equal(short, long)


def test_every_block_errs_as_its_own_subchannels_do():
    layout = shuffled_layout([40_000] * 8, 64)
    gains, powers = subchannel_gains(draw_channel(SMALL, np.random.default_rng(1))), random_powers()
    bits = random_bits(layout)
    flips = bits != send(bits, layout, gains, powers, 0.05, np.random.default_rng(2))
    rates = awgn_bit_error_rate(64, gains**2 * powers / 0.05)
    for block, of_block in enumerate(flips.reshape(8, -1)):
        expected = rates[layout.block_of_subchannel == block].mean()
        # Bits of a symbol err together at times: at worst all six, which bounds the standard error.
        spread = math.sqrt(6 * expected * (1 - expected) / of_block.size)
        assert abs(of_block.mean() - expected) < 3 * spread
    assert np.ptp([rates[layout.block_of_subchannel == block].mean() for block in range(8)]) > 0.02


def test_the_seed_decides_which_bits_flip():
    layout = shuffled_layout([600] * 6, 16)
    gains, bits = subchannel_gains(draw_channel(SMALL, np.random.default_rng(1))), random_bits(layout)
    first, again, other = (send(bits, layout, gains, 1, 0.1, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("order", ORDERS)
def test_a_block_without_power_arrives_as_noise_and_disturbs_nobody(order):
    layout = shuffled_layout([6000] * 6, order)
    gains = subchannel_gains(draw_channel(SMALL, np.random.default_rng(1)))
    powers = np.array([0, 1, 1, 1, 1, 1.0])[layout.block_of_subchannel]
    bits = random_bits(layout)
    for noise_power in (1e-9, 0):
        flips = (bits != send(bits, layout, gains, powers, noise_power, np.random.default_rng(2))).reshape(6, -1)
        assert 0.4 < flips[0].mean() < 0.6
        assert not flips[1:].any()


def through_the_air(grid: np.ndarray, taps: np.ndarray, prefix: int, noise: np.ndarray) -> np.ndarray:
    """Received subcarriers of (T, F, N_tx) sent ones, the whole way in time."""
    samples = multipath(ofdm_modulate(grid, prefix), taps) + noise
    return ofdm_demodulate(samples, grid.shape[1], prefix)


def noise_in_time_and_frequency(symbols: int, scale: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """White noise on the samples, and what the receiver's transform makes of it, by the definition of the DFT."""
    samples = scale * complex_normals((symbols * (24 + PREFIX), 3), seed)
    kernel = np.exp(-2j * np.pi * np.outer(np.arange(24), np.arange(24)) / 24) / math.sqrt(24)
    kept = samples.reshape(symbols, 24 + PREFIX, 3)[:, PREFIX:]
    return samples, np.einsum("fn,tnr->tfr", kernel, kept)


def test_with_a_prefix_subcarriers_see_their_own_matrix_and_nothing_else():
    grid, taps = complex_normals((6, 24, 3), 0), complex_normals((TAPS, 3, 3), 1)
    in_time, in_frequency = noise_in_time_and_frequency(6, 0.3, 2)
    response = np.einsum("lrt,lf->frt", taps, np.exp(-2j * np.pi * np.outer(np.arange(TAPS), np.arange(24)) / 24))
    np.testing.assert_allclose(frequency_response(taps, 24), response, atol=1e-9)
    expected = np.einsum("frt,nft->nfr", response, grid) + in_frequency
    np.testing.assert_allclose(through_the_air(grid, taps, PREFIX, in_time), expected, atol=1e-9)


def test_a_prefix_shorter_than_the_memory_is_not_enough():
    grid, taps = complex_normals((6, 24, 3), 0), complex_normals((TAPS, 3, 3), 1)
    received = through_the_air(grid, taps, PREFIX - 1, 0)
    ideal = np.einsum("frt,nft->nfr", frequency_response(taps, 24), grid)
    assert np.abs(received - ideal).max() > 0.1


def test_beams_over_the_air_leave_scaled_symbols_and_white_noise():
    """From bits by precoder, waveform, multipath and combiner: λ·√p·x and the combined noise, everywhere."""
    layout, taps, powers = (
        shuffled_layout([500, 90, 0, 720, 33, 6], 16),
        complex_normals((TAPS, 3, 3), 1),
        random_powers(),
    )
    symbols = layout.modulate(random_bits(layout))
    beams = beamforming(frequency_response(taps, 24))
    grid = layout.to_grid(symbols * sent_amplitudes(powers, layout).flat[layout.subchannels])
    sent = np.einsum("ftr,nfr->nft", beams.precoder, grid)
    in_time, in_frequency = noise_in_time_and_frequency(len(grid), 0.3, 2)
    combined = np.einsum("frs,nfr->nfs", beams.combiner.conj(), through_the_air(sent, taps, PREFIX, in_time))
    noise = layout.from_grid(np.einsum("frs,nfr->nfs", beams.combiner.conj(), in_frequency))
    scale = (beams.gains * np.sqrt(powers)).flat[layout.subchannels]
    np.testing.assert_allclose(layout.from_grid(combined), scale * symbols + noise, atol=1e-9)


def test_the_waveform_carries_the_sum_of_the_powers():
    """Points of QPSK all have energy 1, so that every full OFDM symbol has the sum of the powers exactly."""
    layout, powers = shuffled_layout([2 * 72 * 4], 4), random_powers()
    channel = draw_channel(SMALL, np.random.default_rng(1))
    amplitudes = sent_amplitudes(powers, layout).flat[layout.subchannels]
    grid = layout.to_grid(layout.modulate(random_bits(layout)) * amplitudes)
    samples = ofdm_modulate(np.einsum("ftr,nfr->nft", beamforming(channel).precoder, grid), PREFIX)
    energies = (np.abs(samples.reshape(4, 24 + PREFIX, 3)[:, PREFIX:]) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(energies, powers.sum(), rtol=1e-9)


def test_the_prefix_repeats_the_end_of_its_symbol():
    symbols = ofdm_modulate(complex_normals((5, 24, 3), 0), PREFIX).reshape(5, 24 + PREFIX, 3)
    np.testing.assert_array_equal(symbols[:, :PREFIX], symbols[:, -PREFIX:])


def test_the_waveform_is_that_of_sionna():
    """Its OFDM modulator, time-domain channel and OFDM demodulator, in double precision."""
    import torch
    from sionna.phy.channel import ApplyTimeChannel
    from sionna.phy.ofdm import OFDMDemodulator, OFDMModulator

    grid, taps = complex_normals((6, 24, 3), 0), complex_normals((TAPS, 3, 3), 1)
    double = {"precision": "double", "device": "cpu"}
    centred = np.fft.fftshift(grid, axes=1)  # sionna has the carrier in the middle, not first
    samples = OFDMModulator(PREFIX, **double)(torch.from_numpy(centred.transpose(2, 0, 1).copy()))
    np.testing.assert_allclose(ofdm_modulate(grid, PREFIX), samples.numpy().T, atol=1e-9)
    held = np.broadcast_to(taps.transpose(1, 2, 0)[:, :, None], (3, 3, samples.shape[1] + TAPS - 1, TAPS))
    received = ApplyTimeChannel(samples.shape[1], TAPS, **double)(
        samples[None, None], torch.from_numpy(held[None, None, :, None].copy())
    )
    theirs = OFDMDemodulator(24, 0, PREFIX, **double)(received)[0, 0].numpy().transpose(1, 2, 0)
    expected = np.fft.ifftshift(theirs, axes=1)
    np.testing.assert_allclose(through_the_air(grid, taps, PREFIX, 0), expected, atol=1e-9)


def decided_by_sionna(
    bits: np.ndarray, layout: BlockLayout, channel: np.ndarray, estimate: np.ndarray
) -> np.ndarray:
    """Bits of a channel without noise through sionna's matrices and demapper; the beams are NumPy's."""
    import torch
    from sionna.phy.channel import ApplyOFDMChannel
    from sionna.phy.mapping import Demapper, Mapper

    double = {"precision": "double", "device": "cpu"}
    width = bits_per_symbol(layout.order)
    symbols = Mapper("qam", width, **double)(torch.from_numpy(bits.astype(np.int64))[None]).numpy()[0]
    left, gains, right = np.linalg.svd(estimate)
    sent = np.einsum("frt,nfr->tnf", right.conj(), layout.to_grid(symbols))
    through = np.broadcast_to(channel.transpose(1, 2, 0)[:, :, None], (3, 3, sent.shape[1], 24))
    received = ApplyOFDMChannel(**double)(
        torch.from_numpy(sent[None, None].copy()), torch.from_numpy(through[None, None, :, None].copy())
    )
    combined = np.einsum("frs,rnf->nfs", left.conj(), received[0, 0].numpy()) / gains
    demapper = Demapper("maxlog", "qam", width, hard_out=True, **double)
    values = torch.from_numpy(layout.from_grid(combined))
    return demapper(values, torch.tensor(1.0, dtype=torch.float64)).numpy().astype(np.uint8)


@pytest.mark.parametrize("order", ORDERS)
def test_an_estimate_lets_streams_disturb_each_other_as_in_sionna(order):
    """Blocks of unequal length, so that streams fall silent one after another; no noise but their interference."""
    layout = shuffled_layout(np.arange(1, 7) * 8 * 30, order)
    channel, bits = draw_channel(SMALL, np.random.default_rng(4)), random_bits(layout)
    estimate = estimated_channel(channel, 0.05, np.random.default_rng(5))
    received = estimated(bits, layout, channel, estimate, 1, 0, np.random.default_rng(6))
    assert (received != bits).sum() > 10
    np.testing.assert_array_equal(received, decided_by_sionna(bits, layout, channel, estimate))


def test_a_worse_estimate_costs_more_bits():
    layout, channel = shuffled_layout([6000] * 6, 16), draw_channel(SMALL, np.random.default_rng(4))
    bits, errors = random_bits(layout), []
    for variance in (0, 0.01, 0.1, 1):
        estimate = estimated_channel(channel, variance, np.random.default_rng(5))
        received = estimated(bits, layout, channel, estimate, 1, 0.001, np.random.default_rng(6))
        errors.append((received != bits).mean())
    assert errors[0] < 0.01
    assert (np.diff(errors) > 0.005).all()


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("order", {"order": 8}),
        ("bits", {"bits": [-1, 5]}),
        ("bits", {"bits": []}),
        ("bits", {"bits": [0.5, 1]}),
        ("bits", {"bits": [[1, 2]]}),
        ("block_of_subchannel", {"block_of_subchannel": [0, 1]}),
        ("block_of_subchannel", {"block_of_subchannel": [[0, 0, 0, 1]]}),
        ("block_of_subchannel", {"block_of_subchannel": [[0, 2]]}),
        ("block_of_subchannel", {"block_of_subchannel": [[0.0, 1.0]]}),
    ],
)
def test_layouts_of_another_form_are_refused(name, fields):
    with pytest.raises(ValueError, match=name):
        BlockLayout(**{"block_of_subchannel": [[0, 1]], "bits": [4, 4], "order": 4, **fields})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("bits", [np.zeros(7, np.uint8), np.full(8, 2, np.uint8), np.zeros(8)]),
        ("gains", [np.ones((2, 1)), np.ones(2), np.array([[1, -1.0]]), np.array([[1, np.nan]])]),
        ("powers", [np.ones((2, 1)), np.ones(2), -1, np.inf, np.array([[1, np.nan]])]),
        ("noise_power", [-1, math.nan, math.inf]),
    ],
)
def test_what_does_not_fit_the_layout_is_refused(name, values):
    good = {"bits": np.zeros(8, np.uint8), "gains": np.ones((1, 2)), "powers": 1, "noise_power": 1}
    layout = BlockLayout(np.array([[0, 1]]), np.array([4, 4]), 4)
    for value in values:
        with pytest.raises(ValueError, match=name):
            send(layout=layout, generator=np.random.default_rng(0), **{**good, name: value})


def test_shapes_that_do_not_fit_each_other_are_refused():
    layout, generator = shuffled_layout([4] * 6, 4), np.random.default_rng(0)
    channel = draw_channel(SMALL, generator)
    with pytest.raises(ValueError, match="channel"):
        estimated(random_bits(layout), layout, channel[1:], channel, 1, 0, generator)
    with pytest.raises(ValueError, match="samples"):
        ofdm_demodulate(np.zeros((27, 3), complex), 24, PREFIX)
    with pytest.raises(ValueError, match="prefix"):
        ofdm_modulate(np.zeros((1, 24, 3), complex), 25)
    for count in (0, 25):
        with pytest.raises(ValueError, match="taps"):
            frequency_response(np.zeros((count, 3, 3), complex), 24)


def test_an_empty_payload_passes():
    layout = shuffled_layout([0] * 6, 64)
    channel, nothing = draw_channel(SMALL, np.random.default_rng(0)), np.zeros(0, np.uint8)
    assert modulate(nothing, 64).size == 0
    assert send(nothing, layout, subchannel_gains(channel), 1, 1, np.random.default_rng(0)).size == 0
    assert estimated(nothing, layout, channel, channel, 1, 1, np.random.default_rng(0)).size == 0
    assert not layout.ofdm_symbols.any()
