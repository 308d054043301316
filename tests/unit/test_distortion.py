import numpy as np
import pytest

from semlink.source.iaq.distortion import (
    MAX_CONVEX_BIT_ERROR_RATE,
    corrected_one_error_bound,
    expected_distortion,
    one_error_bound,
)
from semlink.source.iaq.quantizer import dequantize, quantize

pytestmark = pytest.mark.numeric

RATES = [0.0, 0.01, 0.05, 0.1, 0.2, 3 / 13]


def sent_over_a_channel(
    bits: int, rate: float, count: int, low: float, high: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Squared errors of uniform values sent through the real quantizer, and how many bits of each flipped."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(low, high, (1, count))
    flips = rng.random((count, bits)) < rate
    codes = quantize(values, [bits], low, high) ^ (flips @ (1 << np.arange(bits))).astype(np.uint8)
    return (values - dequantize(codes, [bits], low, high))[0] ** 2, flips.sum(axis=1)


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("bits", [0, 1, 2, 3, 4])
def test_expected_distortion_is_the_mean_over_all_codes_and_flips(bits, rate):
    levels, spread = 2**bits, 3.0
    cell = spread / levels
    mean = 0.0
    for sent in range(levels):
        for flips in range(levels):
            probability = rate ** flips.bit_count() * (1 - rate) ** (bits - flips.bit_count()) / levels
            # The value is uniform in the cell of `sent`: the distance of the centres, and the cell's variance.
            mean += probability * ((sent - (sent ^ flips)) ** 2 + 1 / 12) * cell**2
    assert expected_distortion(bits, rate, value_range=spread) == pytest.approx(mean, rel=1e-9)


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 0.5])
@pytest.mark.parametrize("bits", [0, 1, 3, 5, 8])
def test_expected_distortion_is_what_the_quantizer_suffers(bits, rate):
    low, high = -2.0, 5.0
    errors, _ = sent_over_a_channel(bits, rate, 100_000, low, high, seed=bits)
    deviation = errors.std() / np.sqrt(errors.size)
    assert abs(errors.mean() - expected_distortion(bits, rate, value_range=high - low)) < 5 * deviation


@pytest.mark.parametrize("spread", [1.0, 255.0])
def test_one_error_bound_without_errors_is_the_quantizers_worst_case(spread):
    bits = np.arange(17)
    np.testing.assert_array_equal(one_error_bound(bits, 0.0, value_range=spread), spread**2 / 4 * 4.0**-bits)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("bits", [0, 1, 2, 4, 8])
def test_one_error_bound_is_above_at_most_one_error(bits, rate):
    errors, flips = sent_over_a_channel(bits, rate, 50_000, 0.0, 1.0, seed=100 + bits)
    errors[flips > 1] = 0
    # At 8 bits the bound is as little as 1 % above the truth, so the sample's own doubt is allowed for.
    doubt = 4 * errors.std() / np.sqrt(errors.size)
    assert errors.mean() <= one_error_bound(bits, rate) + doubt


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("bits", range(9))
def test_one_error_bound_is_above_the_exact_mean_of_at_most_one_error(bits, rate):
    cell = 2.0**-bits
    mean = (1 - rate) ** bits * cell**2 / 12
    for position in range(bits):
        mean += rate * (1 - rate) ** (bits - 1) * (4**position + 1 / 12) * cell**2
    assert mean < one_error_bound(bits, rate)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("bits", [1, 2, 3, 5, 8])
def test_one_error_bound_is_its_derivation_but_for_the_dropped_term(bits, rate):
    """Equation (49): the worst error of no flip, and of a flip of each bit t, weighed by their probability."""
    cell = 2.0**-bits
    worst = (1 - rate) ** bits * (cell / 2) ** 2
    for position in range(bits):
        worst += rate * (1 - rate) ** (bits - 1) * (2**position * cell + cell / 2) ** 2
    dropped = (bits - 1) * rate * (1 - rate) ** (bits - 1) * cell**2 / 4
    assert one_error_bound(bits, rate) == pytest.approx(worst - dropped, rel=1e-9)


@pytest.mark.parametrize("rate", [0.01, 0.2])
def test_one_error_bound_of_no_bits_is_as_printed(rate):
    assert one_error_bound(0, rate) == pytest.approx(0.25 / (1 - rate))


@pytest.mark.parametrize("rate", np.linspace(0, MAX_CONVEX_BIT_ERROR_RATE, 14))
def test_proposition_1_convex_and_decreasing(rate):
    distortion = one_error_bound(np.linspace(0, 16, 1601), rate)
    slopes = np.diff(distortion)
    assert (slopes < 0).all()
    # Far out the curve is nearly straight; what is left of the second difference is rounding.
    assert (np.diff(slopes) > -1e-15).all()
    assert (np.diff(one_error_bound(np.arange(17), rate), 2) > 0).all()


def test_the_rate_of_proposition_1():
    assert MAX_CONVEX_BIT_ERROR_RATE == 3 / 13


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 3 / 13, 0.5, 0.9])
@pytest.mark.parametrize("bits", range(9))
def test_corrected_bound_is_the_worst_value_of_every_code_with_no_and_with_each_flip(bits, rate):
    low, high = -1.0, 2.0
    codes = np.arange(2**bits)
    centres = dequantize(codes[None].astype(np.uint8), [bits], low, high)[0]
    edges = np.linspace(low, high, 2**bits + 1)

    def worst(received: np.ndarray) -> float:
        """Mean over the codes sent, of the worst value that each stands for, at either edge of its cell."""
        distances = np.maximum(np.abs(edges[:-1] - centres[received]), np.abs(edges[1:] - centres[received]))
        return (distances**2).mean()

    expected = (1 - rate) ** bits * worst(codes)
    for position in range(bits):
        expected += rate * (1 - rate) ** (bits - 1) * worst(codes ^ (1 << position))
    assert corrected_one_error_bound(bits, rate, value_range=high - low) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rate", RATES)
def test_corrected_bound_beside_the_printed_one(rate):
    bits = np.arange(9)
    corrected, printed = corrected_one_error_bound(bits, rate), one_error_bound(bits, rate)
    assert corrected[0] == pytest.approx(0.25)
    assert corrected[1] == pytest.approx(printed[1])
    assert (corrected[2:] > printed[2:]).all() == (rate > 0)


# The first is where D(0) - 2·D(1) + D(2) = 0, that is 33μ² + 32μ = 9; the second is numerical.
@pytest.mark.parametrize(
    ("bits", "threshold"), [(np.arange(9), (np.sqrt(553) - 16) / 33), (np.linspace(0, 8, 801), 0.157)]
)
def test_corrected_bound_is_convex_and_decreasing_up_to_below_3_13(bits, threshold):
    assert threshold < MAX_CONVEX_BIT_ERROR_RATE
    for rate in np.linspace(0, threshold - 5e-4, 20):
        distortion = corrected_one_error_bound(bits, rate)
        assert (np.diff(distortion) < 0).all()
        assert (np.diff(distortion, 2) > 0).all()
    for rate in np.linspace(threshold + 5e-4, MAX_CONVEX_BIT_ERROR_RATE, 5):
        assert (np.diff(corrected_one_error_bound(bits, rate), 2) < 0).any()


@pytest.mark.parametrize("function", [one_error_bound, corrected_one_error_bound, expected_distortion])
class TestArguments:
    def test_scales_with_the_squared_range(self, function):
        assert function(3, 0.1, value_range=10.0) == pytest.approx(100 * function(3, 0.1))

    def test_keeps_the_shape(self, function):
        assert function(np.zeros((2, 3), int), 0.1).shape == (2, 3)
        assert np.shape(function(4, 0.1)) == ()

    @pytest.mark.parametrize("bits", [-1, [1, -0.5], np.nan])
    def test_refuses_bits(self, function, bits):
        with pytest.raises(ValueError, match=r"^bits must"):
            function(bits, 0.1)

    @pytest.mark.parametrize("rate", [-0.01, 1.0, np.nan])
    def test_refuses_bit_error_rate(self, function, rate):
        with pytest.raises(ValueError, match=r"^bit_error_rate must"):
            function(3, rate)
