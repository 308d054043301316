import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from semlink.source.iaq.quantizer import dequantize, quantize

pytestmark = pytest.mark.numeric

EVERY_WIDTH = np.arange(9)


def levels_of(bits: int, low: float, high: float) -> np.ndarray:
    """The levels Q_M below equation (5)."""
    cell = (high - low) / 2**bits
    return low + (np.arange(2**bits) + 0.5) * cell


def integer_code(value: int, bits: int, low: int, high: int) -> int:
    """The code of an 8-bit value in integer arithmetic, without any rounding."""
    return min((value - low) * 2**bits // (high - low), 2**bits - 1)


@st.composite
def real_patches(draw):
    low = draw(st.floats(-1e6, 1e6))
    high = low + draw(st.floats(0, 1e6))
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 12)))
    patches = draw(arrays(np.float64, shape, elements=st.floats(low, high)))
    bits = draw(arrays(np.int64, shape[0], elements=st.integers(0, 8)))
    return patches, bits, low, high


@given(real_patches())
def test_takes_the_nearest_level(case):
    patches, bits, low, high = case
    codes = quantize(patches, bits, low, high)
    received = dequantize(codes, bits, low, high)
    doubt = 1e-9 * max(abs(low), abs(high), 1e-9)  # of the levels, as doubles
    for patch, row, code, width in zip(patches, received, codes, bits.tolist(), strict=True):
        levels = levels_of(width, low, high)
        assert (code < levels.size).all()
        nearest = np.abs(patch[:, None] - levels).min(axis=1)
        assert (np.abs(patch - row) <= nearest + doubt).all()
        assert (np.abs(patch - row) <= (high - low) / 2**width / 2 + doubt).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize(("low", "high"), [(0, 255), (0, 254), (7, 8), (3, 250), (100, 103), (1, 128), (254, 255)])
def test_is_exact_for_8_bit_values(low, high, dtype):
    values = range(low, high + 1)
    codes = quantize(np.tile(np.arange(low, high + 1, dtype=dtype), (9, 1)), EVERY_WIDTH, low, high)
    expected = [[integer_code(value, bits, low, high) for value in values] for bits in range(9)]
    np.testing.assert_array_equal(codes, expected)


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.integers(0, 8))
def test_is_exact_for_every_8_bit_value_and_range(low, value, high, bits):
    low, value, high = sorted((low, value, high))
    expected = integer_code(value, bits, low, high) if low < high else 0
    assert quantize(np.array([[value]], np.uint8), [bits], low, high) == expected


def test_float_limits_of_8_bit_values_lose_nothing():
    patches = np.arange(256, dtype=np.uint8)[None]
    for low, high in [(-0.1, 255.3), (-1e-9, 255.0), (-1e300, 1e300), (0.0, 1e-40 + 255)]:
        expected = quantize(patches.astype(np.float64), [8], low, high)
        np.testing.assert_array_equal(quantize(patches, [8], low, high), expected)


def test_a_value_between_two_cells_goes_up():
    np.testing.assert_array_equal(quantize([[0, 0.25, 0.5, 0.75, 1]], [2], 0, 1), [[0, 1, 2, 3, 3]])


def test_codes_of_all_widths_come_back():
    for bits in range(9):
        codes = np.arange(2**bits)[None]
        values = dequantize(codes, [bits], -1.5, 2.5)
        np.testing.assert_allclose(values[0], levels_of(bits, -1.5, 2.5), rtol=1e-9)
        np.testing.assert_array_equal(quantize(values, [bits], -1.5, 2.5), codes)


def test_no_bits_is_the_middle():
    codes = quantize([[3.0, 7.0]], [0], 3, 7)
    np.testing.assert_array_equal(codes, [[0, 0]])
    np.testing.assert_array_equal(dequantize(codes, [0], 3, 7), [[5, 5]])


def test_a_flat_image_comes_back_exactly():
    codes = quantize(np.full((9, 2), 42, np.uint8), EVERY_WIDTH, 42, 42)
    assert not codes.any()
    np.testing.assert_array_equal(dequantize(codes, EVERY_WIDTH, 42, 42), np.full((9, 2), 42.0))
    # A damaged code of a flat image still stands for its one value.
    np.testing.assert_array_equal(dequantize([[255]], [8], 42, 42), [[42]])


def test_dtypes_and_shapes():
    codes = quantize(np.zeros((2, 3), np.float32), [1, 2], 0, 1)
    assert (codes.dtype, codes.shape) == (np.uint8, (2, 3))
    for received in (codes, codes.astype(np.int64)):
        values = dequantize(received, np.array([1, 2], np.uint8), 0, 1)
        assert (values.dtype, values.shape) == (np.float64, (2, 3))


def test_is_neither_rounded_nor_clipped():
    np.testing.assert_array_equal(dequantize([[0, 3]], [2], 0, 255), [[31.875, 223.125]])


@pytest.mark.parametrize("patches", [[1, 2], [[[1]]], [[-0.1]], [[1.1]], [[np.nan]], [["a"]]])
def test_refuses_patches(patches):
    with pytest.raises(ValueError, match=r"^patches must"):
        quantize(patches, [1], 0, 1)


@pytest.mark.parametrize("codes", [[1, 2], [[-1]], [[4]], [[0.5]], [[np.nan]], [["a"]]])
def test_refuses_codes(codes):
    with pytest.raises(ValueError, match=r"^codes must"):
        dequantize(codes, [2], 0, 1)


@pytest.mark.parametrize("function", [quantize, dequantize])
class TestShared:
    @pytest.mark.parametrize("bits", [[-1], [9], [1.5], [np.nan], [1, 1], [[1]], 1, ["a"]])
    def test_refuses_bits(self, function, bits):
        with pytest.raises(ValueError, match=r"^bits must"):
            function([[0, 0]], bits, 0, 1)

    @pytest.mark.parametrize(("low", "high"), [(1, 0), (np.nan, 1), (0, np.nan), (0, np.inf), (-1.7e308, 1.7e308)])
    def test_refuses_limits(self, function, low, high):
        with pytest.raises(ValueError, match=r"^low and high must"):
            function([[0]], [1], low, high)
