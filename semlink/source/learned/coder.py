"""Learned source coder: pixels into bits tile by tile, a frame into pixels (Kong and Zhang, arXiv 2507.12850).

Both need PyTorch and the networks of a training, which are read on first use, or before by `load`.
OpenVINO runs them where it is installed.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semlink.frame import FrameError, check_values
from semlink.source.learned.frame import CHANNELS, LearnedFrame
from semlink.source.learned.interface import SIDE
from semlink.source.patches import to_image, to_patches
from semlink.source.registry import CodedImage

_weights: Path | None = None
"""Folder that `load` was given."""


def load(weights: Path | None = None) -> None:
    """Reads the networks that encode: of a folder if they are there, else the package's.

    Raises:
        WeightsError: they are in neither, or can't be read; the message says what to do.
    """
    global _weights
    from semlink.source.learned.networks import folder_of, networks

    networks(folder_of(weights)).start()
    _weights = weights


def model_files() -> tuple[Path, ...]:
    """Interface and networks of the package."""
    from semlink.source.learned.interface import FILE
    from semlink.source.learned.networks import WEIGHTS, folder_of

    return folder_of(None) / FILE, folder_of(None) / WEIGHTS


def encode(image: NDArray[np.uint8], seen: None = None) -> CodedImage[LearnedFrame]:
    """Bits of every tile of 32 × 32 pixels, all levels, with the importance that training found.

    Args:
        image: (H, W, 3) 8-bit pixels, sides multiples of 32.
        seen: nothing; what a vision transformer sees is not looked at.

    Returns:
        The frame, ρ = 1/4, whose segments are the 16 levels, and the mean of 1 - 2ε of each.

    Raises:
        ValueError: `image` is not of this type and shape.
        FrameError: it is larger than a frame carries.
        WeightsError: there are no networks.
    """
    from semlink.source.learned.networks import folder_of, networks

    if image.dtype != np.uint8:
        raise ValueError(f"image must be 8-bit, not {image.dtype}")
    check_values(image.size)
    tiles = to_patches(image, SIDE)
    if image.shape[2] != CHANNELS:
        raise ValueError(f"image must have {CHANNELS} channels, not {image.shape[2]}")
    chosen = networks(folder_of(_weights))
    bits = chosen.bits(tiles.reshape(-1, SIDE, SIDE, CHANNELS))
    grid = image.shape[0] // SIDE, image.shape[1] // SIDE
    frame = LearnedFrame.from_bits(bits, grid, chosen.interface)
    return CodedImage(frame, frame.importance)


def decode(frame: LearnedFrame) -> NDArray[np.float64]:
    """(H, W, 3) pixels within 0..255, unrounded; a bit that did not arrive counts as half a one.

    Raises:
        FrameError: there are no networks here for the frame's interface (reason "interface").
        WeightsError: there are, and they can't be read.
    """
    from semlink.source.learned.networks import networks_of

    chosen = networks_of(frame.known())
    if chosen is None:
        raise FrameError("interface", f"there are no networks here for interface {frame.interface.hex()}")
    tiles = chosen.tiles(frame.bits).reshape(frame.tiles, -1)
    return to_image(tiles, *frame.grid, SIDE).astype(np.float64)
