"""The MIMO-OFDM channel: its statistics, and that its beams make parallel subchannels."""

import math

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from semlink.channel.ofdm import Numerology, beamforming, draw_channel, estimated_channel, subchannel_gains

pytestmark = pytest.mark.numeric

PAPER = Numerology()


def draw(numerology: Numerology = PAPER, seed: int = 0) -> np.ndarray:
    return draw_channel(numerology, np.random.default_rng(seed))


numerologies = st.builds(Numerology, subcarriers=st.integers(1, 20), streams=st.integers(1, 6))


def test_the_papers_numerology():
    assert PAPER.subchannels == PAPER.total_power == 3136
    assert PAPER.symbol_seconds == pytest.approx(66.67e-6, rel=1e-4)
    assert PAPER.coherence_symbols * PAPER.symbol_seconds == pytest.approx(3.33e-3, rel=1e-2)


@pytest.mark.parametrize(("snr_db", "noise_power"), [(0, 1), (20, 0.01), (-10, 10), (3.0103, 0.5)])
def test_noise_power(snr_db, noise_power):
    assert PAPER.noise_power(snr_db) == pytest.approx(noise_power, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("subcarriers", [0, -1, 784.0, 2**16 + 1]),
        ("streams", [0, 65, "4"]),
        ("spacing_hz", [0, -15e3, math.inf, math.nan]),
        ("total_power", [0, -1, math.inf, math.nan]),
        ("coherence_symbols", [0, 1.5]),
    ],
)
def test_numerologies_out_of_range_are_refused(name, values):
    for value in values:
        with pytest.raises(ValueError, match=name):
            Numerology(**{name: value})


@pytest.mark.parametrize("snr_db", [math.nan, math.inf, -math.inf])
def test_snrs_that_are_no_numbers_are_refused(snr_db):
    with pytest.raises(ValueError, match="snr_db"):
        PAPER.noise_power(snr_db)


def test_entries_are_independent_and_circular_of_unit_variance():
    channel = draw(seed=1)
    assert channel.shape == (784, 4, 4)
    assert stats.kstest(np.abs(channel.ravel()) ** 2, "expon").pvalue > 1e-3
    assert stats.kstest(np.angle(channel.ravel()), stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3
    neighbours = (channel[1:] * channel[:-1].conj()).ravel()
    assert abs(neighbours.mean()) < 4 / math.sqrt(neighbours.size)
    antennas = np.einsum("fij,fik->jk", channel, channel.conj()) / (784 * 4)
    np.testing.assert_allclose(antennas, np.eye(4), atol=5 / math.sqrt(784 * 4))


def test_the_seed_decides():
    np.testing.assert_array_equal(draw(seed=3), draw(seed=3))
    assert not np.isclose(draw(seed=3), draw(seed=4)).any()


@given(numerologies, st.integers(0, 2**32))
def test_beams_make_parallel_subchannels(numerology, seed):
    channel = draw(numerology, seed)
    beams = beamforming(channel)
    for precoder, gains, combiner, matrix in zip(
        beams.precoder, beams.gains, beams.combiner, channel, strict=True
    ):
        np.testing.assert_allclose(combiner.conj().T @ matrix @ precoder, np.diag(gains), atol=1e-9)
        np.testing.assert_allclose(precoder.conj().T @ precoder, np.eye(numerology.streams), atol=1e-9)
        np.testing.assert_allclose(combiner.conj().T @ combiner, np.eye(numerology.streams), atol=1e-9)


@given(numerologies, st.integers(0, 2**32))
def test_gains_are_the_descending_roots_of_the_gram_matrix(numerology, seed):
    channel = draw(numerology, seed)
    gains = subchannel_gains(channel)
    np.testing.assert_allclose(beamforming(channel).gains, gains, rtol=1e-9, atol=1e-9)
    for of_subcarrier, matrix in zip(gains, channel, strict=True):
        squares = scipy.linalg.eigvalsh(matrix.conj().T @ matrix)[::-1]
        np.testing.assert_allclose(of_subcarrier**2, squares, rtol=1e-9, atol=1e-9)


def test_an_estimate_errs_with_the_given_variance_independently_of_the_channel():
    channel = draw(seed=5)
    error = estimated_channel(channel, 0.04, np.random.default_rng(6)) - channel
    assert stats.kstest(np.abs(error.ravel()) ** 2, stats.expon(scale=0.04).cdf).pvalue > 1e-3
    assert abs((error * channel.conj()).mean()) < 4 * 0.2 / math.sqrt(channel.size)


def test_an_estimate_without_error_is_the_channel():
    np.testing.assert_array_equal(estimated_channel(draw(), 0, np.random.default_rng(0)), draw())


@pytest.mark.parametrize("variance", [-0.1, math.nan, math.inf])
def test_error_variances_out_of_range_are_refused(variance):
    with pytest.raises(ValueError, match="error_variance"):
        estimated_channel(draw(), variance, np.random.default_rng(0))


@pytest.mark.parametrize(
    "channel", [np.ones((4, 4)), np.ones((1, 3, 4, 2)), np.ones((0, 4, 4)), np.full((1, 1, 1), np.nan)]
)
def test_channels_of_another_form_are_refused(channel):
    for use in (beamforming, subchannel_gains):
        with pytest.raises(ValueError, match="channel"):
            use(channel)
