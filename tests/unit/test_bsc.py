"""The binary symmetric channel: its statistics, its independence of chunks, its limits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from semlink.channel.base import RawBits
from semlink.channel.bsc import BinarySymmetricChannel, flip_positions
from semlink.channel.none import NoImpairment

PAYLOAD_BITS = 301_056  # of a 224×224×3 image at ρ = 0.25


def draw(ber: float, bits: int, seed: int = 0) -> np.ndarray:
    return flip_positions(bits, ber, np.random.default_rng(seed))


@pytest.mark.parametrize("ber", [1e-4, 0.01, 0.2, 0.5, 0.9])
def test_number_of_flips_is_binomial(ber):
    bits, draws = 2000, 3000
    counts = np.array([draw(ber, bits, seed).size for seed in range(draws)])
    law = stats.binom(bits, ber)
    # Cells of equal probability, as near as a discrete law allows; a chi-square over them.
    edges = np.unique(law.ppf(np.linspace(0, 1, 13)[1:-1]))
    observed = np.bincount(np.searchsorted(edges, counts), minlength=edges.size + 1)
    expected = draws * np.diff(law.cdf(np.concatenate([[-1], edges, [bits]])))
    assert stats.chisquare(observed, expected).pvalue > 1e-3


@pytest.mark.parametrize("ber", [0.01, 0.3])
def test_gaps_are_geometric(ber):
    gaps = np.diff(draw(ber, 1_000_000, seed=1), prepend=-1)
    law = stats.geom(ber)
    edges = np.unique(law.ppf(np.linspace(0, 1, 21)[1:-1]))
    observed = np.bincount(np.searchsorted(edges, gaps), minlength=edges.size + 1)
    expected = gaps.size * np.diff(law.cdf(np.concatenate([[0], edges, [np.inf]])))
    assert stats.chisquare(observed, expected).pvalue > 1e-3


def test_flips_are_spread_evenly():
    positions = draw(0.05, 1_000_000, seed=2)
    assert stats.kstest(positions / 1_000_000, "uniform").pvalue > 1e-3
    bit_of_byte = np.bincount(positions % 8, minlength=8)
    assert stats.chisquare(bit_of_byte).pvalue > 1e-3


@given(
    ber=st.floats(0, 1),
    bits=st.integers(0, 5000),
    seed=st.integers(0, 2**32),
)
def test_positions_are_within_bounds_and_ascend(ber, bits, seed):
    positions = draw(ber, bits, seed)
    assert positions.dtype == np.int64
    assert (np.diff(positions, prepend=-1) > 0).all()
    assert not positions.size or positions[-1] < bits


def draw_one_by_one(ber: float, bits: int, seed: int) -> list[int]:
    generator, mean_skip, positions, position = np.random.default_rng(seed), -1 / math.log1p(-ber), [], -1
    while (position := position + 1 + math.floor(generator.standard_exponential() * mean_skip)) < bits:
        positions.append(position)
    return positions


@pytest.mark.parametrize("ber", [0.003, 0.01, 0.4, 0.99])
def test_chunks_do_not_show(ber):
    np.testing.assert_array_equal(draw(ber, 20_000, seed=3), draw_one_by_one(ber, 20_000, seed=3))


def test_a_second_chunk_goes_on_where_the_first_ended():
    """Of 160 flips at the mean, now and then there are more than the 192 of the first chunk."""
    unlucky = [seed for seed in range(2000) if draw(0.01, 16_000, seed).size > 192]
    assert unlucky
    for seed in unlucky:
        np.testing.assert_array_equal(draw(0.01, 16_000, seed), draw_one_by_one(0.01, 16_000, seed))


@pytest.mark.parametrize("bits", [0, 1, 8, PAYLOAD_BITS])
def test_certainties(bits):
    assert draw(0, bits).size == 0
    np.testing.assert_array_equal(draw(1, bits), np.arange(bits))
    sent = RawBits(bytes(-(-bits // 8)), bits)
    assert NoImpairment().transmit(sent, None, None, np.random.default_rng(0)).flips.size == 0


@pytest.mark.parametrize("ber", [5e-324, 1e-300, 1e-18, 1e-12])
def test_tiny_error_rates_flip_nothing(ber):
    assert all(draw(ber, PAYLOAD_BITS, seed).size == 0 for seed in range(100))


def test_an_error_rate_next_to_one_flips_everything():
    np.testing.assert_array_equal(draw(math.nextafter(1, 0), PAYLOAD_BITS), np.arange(PAYLOAD_BITS))


def test_cost_follows_the_number_of_flips():
    """A thousand times the bits at a thousandth of the error rate: as many draws."""

    class Counting:
        drawn = 0

        def standard_exponential(self, size):
            self.drawn += size
            return np.random.default_rng(0).standard_exponential(size)

    few, many = Counting(), Counting()
    flip_positions(10_000, 0.1, few)
    flip_positions(10_000_000, 0.0001, many)
    assert few.drawn == many.drawn < 1200


@pytest.mark.parametrize("ber", [-0.1, 1.1, math.nan, math.inf, "x", None])
def test_error_rates_out_of_range_are_refused(ber):
    with pytest.raises(ValueError, match="ber must be"):
        BinarySymmetricChannel(ber=ber)
