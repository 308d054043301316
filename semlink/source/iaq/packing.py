"""Codes of few bits as a dense string of bits, and back: each patch has its own width.

Patches of one width are packed together, eight codes of M bits being M bytes: neighbours are merged pairwise,
three times over, into 64-bit words whose last M bytes are kept. Bit by bit it takes two to three times as long.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_MERGED: tuple[Any, ...] = (np.uint16, np.uint32, np.uint64)
_SPLIT: tuple[Any, ...] = (np.uint32, np.uint16, np.uint8)


def pack(codes: NDArray[np.uint8], bits: NDArray[np.uint8]) -> bytes:
    """Packs codes row after row, most significant bit first, zero-padded to a byte at the end.

    Args:
        codes: (N, K) codes, each below 2^M of its row.
        bits: (N,) width M of each row's codes, 0..8; rows of 0 bits leave nothing.
    """
    values = codes.shape[1]
    strings: list[NDArray[np.uint8] | None] = [None] * bits.size
    for width, rows in _rows_by_width(bits):
        words: NDArray[Any] = _widened(codes[rows], -values % 8)
        size = width
        for dtype in _MERGED:
            words = words[:, 0::2].astype(dtype) << size | words[:, 1::2]
            size *= 2
        octets = words.astype(">u8").view(np.uint8).reshape(*words.shape, 8)[:, :, 8 - width :]
        of_rows = np.unpackbits(octets.reshape(rows.size, -1), axis=1, count=width * values)
        for row, string in zip(rows.tolist(), of_rows, strict=True):
            strings[row] = string
    present = [string for string in strings if string is not None]
    return np.packbits(np.concatenate(present)).tobytes() if present else b""


def unpack(packed: bytes, bits: NDArray[np.uint8], values: int) -> NDArray[np.uint8]:
    """(N, K) codes of what `pack` made, K being `values`; rows of 0 bits have code 0."""
    stream = np.unpackbits(np.frombuffer(packed, np.uint8))
    ends = np.cumsum(bits, dtype=np.int64) * values
    codes = np.zeros((bits.size, values), np.uint8)
    for width, rows in _rows_by_width(bits):
        strings = np.stack([stream[end - width * values : end] for end in ends[rows].tolist()])
        octets = np.packbits(_widened(strings, -values % 8 * width), axis=1)
        padded = np.zeros((rows.size, octets.shape[1] // width, 8), np.uint8)
        padded[:, :, 8 - width :] = octets.reshape(rows.size, -1, width)
        words: NDArray[Any] = padded.view(">u8")[:, :, 0].astype(np.uint64)
        size = 4 * width
        for dtype in _SPLIT:
            halves = np.empty((*words.shape, 2), dtype)
            halves[:, :, 0] = words >> size
            halves[:, :, 1] = words & ((1 << size) - 1)
            words = halves.reshape(rows.size, -1)
            size //= 2
        codes[rows] = words[:, :values]
    return codes


def _widened(rows: NDArray[np.uint8], zeros: int) -> NDArray[np.uint8]:
    """The rows with so many zeros behind each. For none, np.pad would still copy them."""
    return np.pad(rows, ((0, 0), (0, zeros))) if zeros else rows


def _rows_by_width(bits: NDArray[np.uint8]) -> list[tuple[int, NDArray[np.intp]]]:
    return [(width, np.flatnonzero(bits == width)) for width in np.unique(bits).tolist() if width]
