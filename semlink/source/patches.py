"""Images as patches and back: the N patches of P×P pixels in raster order (IAQ, Section II)."""

from typing import Any

from numpy.typing import NDArray


def to_patches(image: NDArray[Any], patch_size: int) -> NDArray[Any]:
    """(H, W, C) image -> (N, P·P·C) patches in raster order; values go by rows, columns, channels.

    Raises:
        ValueError: `image` has no three dimensions, or its sides are no multiples of `patch_size`.

    >>> import numpy as np
    >>> to_patches(np.arange(8).reshape(2, 4, 1), 2)
    array([[0, 1, 4, 5],
           [2, 3, 6, 7]])
    """
    if image.ndim != 3:
        raise ValueError(f"image must have shape (height, width, channels), not {image.shape}")
    height, width, channels = image.shape
    if height % patch_size or width % patch_size:
        raise ValueError(f"image must have sides divisible by {patch_size}, not {height} x {width}")
    blocks = image.reshape(height // patch_size, patch_size, width // patch_size, patch_size, channels)
    return blocks.swapaxes(1, 2).reshape(-1, patch_size * patch_size * channels)


def to_image(patches: NDArray[Any], rows: int, columns: int, patch_size: int) -> NDArray[Any]:
    """(rows·columns, P·P·C) patches -> (rows·P, columns·P, C) image: the inverse of `to_patches`.

    Raises:
        ValueError: the shape of `patches` does not fit the grid.
    """
    channels = patches.shape[-1] // (patch_size * patch_size)
    if patches.shape != (rows * columns, patch_size * patch_size * channels):
        raise ValueError(f"patches must have shape (rows·columns, P·P·C), not {patches.shape}")
    blocks = patches.reshape(rows, columns, patch_size, patch_size, channels)
    return blocks.swapaxes(1, 2).reshape(rows * patch_size, columns * patch_size, channels)
