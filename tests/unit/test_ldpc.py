import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy
from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder

from experiments.evaluation import ldpc
from experiments.evaluation.belief_propagation import Decoder
from experiments.evaluation.ldpc import RATES, Code, best_code, capacity, segment, transmit
from semlink.channel.bsc import BinarySymmetricChannel

pytestmark = pytest.mark.numeric


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def bits(*shape: int) -> np.ndarray:
    return rng().integers(0, 2, shape, np.uint8)


def over_bsc(sent: np.ndarray, code: Code, ber: float, generator: np.random.Generator) -> np.ndarray:
    return transmit(sent, code, BinarySymmetricChannel(ber=ber), ber, generator)


class TestSegments:
    @given(st.integers(1_000, 2_000_000), st.sampled_from(RATES))
    def test_are_within_the_budget_and_what_5g_allows(self, budget, rate):
        code = segment(budget, rate)
        assert budget - code.blocks < code.bits <= budget
        assert rate <= Fraction(code.k, code.n) < rate + Fraction(1, code.n)
        # TS 38.212: base graph 1 reaches 8448 bits and down to rate 1/3, base graph 2 3840 bits and 1/5.
        assert (code.k <= 8448 and 3 * code.k >= code.n) or (code.k <= 3840 and 5 * code.k >= code.n)
        assert code.k / code.n <= 948 / 1024
        assert 8 * code.file_bytes <= code.blocks * code.k < 8 * (code.file_bytes + 1)

    @pytest.mark.parametrize("rate", [RATES[0], Fraction(1, 4), Fraction(33, 100), Fraction(34, 100), RATES[-1]])
    @pytest.mark.parametrize("budget", [5_000, 76_192, 700_000])
    def test_are_taken_by_sionna(self, budget, rate):
        code = segment(budget, rate)
        assert LDPC5GEncoder(code.k, code.n).k == code.k

    def test_refuse_a_budget_below_one_block(self):
        with pytest.raises(ValueError, match=r"^budget"):
            segment(20, RATES[0])


# Both base graphs, with and without fillers, with few and with all parity bits sent.
CODES = [(20, 100), (100, 150), (500, 2500), (1000, 2000), (1320, 4000), (3000, 3300), (3900, 5400)]


@pytest.mark.parametrize(("k", "n"), CODES)
def test_without_errors_what_is_sent_arrives(k, n):
    sent = bits(3, k)
    np.testing.assert_array_equal(over_bsc(sent, Code(3, k, n), 1e-9, rng()), sent)


@pytest.mark.parametrize(("k", "n"), CODES)
def test_decodes_what_sionna_decodes(k, n):
    """Sum-product with another schedule: more of it, as it goes further in as many iterations, and no less."""
    encoder = LDPC5GEncoder(k, n)
    # At an error rate whose capacity is a little above the code's rate, some blocks of a short code fail.
    ber = next(ber for ber in np.linspace(0.3, 0.001, 300) if capacity(ber) > 1.3 * k / n or ber < 0.002)
    sent = torch.from_numpy(bits(20, k)).float()
    flips = torch.from_numpy(rng(1).random((20, n)) < ber)
    reliability = (1 - 2 * encoder(sent)) * (1 - 2 * flips.float()) * np.log((1 - ber) / ber)
    ours = (Decoder(encoder).decode(reliability) == sent).all(1)
    theirs = (LDPC5GDecoder(encoder, num_iter=30)(-reliability) == sent).all(1)
    assert theirs.sum() >= 5
    assert ours.sum() >= theirs.sum() - 1


def test_corrects_errors_below_capacity_and_gives_up_above():
    ber = 0.05
    below, above = segment(40_000, Fraction(60, 100)), segment(40_000, Fraction(75, 100))
    for code, correct in ((below, True), (above, False)):
        sent = bits(code.blocks, code.k)
        assert (over_bsc(sent, code, ber, rng()) == sent).all() == correct


def test_the_same_seed_gives_the_same_bits():
    sent, code = bits(4, 1000), Code(4, 1000, 1200)
    first, again, other = (over_bsc(sent, code, 0.1, rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("ber", [1e-6, 0.01, 0.2, 0.5, 0.9])
def test_capacity_is_one_less_the_entropy_of_an_error(ber):
    assert capacity(ber) == pytest.approx(1 - entropy([ber, 1 - ber], base=2), abs=1e-9)


@pytest.mark.parametrize("ber", [0, 1, -0.1, np.nan])
def test_capacity_of_no_channel(ber):
    with pytest.raises(ValueError, match=r"^ber must"):
        capacity(ber)


@pytest.fixture
def few_trials(monkeypatch):
    monkeypatch.setattr(ldpc, "TRIALS", 100)
    best_code.cache_clear()
    yield
    best_code.cache_clear()


class TestBestCode:
    def test_meets_the_target_below_capacity_and_no_higher_rate_does(self, few_trials):
        budget, ber = 2_000, 0.05
        code = best_code(budget, ber)
        assert code.bits <= budget
        assert 0.4 < code.k / code.n < capacity(ber)

        def lost(tried: Code) -> float:
            sent = bits(300, tried.k)
            return (over_bsc(sent, tried, ber, rng(5)) != sent).any(axis=1).mean()

        assert lost(code) < 0.03
        assert lost(segment(budget, Fraction(code.k, code.n).limit_denominator(100) + Fraction(3, 100))) > 0.03

    def test_is_the_same_every_time_and_falls_as_errors_rise(self, few_trials):
        first = best_code(800, 0.05)
        best_code.cache_clear()
        assert best_code(800, 0.05) == first
        assert best_code(800, 0.01).k > first.k

    def test_of_a_hopeless_channel_is_the_lowest_rate(self):
        assert best_code(2_000, 0.4) == segment(2_000, RATES[0])


def test_without_sionna_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sionna.phy.fec.ldpc", None)
    with pytest.raises(ModuleNotFoundError, match="pip install"):
        over_bsc(bits(1, 111), Code(1, 111, 222), 0.1, rng())
