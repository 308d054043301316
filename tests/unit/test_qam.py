"""Gray-labelled QAM: against sionna's constellations, and brute force; its error rates."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from semlink.channel.awgn import Awgn, awgn
from semlink.channel.base import RawBits
from semlink.channel.qam import (
    ORDERS,
    awgn_bit_error_rate,
    bits_per_symbol,
    constellation,
    demodulate_hard,
    demodulate_soft,
    modulate,
    rayleigh_bit_error_rate,
)
from semlink.channel.rayleigh import Rayleigh

pytestmark = pytest.mark.numeric

orders = st.sampled_from(ORDERS)


def labels_as_bits(order: int) -> np.ndarray:
    """(order, log2 order) the label of each point, written out."""
    return np.array([[int(digit) for digit in f"{label:0{bits_per_symbol(order)}b}"] for label in range(order)])


def random_bits(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, count, dtype=np.uint8)


def uncoded(kind: type[Awgn | Rayleigh], bits: np.ndarray, order: int, snr_db: float, seed: int) -> np.ndarray:
    """(bits,) which of them arrive inverted."""
    sent = RawBits(np.packbits(bits).tobytes(), bits.size)
    flips = np.zeros(bits.size, bool)
    channel = kind(order=order, snr_db=snr_db)
    flips[channel.transmit(sent, None, None, np.random.default_rng(seed)).flips] = True
    return flips


def random_symbols(count: int, seed: int = 0) -> np.ndarray:
    """Anywhere in the plane, outside the constellation too."""
    generator = np.random.default_rng(seed)
    return generator.normal(0, 1, count) + 1j * generator.normal(0, 1, count)


@pytest.mark.parametrize("order", ORDERS)
def test_constellations_are_those_of_sionna(order):
    from sionna.phy.mapping import qam

    np.testing.assert_allclose(constellation(order), qam(bits_per_symbol(order), precision="double"), atol=1e-9)


def test_qpsk_and_16_qam_as_ts_38_211_writes_them():
    b = labels_as_bits(4).T
    np.testing.assert_allclose(constellation(4), ((1 - 2 * b[0]) + 1j * (1 - 2 * b[1])) / math.sqrt(2))
    b = labels_as_bits(16).T
    real, imaginary = (1 - 2 * b[0]) * (2 - (1 - 2 * b[2])), (1 - 2 * b[1]) * (2 - (1 - 2 * b[3]))
    np.testing.assert_allclose(constellation(16), (real + 1j * imaginary) / math.sqrt(10))


@pytest.mark.parametrize("order", ORDERS)
def test_energy_is_one_and_neighbours_differ_in_one_bit(order):
    points = constellation(order)
    assert np.mean(np.abs(points) ** 2) == pytest.approx(1, rel=1e-9)
    distances = np.abs(points[:, None] - points)
    np.fill_diagonal(distances, np.inf)
    first, second = np.nonzero(distances < 1.01 * distances.min())
    side = math.isqrt(order)
    assert first.size == 4 * side * (side - 1)  # each edge of the square lattice, from both ends
    labels = labels_as_bits(order)
    assert ((labels[first] != labels[second]).sum(axis=1) == 1).all()


@given(orders, st.data())
def test_bits_come_back(order, data):
    bits = np.array(data.draw(st.lists(st.integers(0, 1), max_size=80)), np.uint8)
    bits = bits[: bits.size - bits.size % bits_per_symbol(order)]
    symbols = modulate(bits, order)
    assert symbols.size == bits.size // bits_per_symbol(order)
    np.testing.assert_array_equal(demodulate_hard(symbols, order), bits)


@pytest.mark.parametrize("order", ORDERS)
def test_labels_are_read_most_significant_bit_first(order):
    bits = labels_as_bits(order).astype(np.uint8).ravel()
    np.testing.assert_array_equal(modulate(bits, order), constellation(order))


@pytest.mark.parametrize("order", ORDERS)
def test_hard_decisions_are_the_nearest_points(order):
    symbols = random_symbols(3000)
    nearest = np.abs(symbols[:, None] - constellation(order)).argmin(axis=1)
    np.testing.assert_array_equal(demodulate_hard(symbols, order), labels_as_bits(order)[nearest].ravel())


def region_error_rate(order: int, snr: float) -> float:
    """Bit error rate from the probabilities of the decision regions of one part, no formula of Cho and Yoon."""
    points, labels = constellation(order), labels_as_bits(order)
    amplitudes, index = np.unique(points.real.round(12), return_index=True)
    codes = labels[index, 0::2]
    edges = np.concatenate([[-np.inf], (amplitudes[1:] + amplitudes[:-1]) / 2, [np.inf]])
    law = stats.norm(amplitudes[:, None], math.sqrt(1 / (2 * snr)))
    # From the tail that is small, so that rare errors keep their digits.
    above, below = law.sf(edges), law.cdf(edges)
    right = edges[:-1] >= amplitudes[:, None]
    received = np.where(right, above[:, :-1] - above[:, 1:], below[:, 1:] - below[:, :-1])
    return float((received * (codes[:, None] != codes).mean(axis=2)).sum() / amplitudes.size)


@pytest.mark.parametrize("order", ORDERS)
def test_error_rate_over_awgn_is_that_of_the_decision_regions(order):
    snr = 10 ** (np.arange(-20, 31, 2.5) / 10)
    expected = [region_error_rate(order, value) for value in snr]
    np.testing.assert_allclose(awgn_bit_error_rate(order, snr), expected, rtol=1e-9)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("snr", [0.1, 10.0, 1000.0])
def test_error_rate_over_rayleigh_is_the_mean_over_the_fading(order, snr):
    mean, _ = integrate.quad(lambda u: awgn_bit_error_rate(order, snr * u * u) * 2 * u * math.exp(-u * u), 0, 8)
    assert rayleigh_bit_error_rate(order, snr) == pytest.approx(mean, rel=1e-6)


def test_error_rates_of_qpsk_as_textbooks_have_them():
    snr = 10 ** (np.arange(-10, 41, 5) / 10)
    np.testing.assert_allclose(awgn_bit_error_rate(4, snr), stats.norm.sf(np.sqrt(snr)), rtol=1e-9)
    np.testing.assert_allclose(rayleigh_bit_error_rate(4, snr), (1 - np.sqrt(snr / (2 + snr))) / 2, rtol=1e-9)


@pytest.mark.parametrize("rate", [awgn_bit_error_rate, rayleigh_bit_error_rate])
@pytest.mark.parametrize("order", ORDERS)
def test_error_rates_run_from_a_half_to_nothing(rate, order):
    rates = rate(order, np.concatenate([[0], np.geomspace(1e-6, 1e12, 200)]))
    assert rates[0] == pytest.approx(0.5)
    assert (np.diff(rates) <= 0).all()
    assert 0 <= rates[-1] < 1e-9


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("noise", [0.02, 0.5])
def test_soft_decisions_are_bayes_over_all_points(order, noise):
    symbols = random_symbols(50)
    likely = np.exp(-(np.abs(symbols[:, None] - constellation(order)) ** 2) / noise)
    labels = labels_as_bits(order)
    ratios = np.log(likely @ (labels == 0)) - np.log(likely @ (labels == 1))
    # float32, and sums of exponentials of ratios up to some hundreds.
    np.testing.assert_allclose(demodulate_soft(symbols, order, noise).reshape(ratios.shape), ratios, rtol=1e-4)


@pytest.mark.parametrize("order", ORDERS)
def test_soft_decisions_with_a_noise_power_for_each_symbol(order):
    symbols, powers = random_symbols(20), np.random.default_rng(3).uniform(0.01, 2, 20)
    each = [demodulate_soft(symbols[[i]], order, powers[i]) for i in range(20)]
    np.testing.assert_allclose(demodulate_soft(symbols, order, powers), np.concatenate(each), rtol=1e-6)
    # A symbol that a deep fade has buried says nothing, and breaks nothing.
    np.testing.assert_allclose(demodulate_soft(symbols, order, 1e30), 0, atol=1e-9)
    for wrong in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="noise_power must be"):
            demodulate_soft(symbols, order, wrong)


def agrees(errors_of_groups: np.ndarray, bits_of_group: int, expected: float) -> bool:
    """Whether independent groups of bits show the expected error rate, within 4.5 standard errors."""
    rates = errors_of_groups / bits_of_group
    return abs(rates.mean() - expected) < 4.5 * rates.std(ddof=1) / math.sqrt(rates.size)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("argument", [0.1, 1.0, 3.0])
def test_flips_over_awgn_are_as_frequent_as_the_closed_form_says(order, argument):
    snr = argument * (order - 1) / 1.5  # the points' distance over the noise is then the same for every order
    snr_db = 10 * math.log10(snr)
    expected = awgn_bit_error_rate(order, snr)
    bits = random_bits(bits_per_symbol(order) * 60_000, seed=1)
    flips = uncoded(Awgn, bits, order, snr_db, order)
    assert agrees(flips.reshape(60_000, -1).sum(axis=1), bits_per_symbol(order), expected)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("snr_db", [0, 15, 30])
def test_flips_over_rayleigh_are_as_frequent_as_the_closed_form_says(order, snr_db):
    bits = random_bits(bits_per_symbol(order) * 70_000, seed=snr_db)
    flips = uncoded(Rayleigh, bits, order, snr_db, order).reshape(70_000, -1).sum(axis=1)
    assert agrees(flips, bits_per_symbol(order), rayleigh_bit_error_rate(order, 10 ** (snr_db / 10)))


@pytest.mark.parametrize("kind", [Awgn, Rayleigh])
def test_the_seed_decides_which_bits_flip(kind):
    bits = random_bits(4000)
    first, again, other = (uncoded(kind, bits, 16, 8, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@given(orders, st.integers(0, 100), st.integers(0, 2**32))
def test_any_number_of_bits_passes_a_clear_channel(order, count, seed):
    bits = random_bits(count, seed)
    for kind in (Awgn, Rayleigh):
        assert not uncoded(kind, bits, order, 100.0, seed).any()


@pytest.mark.parametrize("order", [0, 2, 8, 32, 1024, 4.5, "64", None])
def test_other_orders_are_refused(order):
    for use in (
        constellation,
        lambda order: modulate(random_bits(24), order),
        lambda order: demodulate_hard(random_symbols(4), order),
        lambda order: awgn_bit_error_rate(order, 1),
    ):
        with pytest.raises(ValueError, match="order"):
            use(order)


@pytest.mark.parametrize(
    "bits", [np.zeros(5, np.uint8), np.array([0, 2], np.uint8), np.zeros(4), np.zeros((2, 2), np.uint8)]
)
def test_bits_of_another_form_are_refused(bits):
    with pytest.raises(ValueError, match="bits"):
        modulate(bits, 4)


@pytest.mark.parametrize("symbols", [np.array([np.nan + 0j]), np.array([complex(0, np.inf)]), np.zeros((2, 2))])
def test_symbols_of_another_form_are_refused(symbols):
    with pytest.raises(ValueError, match="symbols"):
        demodulate_hard(symbols, 4)


@pytest.mark.parametrize("snr", [-1, math.nan, math.inf])
def test_snrs_out_of_range_are_refused(snr):
    for rate in (awgn_bit_error_rate, rayleigh_bit_error_rate):
        with pytest.raises(ValueError, match="snr"):
            rate(4, snr)
    with pytest.raises(ValueError, match="snr_db"):
        awgn(modulate(random_bits(4), 4), math.nan, np.random.default_rng(0))
