import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semlink.source.patches import to_image, to_patches

small = st.integers(1, 4)


def naive_patches(image: np.ndarray, size: int) -> list[list]:
    """Pixel by pixel, in the order that the format states."""
    height, width, channels = image.shape
    return [
        [
            image[top + row, left + column, channel]
            for row in range(size)
            for column in range(size)
            for channel in range(channels)
        ]
        for top in range(0, height, size)
        for left in range(0, width, size)
    ]


@given(small, small, small, small)
def test_raster_order_and_back(rows, columns, size, channels):
    count = rows * columns * size * size * channels
    image = np.arange(count).reshape(rows * size, columns * size, channels)
    patches = to_patches(image, size)
    np.testing.assert_array_equal(patches, naive_patches(image, size))
    np.testing.assert_array_equal(to_image(patches, rows, columns, size), image)


def test_keeps_the_dtype():
    image = np.zeros((32, 48, 3), np.uint8)
    patches = to_patches(image, 16)
    assert patches.shape == (6, 768)
    assert patches.dtype == to_image(patches, 2, 3, 16).dtype == np.uint8


@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 3, 1), (31, 32, 3), (32, 40, 3)])
def test_refuses_image(shape):
    with pytest.raises(ValueError, match=r"^image must"):
        to_patches(np.zeros(shape), 16)


@pytest.mark.parametrize("shape", [(4, 11), (5, 12), (12,), (4, 3, 4)])
def test_refuses_patches_that_do_not_fit(shape):
    with pytest.raises(ValueError, match=r"^patches must"):
        to_image(np.zeros(shape), 2, 2, 2)
