"""Gilbert-Elliott channel: beside closed forms, and beside the chain enumerated state by state."""

import itertools
import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from semlink.channel.base import RawBits
from semlink.channel.bsc import flip_positions
from semlink.channel.burst import GilbertElliott, burst_edges

CHANNELS = [
    GilbertElliott(ber=0.02, burst_length=20.0),
    GilbertElliott(ber=0.05, burst_length=200.0, burst_ber=0.3, gap_ber=0.01),
    GilbertElliott(ber=0.3, burst_length=2.5, burst_ber=0.9, gap_ber=0.1),
    GilbertElliott(ber=0.4, burst_length=1.0, burst_ber=1.0),  # bursts of one bit
]
BITS = 2_000_000


@cache
def errors(channel: GilbertElliott, bits: int = BITS, seed: int = 0) -> np.ndarray:
    """(bits,) 1 where a bit errs."""
    sent = RawBits(bytes(-(-bits // 8)), bits)
    sequence = np.zeros(bits)
    sequence[channel.transmit(sent, None, None, np.random.default_rng(seed)).flips] = 1
    return sequence


def chain(channel: GilbertElliott) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stationary law, transitions and error rates of the states gap and burst, by the definition of the module."""
    share, leave = channel.burst_share, 1 / channel.burst_length
    enter = leave * share / (1 - share)
    transitions = np.array([[1 - enter, enter], [leave, 1 - leave]])
    return np.array([1 - share, share]), transitions, np.array([channel.gap_ber, channel.burst_ber])


def covariance(channel: GilbertElliott, lag: int) -> float:
    """Of the errors of two bits: (e_B - e_G)² π(1 - π) λ^lag, with λ = 1 - p - r the chain's second eigenvalue."""
    (_, share), transitions, (gap_ber, burst_ber) = chain(channel)
    second = transitions[0, 0] + transitions[1, 1] - 1
    return (burst_ber - gap_ber) ** 2 * share * (1 - share) * second**lag


def deviation(channel: GilbertElliott, bits: int = BITS) -> float:
    """Standard deviation of the mean of `bits` errors: variance and twice the sum of the covariances."""
    _, transitions, _ = chain(channel)
    second = transitions[0, 0] + transitions[1, 1] - 1
    summed = covariance(channel, 1) / (1 - second)
    return math.sqrt((channel.ber * (1 - channel.ber) + 2 * summed) / bits)


@pytest.mark.parametrize("channel", CHANNELS, ids=str)
def test_mean_bit_error_rate(channel):
    law, transitions, rates = chain(channel)
    np.testing.assert_allclose(law @ transitions, law, rtol=1e-9)
    assert law @ rates == pytest.approx(channel.ber, rel=1e-9)
    assert abs(errors(channel).mean() - channel.ber) < 6 * deviation(channel)


@pytest.mark.parametrize("channel", CHANNELS, ids=str)
def test_autocorrelation(channel):
    sequence = errors(channel) - channel.ber
    for lag in (1, 2, 5, 20, 100):
        # Lagged products of a chain that forgets within some burst lengths: so many fewer independent ones.
        independent = BITS / (1 + 2 * channel.burst_length)
        measured = sequence[lag:] @ sequence[:-lag] / (BITS - lag)
        assert abs(measured - covariance(channel, lag)) < 6 * np.std(sequence) / math.sqrt(independent)


@pytest.mark.parametrize("channel", CHANNELS, ids=str)
def test_patterns_of_five_bits(channel):
    """By the chain itself: the probability of a pattern is a product of matrices."""
    law, transitions, rates = chain(channel)
    windows = errors(channel)[: BITS // 5 * 5].reshape(-1, 5) @ (1 << np.arange(5)[::-1])
    counts = np.bincount(windows.astype(int), minlength=32)
    for index, pattern in enumerate(itertools.product((0, 1), repeat=5)):
        state = law
        for position, bit in enumerate(pattern):
            state = (state if position == 0 else state @ transitions) * (rates if bit else 1 - rates)
        probability = state.sum()
        share = counts[index] / windows.size
        effective = windows.size / (1 + 2 * channel.burst_length / 5)
        assert abs(share - probability) < 6 * math.sqrt(probability * (1 - probability) / effective) + 1e-9


@pytest.mark.parametrize("channel", CHANNELS, ids=str)
def test_bursts_and_gaps_last_for_geometric_times(channel):
    edges = burst_edges(BITS, channel.burst_share, channel.burst_length, np.random.default_rng(1))
    sizes = np.diff(edges)[1:-1]  # without the first and the last, which are cut off
    bursts, gaps = (sizes[::2], sizes[1::2]) if edges.size % 2 else (sizes[1::2], sizes[::2])
    bursts, gaps = bursts[bursts > 0], gaps[gaps > 0]
    mean_gap = channel.burst_length * (1 - channel.burst_share) / channel.burst_share
    for found, mean in ((bursts, channel.burst_length), (gaps, mean_gap)):
        if mean == 1:
            assert (found == 1).all()
            continue
        law = stats.geom(1 / mean)
        assert abs(found.mean() - mean) < 6 * law.std() / math.sqrt(found.size) + 1e-9
        edges_of = np.unique(law.ppf(np.linspace(0, 1, 13)[1:-1]))
        expected = found.size * np.diff(law.cdf(np.concatenate([[0], edges_of, [np.inf]])))
        if (used := expected > 5).sum() > 1:
            observed = np.bincount(np.searchsorted(edges_of, found), minlength=edges_of.size + 1)[used]
            wanted = expected[used] * observed.sum() / expected[used].sum()
            assert stats.chisquare(observed, wanted).pvalue > 1e-4


def test_the_first_bit_is_as_likely_in_a_burst_as_any():
    share = 0.2
    first = [burst_edges(50, share, 10.0, np.random.default_rng(seed))[1] == 0 for seed in range(3000)]
    assert abs(np.mean(first) - share) < 6 * math.sqrt(share * (1 - share) / 3000)


@given(
    bits=st.integers(0, 3000),
    share=st.just(5e-324) | st.floats(0, 1),
    burst_length=st.floats(1, 1e5),
    seed=st.integers(0, 2**32),
)
def test_edges_are_within_the_bits(bits, share, burst_length, seed):
    share *= burst_length / (1 + burst_length)
    edges = burst_edges(bits, share, burst_length, np.random.default_rng(seed))
    assert edges.size % 2
    assert edges.size >= 3
    assert (edges[0], edges[-1]) == (0, bits)
    assert (np.diff(edges) >= 0).all()


@given(ber=st.floats(0, 0.5), burst_length=st.floats(1, 1e7), bits=st.integers(0, 4000), seed=st.integers(0, 99))
def test_flips_are_within_the_bits_and_ascend(ber, burst_length, bits, seed):
    try:
        channel = GilbertElliott(ber=ber, burst_length=burst_length)
    except ValueError:
        return
    sent = RawBits(bytes(-(-bits // 8)), bits)
    flips = channel.transmit(sent, None, None, np.random.default_rng(seed)).flips
    assert (np.diff(flips, prepend=-1) > 0).all()
    assert not flips.size or flips[-1] < bits


def test_without_bursts_it_is_the_binary_symmetric_channel():
    channel = GilbertElliott(ber=0.05, gap_ber=0.05)
    flips = channel.transmit(RawBits(bytes(1000)), None, None, np.random.default_rng(3)).flips
    np.testing.assert_array_equal(flips, flip_positions(8000, 0.05, np.random.default_rng(3)))
    assert errors(GilbertElliott(ber=0.0), 8000).sum() == 0


def test_it_clusters_what_the_binary_symmetric_channel_spreads():
    """As many errors, in fewer bytes."""

    def hit_bytes(sequence: np.ndarray) -> float:
        return float(sequence.reshape(-1, 8).any(1).mean())

    independent = np.zeros(BITS)
    independent[flip_positions(BITS, 0.02, np.random.default_rng(0))] = 1
    assert hit_bytes(errors(GilbertElliott(ber=0.02))) < hit_bytes(independent) / 2


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"ber": 0.6}, "ber must be within gap_ber and burst_ber, 0.0 to 0.5, not 0.6"),
        ({"ber": 0.01, "gap_ber": 0.02}, "ber must be within"),
        ({"ber": 0.5}, "less than a bit between two bursts"),
        ({"ber": 0.4, "burst_length": 1.0}, "ber must be lower or burst_ber higher: 0.8 of all bits"),
        ({"ber": 0.01, "burst_length": 0.5}, "burst_length must be at least 1"),
    ],
)
def test_chains_that_there_are_none_of(parameters, reason):
    with pytest.raises(ValueError, match=reason):
        GilbertElliott(**parameters)


def test_an_event_loop_does_what_is_quick():
    assert GilbertElliott(ber=0.01).is_quick(301_056)
    assert not GilbertElliott(ber=0.01).is_quick(8_000_000)
    assert not GilbertElliott(ber=0.01, burst_length=1.0, burst_ber=0.02).is_quick(301_056)
