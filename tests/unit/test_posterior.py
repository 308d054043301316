from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semlink.source.iaq.posterior import posterior_mean
from semlink.source.iaq.quantizer import dequantize, quantize


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def damaged(codes: np.ndarray, width: int, ber: float, generator: np.random.Generator) -> np.ndarray:
    """Codes of `width` bits, one a byte, each bit flipped alone."""
    flips = generator.random((*codes.shape, width)) < ber
    return codes ^ (flips @ (1 << np.arange(width))).astype(np.uint8)


@given(st.integers(0, 8), st.integers(0, 2**32 - 1))
def test_without_errors_it_is_the_cells_centre(width, seed):
    codes = np.random.default_rng(seed).integers(2**width, size=(3, 7))
    bits = [width] * 3
    np.testing.assert_array_equal(posterior_mean(codes, bits, 10, 200, 0.0), dequantize(codes, bits, 10, 200))


@pytest.mark.parametrize("width", [1, 2, 3])
def test_is_bayes_rule_over_every_pair_of_codes(width, generator):
    """All codes sent equally often: then the prior is known, and the sum over all codes can be written out."""
    ber = 0.1
    levels = range(2**width)
    centres = dequantize(np.arange(2**width)[None], [width], 0, 1)[0]
    received = np.array([[code for code in levels for _ in range(50)]])
    expected = []
    for code in received[0]:
        wrong = np.array([int(code ^ sent).bit_count() for sent in levels])
        weights = ber**wrong * (1 - ber) ** (width - wrong)
        expected.append(np.average(centres, weights=weights))
    np.testing.assert_allclose(posterior_mean(received, [width], 0, 1, ber)[0], expected)


@pytest.mark.parametrize(("width", "ber"), list(product([1, 2, 4], [0.02, 0.1])))
def test_is_nearer_to_what_was_sent_than_the_centre_is(width, ber, generator):
    """The least squares estimate: on skewed values, which is what images have."""
    values = generator.beta(2, 6, size=(1, 20_000))
    codes = quantize(values, [width], 0, 1)
    sent, received = dequantize(codes, [width], 0, 1), damaged(codes, width, ber, generator)
    plain = np.square(dequantize(received, [width], 0, 1) - sent).mean()
    best = np.square(posterior_mean(received, [width], 0, 1, ber) - sent).mean()
    assert best < 0.9 * plain


def test_each_width_has_a_prior_of_its_own(generator):
    codes = np.concatenate([np.zeros((1, 400), np.uint8), np.full((1, 400), 3, np.uint8)])
    codes[:, :20] = [[1], [0]]
    values = posterior_mean(codes, [1, 2], 0, 1, 0.05)
    assert values[0, 0] < 0.3  # a lone 1 among zeros is an error
    assert values[1, -1] > 0.7


def test_patches_without_bits_are_mid_grey(generator):
    values = posterior_mean(np.zeros((2, 5), int), [0, 0], 20, 60, 0.1)
    np.testing.assert_array_equal(values, np.full((2, 5), 40.0))


@pytest.mark.parametrize("ber", [-0.1, 0.6, float("nan")])
def test_rates_out_of_range_are_refused(ber):
    with pytest.raises(ValueError, match="bit_error_rate"):
        posterior_mean([[0]], [1], 0, 1, ber)
