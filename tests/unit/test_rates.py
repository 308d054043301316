import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from semlink.channel.rates import (
    bit_error_rate,
    dispersion,
    dispersion_penalty,
    finite_blocklength_rate,
    shannon_rate,
)

pytestmark = pytest.mark.numeric


def test_shannon_rate_of_round_numbers():
    np.testing.assert_allclose(shannon_rate([0, 1, 3, 7, 1023]), [0, 1, 2, 3, 10], rtol=1e-9)


def test_shannon_rate_keeps_its_digits_where_almost_nothing_arrives():
    assert shannon_rate(1e-20) == pytest.approx(1e-20 / np.log(2), rel=1e-9)


@given(st.floats(1e-3, 1e6))
def test_dispersion_is_that_of_two_real_channels(snr):
    """Polyanskiy, Poor and Verdú, 2010: P(P + 2)/(2(P + 1)²) nats² for one real channel at power P."""
    assert dispersion(snr) == pytest.approx(2 * snr * (snr + 2) / (2 * (snr + 1) ** 2), rel=1e-9)


def test_dispersion_is_the_variance_of_the_information_density():
    """By simulation: ln p(y|x)/p(y) of a complex Gaussian codeword shell, √γ on each symbol, in unit noise."""
    snr, count = 2.0, 400_000
    rng = np.random.default_rng(0)
    noise = (rng.standard_normal(count) + 1j * rng.standard_normal(count)) / np.sqrt(2)
    received = np.sqrt(snr) + noise
    density = np.log(1 + snr) + np.abs(received) ** 2 / (1 + snr) - np.abs(noise) ** 2
    assert density.mean() == pytest.approx(np.log(1 + snr), abs=5e-3)
    assert density.var() == pytest.approx(dispersion(snr), rel=0.01)


@pytest.mark.parametrize(("rate", "length"), [(1e-9, 100), (1e-3, 800), (0.1, 168), (0.5, 800)])
def test_the_penalty_is_the_gaussian_tail_inverted(rate, length):
    assert norm.sf(dispersion_penalty(rate, length) * np.sqrt(length)) == pytest.approx(rate, rel=1e-9)


@pytest.mark.parametrize("snr_db", [-5, 0, 10, 30])
def test_finite_blocklength_rate_is_the_normal_approximation(snr_db):
    snr, error, length = 10 ** (snr_db / 10), 1e-3, 800
    nats = np.log(1 + snr) - np.sqrt((1 - (1 + snr) ** -2) / length) * norm.isf(error)
    assert finite_blocklength_rate(snr, dispersion_penalty(error, length)) == pytest.approx(
        nats / np.log(2), rel=1e-9
    )


@given(st.floats(1e-6, 3), st.lists(st.floats(0, 1e6), min_size=2, max_size=50))
def test_where_there_is_a_rate_it_rises_with_the_snr(penalty, snr):
    snr = np.sort(snr)
    rate = finite_blocklength_rate(snr, penalty)
    assert (np.diff(rate) >= -1e-12).all()
    assert (rate >= 0).all()
    assert (rate <= shannon_rate(snr)).all()


def test_without_a_penalty_it_is_shannons():
    snr = np.geomspace(1e-9, 1e9, 50)
    np.testing.assert_array_equal(finite_blocklength_rate(snr, 0.0), shannon_rate(snr))


@pytest.mark.parametrize("length", [1, 168, 800])
def test_bit_error_rate_is_ten_times_that_of_independent_bits(length):
    rate = 1e-4
    assert 1 - (1 - bit_error_rate(rate, length) / 10) ** length == pytest.approx(rate, rel=1e-9)
    assert bit_error_rate(0, length) == 0


def test_bit_error_rate_is_a_rate():
    assert bit_error_rate(0.99, 1) == 1


@pytest.mark.parametrize("function", [shannon_rate, dispersion])
@pytest.mark.parametrize("snr", [-1e-9, np.nan, [1, -1]])
def test_refuses_snr(function, snr):
    with pytest.raises(ValueError, match=r"^snr must"):
        function(snr)


@pytest.mark.parametrize("rate", [0, 0.51, -0.1, np.nan])
def test_refuses_block_error_rate(rate):
    with pytest.raises(ValueError, match=r"^block_error_rate must"):
        dispersion_penalty(rate, 800)


@pytest.mark.parametrize("length", [0, 1.5])
def test_refuses_block_length(length):
    for function in (dispersion_penalty, bit_error_rate):
        with pytest.raises(ValueError, match=r"^block_length must"):
            function(0.1, length)


def test_refuses_what_is_out_of_range():
    for penalty in (-0.1, np.inf, np.nan):
        with pytest.raises(ValueError, match=r"^penalty must"):
            finite_blocklength_rate(1, penalty)
    with pytest.raises(ValueError, match=r"^block_error_rate must"):
        bit_error_rate(1.0, 800)
    with pytest.raises(ValueError, match=r"^correction must"):
        bit_error_rate(0.1, 800, correction=-1)
