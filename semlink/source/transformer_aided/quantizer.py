"""Token quantizer: uniform, with a scale of its own for every channel of the tokens and every number of bits.

The paper sends tokens as they come out of the transformer and counts patches, not bits (Mortaheb et al., arXiv
2405.01521, Section III). At 32 bits a value a token of its model takes 12288 bits, and the 8 × 8 pixels that it
stands for take 1536; one of DeiT-Tiny takes 6144, as many as its 16 × 16 pixels. Here a value has 2 to 8 bits.
"""

import hashlib
import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from semlink.checks import integer_within

MIN_BITS, MAX_BITS = 2, 8
"""Fewest and most bits b of a token's value."""
ID_BYTES = 4
"""Bytes of the SHA-256 of a scale file by which a frame names it."""
MAX_DIMENSION = 4096
MAX_SCALES_BYTES = 1 << 20
"""Largest scale file that is read, and the most that may be unpacked from it."""


@dataclass(frozen=True, eq=False)
class Scales:
    """Quantizers of a token's D channels: level i of b bits in channel d is low[b - 2, d] + i·step[b - 2, d].

    Attributes:
        low: (7, D) float32, the lowest level for 2 to 8 bits.
        step: (7, D) float32, the distance of two levels, > 0.
        id: first 4 bytes of the SHA-256 of the file that holds them: the tokens and the decoder that they are for.
    """

    low: NDArray[np.float32]
    step: NDArray[np.float32]
    id: bytes

    @property
    def dimension(self) -> int:
        """Channels D of a token."""
        return int(self.low.shape[1])

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads the arrays `low` and `step` from an .npz file of at most 1 MiB; nothing in it is executed.

        Raises:
            OSError: it cannot be opened.
            ValueError: it is no such file; the message says why.
        """
        if path.stat().st_size > MAX_SCALES_BYTES:
            raise ValueError(f"{path} is larger than {MAX_SCALES_BYTES >> 20} MiB: it is no scale file")
        data = path.read_bytes()
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > MAX_SCALES_BYTES:
                raise ValueError(f"its arrays are larger than {MAX_SCALES_BYTES >> 20} MiB")
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                if set(arrays) != {"low", "step"}:
                    raise ValueError(f"its arrays must be low and step, not {', '.join(sorted(arrays))[:200]}")
                low, step = arrays["low"], arrays["step"]
            _check_scales(low, step)
        except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, MemoryError) as error:
            raise ValueError(f"{path} holds no scales of tokens: {error}") from None
        return cls(low, step, hashlib.sha256(data).digest()[:ID_BYTES])


def quantize(tokens: NDArray[np.float32], scales: Scales, bits: int) -> NDArray[np.uint8]:
    """Index of the nearest level of every value; what is beyond the outer levels gets those.

    Args:
        tokens: (n, D) tokens.
        scales: the levels.
        bits: b, 2..8.

    Returns:
        (n, D) codes below 2^b.

    Raises:
        ValueError: a shape does not fit, a value is not finite, or `bits` is out of range.

    >>> scales = Scales(np.zeros((7, 2), np.float32), np.ones((7, 2), np.float32), bytes(4))
    >>> quantize(np.array([[1.4, -7.0], [99.0, 2.6]], np.float32), scales, 2)
    array([[1, 0],
           [3, 3]], dtype=uint8)
    """
    bits = integer_within("bits", bits, MIN_BITS, MAX_BITS)
    if tokens.ndim != 2 or tokens.shape[1] != scales.dimension:
        raise ValueError(f"tokens must have shape (n, {scales.dimension}), not {tokens.shape}")
    if not np.isfinite(tokens).all():
        raise ValueError("tokens must be finite")
    row = bits - MIN_BITS
    levels = np.rint((tokens.astype(np.float64) - scales.low[row]) / scales.step[row])
    codes: NDArray[np.uint8] = levels.clip(0, (1 << bits) - 1).astype(np.uint8)
    return codes


def dequantize(codes: NDArray[np.uint8], scales: Scales, bits: int) -> NDArray[np.float32]:
    """Level of every code: low + code·step.

    Args:
        codes: (n, D) codes below 2^b, of `quantize`, perhaps damaged on their way.
        scales: the levels.
        bits: b, 2..8.

    Raises:
        ValueError: a shape does not fit, a code has more than b bits, or `bits` is out of range.
    """
    bits = integer_within("bits", bits, MIN_BITS, MAX_BITS)
    if codes.ndim != 2 or codes.shape[1] != scales.dimension or codes.dtype != np.uint8:
        raise ValueError(f"codes must be uint8 of shape (n, {scales.dimension}), not {codes.dtype} {codes.shape}")
    if (codes >> bits).any():
        raise ValueError(f"codes must be below 2^{bits}")
    row = bits - MIN_BITS
    levels: NDArray[np.float32] = scales.low[row] + codes.astype(np.float32) * scales.step[row]
    return levels


def _check_scales(low: NDArray[np.float32], step: NDArray[np.float32]) -> None:
    rows = MAX_BITS - MIN_BITS + 1
    for name, array in (("low", low), ("step", step)):
        if array.dtype != np.float32 or array.ndim != 2 or array.shape[0] != rows:
            raise ValueError(f"{name} must be float32 of shape ({rows}, D), not {array.dtype} of {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite")
    if low.shape != step.shape or not 1 <= low.shape[1] <= MAX_DIMENSION:
        raise ValueError(f"low and step must have the same D, 1 to {MAX_DIMENSION}: {low.shape}, {step.shape}")
    if not (step > 0).all():
        raise ValueError("step must be above 0")
    # float32 has to hold the highest level of every channel.
    if not np.isfinite(low + step * np.float32(2**MAX_BITS)).all():
        raise ValueError("the highest levels must be finite")
