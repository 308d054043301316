"""BICM: what QAM tells, against simulation and closed forms; code rates, against blocks that are decoded."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from semlink.access.belief_propagation import decode
from semlink.access.bicm import HIGHEST_RATE, LOWEST_RATE, code_rate, information_density
from semlink.access.ldpc import Ldpc, cut_into_blocks
from semlink.access.uncoded_qam import modulate_filled
from semlink.channel.awgn import awgn
from semlink.channel.qam import ORDERS, bits_per_symbol, demodulate_soft
from semlink.channel.rayleigh import rayleigh

pytestmark = pytest.mark.numeric


def over(fading: bool, bits: np.ndarray, order: int, snr_db: float, generator: np.random.Generator) -> np.ndarray:
    """Log-likelihood ratios of bits that crossed the channel."""
    received = (rayleigh if fading else awgn)(modulate_filled(bits, order), snr_db, generator)
    noise = 10 ** (-snr_db / 10) / (1 if received.powers is None else received.powers)
    return demodulate_soft(received.symbols, order, noise)[: bits.size]


@pytest.mark.parametrize("fading", [False, True])
@pytest.mark.parametrize(("order", "snr_db"), [(4, 0.0), (16, 8.0), (64, 12.0), (256, 22.0)])
def test_information_is_what_a_simulation_finds(order, snr_db, fading):
    count, width = 40_000, bits_per_symbol(order)
    generator = np.random.default_rng(order)
    bits = generator.integers(0, 2, count * width, np.uint8)
    ratios = over(fading, bits, order, snr_db, generator)
    told = (1 - np.logaddexp(0, -(1 - 2.0 * bits) * ratios) / math.log(2)).reshape(count, width).sum(axis=1)
    mean, variance = information_density(order, snr_db, fading)
    assert abs(told.mean() - mean) < 6 * told.std() / math.sqrt(count)
    squares = (told - mean) ** 2
    assert abs(squares.mean() - variance) < 6 * squares.std() / math.sqrt(count)
    assert mean < math.log2(1 + 10 ** (snr_db / 10)) + 1e-9


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 6.0])
def test_of_4_qam_it_is_twice_the_capacity_of_bpsk(snr_db):
    """Of each part alone, by integration over the density of the noise (Ungerboeck 1982, equation 5)."""
    snr = 10 ** (snr_db / 10)
    expected, _ = integrate.quad(
        lambda z: stats.norm.pdf(z) * (1 - np.logaddexp(0, -2 * snr - 2 * math.sqrt(snr) * z) / math.log(2)), -9, 9
    )
    assert information_density(4, snr_db, False)[0] == pytest.approx(
        2 * expected, abs=1e-4
    )  # the digits of a rate that count


@given(
    st.integers(12, 8448),
    st.sampled_from(ORDERS),
    st.integers(-10, 40),
    st.booleans(),
    st.floats(1e-6, 0.1),
    st.floats(1.01, 10),
)
def test_rates_fall_with_the_target_and_rise_with_snr_and_length(k, order, snr_db, fading, error, factor):
    def rate(k: int, error: float, snr_db: float) -> float:
        return code_rate(k, error, order=order, snr_db=snr_db, fading=fading)

    here = rate(k, error, snr_db)
    assert LOWEST_RATE <= here <= HIGHEST_RATE
    assert rate(k, error / factor, snr_db) <= here <= rate(k, error, snr_db + 3) + 1e-9
    assert here <= rate(2 * k, error, snr_db) + 1e-9


@pytest.mark.numeric
def test_densities_have_a_variance_at_any_snr():
    """Rounding may not make it negative, on any processor."""
    for order in (4, 16, 64, 256):
        for snr_db in range(-50, 101):
            for fading in (False, True):
                assert information_density(order, snr_db, fading)[1] >= 0


def test_hopeless_and_perfect_channels_have_the_outermost_rates():
    assert code_rate(100, 0.01, order=4, snr_db=-50, fading=True) == LOWEST_RATE
    assert code_rate(100, 0.01, order=4, snr_db=100, fading=False) == HIGHEST_RATE


POINTS = [
    (100, 16, 10.0, False),
    (100, 64, 20.0, True),
    (384, 64, 10.0, False),
    (384, 16, 10.0, True),
    (2000, 4, 2.0, False),
    (2000, 256, 25.0, False),
    (8000, 64, 20.0, True),
]


@pytest.mark.slow
@pytest.mark.parametrize(("k", "order", "snr_db", "fading"), POINTS)
def test_blocks_at_these_rates_fail_as_seldom_as_they_are_to(k, order, snr_db, fading):
    target, count = 1e-2, 200
    _, k, n = cut_into_blocks(k, code_rate(k, target, order=order, snr_db=snr_db, fading=fading))
    code, generator = Ldpc(k, n), np.random.default_rng(1)
    sent = generator.integers(0, 2, (count, k), np.uint8)
    ratios = over(fading, code.encode(sent).ravel(), order, snr_db, generator).reshape(count, n)
    decoded = decode(code, ratios)
    wrong = (decoded.information != sent).any(axis=1)
    # At a block error rate of the target, more have a probability of 1e-4.
    assert wrong.sum() <= stats.binom.ppf(1 - 1e-4, count, target)
    assert (wrong & decoded.holds).sum() <= 1
    # And not far below: 1.5 dB less, and most short blocks, or all long ones, are lost.
    worse = over(fading, code.encode(sent).ravel(), order, snr_db - 3, generator).reshape(count, n)
    assert (decode(code, worse).information != sent).any(axis=1).mean() > 0.2
