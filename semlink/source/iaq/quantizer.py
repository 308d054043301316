"""Patches into integer codes and back: the uniform quantizer of IAQ, Section III-A."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.checks import finite_vector


def quantize(patches: ArrayLike, bits: ArrayLike, low: float, high: float) -> NDArray[np.uint8]:
    """Index of the quantization cell of every value (IAQ, equations 5-6).

    min(floor((u - low)·2^M/(high - low)), 2^M - 1), the nearest of the levels low + (s + 1/2)·Δ; a value on
    the border of two cells goes up. Patches of 0 bits, and all patches when low == high, have code 0.

    Args:
        patches: (N, K) values u_ik within [low, high], any real dtype.
        bits: (N,) bits M_i, integers in 0..8.
        low: u_min.
        high: u_max, ≥ low.

    Returns:
        (N, K) uint8 codes, each below 2^M_i.

    Raises:
        ValueError: a shape does not fit, or a value is outside these ranges.

    >>> quantize(np.array([[0, 100, 255]], np.uint8), [2], 0, 255)
    array([[0, 1, 3]], dtype=uint8)
    """
    patches = np.asarray(patches)
    if patches.ndim != 2 or patches.dtype.kind not in "biuf":
        raise ValueError(f"patches must be real, of shape (N, K), not {patches.dtype} of {patches.shape}")
    levels = _levels(bits, patches.shape[0], low, high)
    # Negated, so that a NaN is refused too.
    if patches.size and not (patches.min() >= low and patches.max() <= high):
        raise ValueError(f"patches must be within [low, high] = [{low}, {high}]")
    if low == high:
        return np.zeros(patches.shape, np.uint8)
    # float32 holds every 8-bit value exactly, and its quotients of them never round up to an integer.
    eight_bit = patches.dtype == np.uint8 and low in range(256) and high in range(256)
    dtype = np.float32 if eight_bit else np.float64
    scaled = (patches - dtype(low)) * levels.astype(dtype) / dtype(high - low)
    codes: NDArray[np.uint8] = np.minimum(scaled.astype(np.int32), levels - 1).astype(np.uint8)
    return codes


def dequantize(codes: ArrayLike, bits: ArrayLike, low: float, high: float) -> NDArray[np.float64]:
    """Centre of the quantization cell of every code, low + (code + 1/2)·(high - low)/2^M (IAQ, Section III-A).

    Neither rounded nor clipped. A patch of 0 bits has one cell, whose centre is (low + high)/2.

    Args:
        codes: (N, K) integer codes, each below 2^M_i.
        bits: (N,) bits M_i, integers in 0..8.
        low: u_min.
        high: u_max, ≥ low.

    Returns:
        (N, K) float64 values within [low, high].

    Raises:
        ValueError: a shape does not fit, or a value is outside these ranges.

    >>> dequantize([[0, 1, 3]], [2], 0, 256)
    array([[ 32.,  96., 224.]])
    """
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.dtype.kind not in "iu":
        raise ValueError(f"codes must be integers of shape (N, K), not {codes.dtype} of {codes.shape}")
    levels = _levels(bits, codes.shape[0], low, high)
    if codes.size and ((codes.max(axis=1, keepdims=True) >= levels).any() or codes.min() < 0):
        raise ValueError("codes must be 0 or more, and below 2^M in a patch of M bits")
    return low + (codes + 0.5) * ((high - low) / levels)


def _levels(bits: ArrayLike, patches: int, low: float, high: float) -> NDArray[np.int32]:
    """(N, 1) number of levels 2^M_i, after checking the arguments that both functions share."""
    bits = finite_vector("bits", bits)
    if bits.size != patches:
        raise ValueError(f"bits must be one per patch: {patches}, not {bits.size}")
    if ((bits < 0) | (bits > 8) | (bits != np.floor(bits))).any():
        raise ValueError("bits must be integers in 0..8")
    # Their distance times the most levels too, so that nothing below overflows.
    if not (low <= high and np.isfinite((high - low) * 256.0)):
        raise ValueError(f"low and high must be finite, low ≤ high, not {low} and {high}")
    return np.exp2(bits).astype(np.int32)[:, None]
