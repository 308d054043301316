"""Importance-aware quantization, end to end: pixels and attention into a frame, a frame into pixels."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.allocation import incremental
from semlink.bitstream import Frame, Geometry
from semlink.importance import importance_weights
from semlink.patches import to_image, to_patches
from semlink.quantizer import dequantize, quantize

PATCH_SIZE = 16
MAX_BITS = 8


def encode(
    image: NDArray[np.uint8],
    scores: ArrayLike,
    *,
    rho: float = 0.25,
    gamma: float = 1.0,
    design_ber: float = 0.0,
) -> Frame:
    """Quantizes an image by the importance of its patches (IAQ, Section III, and IV-C for `design_ber` > 0).

    Args:
        image: (H, W, C) 8-bit pixels, C 1 or 3, sides multiples of 16.
        scores: (N,) importance of each patch, in raster order.
        rho: compression ratio ρ of the payload to the 8-bit image, in [0, 1].
        gamma: shape of the weight function (31), > 0.
        design_ber: bit error rate μ that the allocation assumes, in [0, 3/13].

    Raises:
        ValueError: an argument is outside these ranges.
        FrameError: the image has a shape that no frame carries.
    """
    if image.dtype != np.uint8:
        raise ValueError(f"image must be 8-bit, not {image.dtype}")
    if not 0 <= rho <= 1:
        raise ValueError(f"rho must be within [0, 1], not {rho}")
    patches = to_patches(image, PATCH_SIZE)
    weights = importance_weights(scores, gamma=gamma)
    if weights.size != len(patches):
        raise ValueError(f"scores must be one per patch: {len(patches)}, not {weights.size}")
    # The lift is for ratios of whole steps: 1568·(8/1568) is a little below 8, and must not lose a step.
    steps = int(MAX_BITS * len(patches) * rho + 1e-6)
    bits = incremental(weights, steps, bit_error_rate=design_ber, max_bits=MAX_BITS)
    low, high = int(image.min()), int(image.max())
    height, width, channels = image.shape
    return Frame.from_codes(
        quantize(patches, bits, low, high),
        bits,
        geometry=Geometry(height // PATCH_SIZE, width // PATCH_SIZE, PATCH_SIZE, channels),
        low=low,
        high=high,
        max_bits=MAX_BITS,
    )


def decode(frame: Frame) -> NDArray[np.float64]:
    """Pixels of a received frame: (H, W, C) within [u_min, u_max], unrounded (IAQ, Section III-A)."""
    geometry = frame.geometry
    patches = dequantize(frame.codes, frame.bits, frame.low, frame.high)
    return to_image(patches, geometry.rows, geometry.columns, geometry.patch_size)
