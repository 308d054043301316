"""Frame of profile 0: integer codes of importance-aware quantization as frame bytes and back.

The profile's own header fields:

    grid rows 1, columns 1 | patch size 1, channels 1 | max bits 1 | u_min 1, u_max 1
    | bit map ceil(N·b/8), b = bits of max_bits

PAYLOAD: for each patch in raster order, which is a segment, for each of its P·P·C values, M_i bits.

Fields are of fixed length, so that one flipped payload bit damages one value. The bit map and u_min, u_max
are the side information of IAQ, equation (12); the rest of the header is overhead of this format.
"""

import struct
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.frame import FORMAT_BYTES, Frame, FrameError, check_values
from semlink.source.iaq.packing import pack, unpack

_FIXED = struct.Struct(">BBBBBBB")


@dataclass(frozen=True)
class Geometry:
    """Shape of the image that a frame carries: `rows` × `columns` patches of P×P pixels, C channels."""

    rows: int
    columns: int
    patch_size: int
    channels: int

    @property
    def patches(self) -> int:
        """Number of patches N."""
        return self.rows * self.columns

    @property
    def values_per_patch(self) -> int:
        """Number of values of one patch, P·P·C."""
        return self.patch_size**2 * self.channels

    @property
    def values(self) -> int:
        """Number of values of the image, N·P·P·C."""
        return self.patches * self.values_per_patch

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the image."""
        return self.rows * self.patch_size, self.columns * self.patch_size, self.channels


@dataclass(frozen=True, eq=False)
class IaqFrame(Frame):
    """One image whose patches are quantized with bits of their own.

    Attributes:
        geometry: grid, patch size and channels (1 or 3), each 1..255, at most `MAX_VALUES` values in all.
        max_bits: M_max, 1..8.
        low: u_min, the image's smallest 8-bit value.
        high: u_max, its largest; low ≤ high.
        bits: (N,) uint8 bit map M_i, each ≤ max_bits.
        payload: the packed codes, as long as the bit map says; its padding bits carry nothing.
    """

    profile: ClassVar[int] = 0
    rules: ClassVar[tuple[str, ...]] = ("max_bits", "bit_map", "geometry", "value_range")

    geometry: Geometry
    max_bits: int
    low: int
    high: int
    bits: NDArray[np.uint8]
    payload: bytes

    def __post_init__(self) -> None:
        """Raise FrameError unless every rule holds."""
        geometry = self.geometry
        check_geometry(geometry)
        _check_max_bits(self.max_bits)
        if not 0 <= self.low <= self.high <= 255:
            raise FrameError("value_range", f"0 ≤ u_min ≤ u_max ≤ 255 must hold, not {self.low} and {self.high}")
        if self.bits.shape != (geometry.patches,) or self.bits.dtype != np.uint8:
            raise FrameError("bit_map", f"the bit map must be ({geometry.patches},) uint8, not {self.bits.shape}")
        if self.bits.max() > self.max_bits:
            raise FrameError(
                "bit_map", f"a patch has {self.bits.max()} bits; the frame's most are {self.max_bits}"
            )
        self._check_payload()

    @classmethod
    def from_codes(
        cls,
        codes: NDArray[np.integer],
        bits: NDArray[np.integer],
        *,
        geometry: Geometry,
        low: int,
        high: int,
        max_bits: int = 8,
    ) -> Self:
        """Packs codes into a frame.

        Args:
            codes: (N, P·P·C) integer codes of the patches, each below 2^M_i.
            bits: (N,) bits M_i.
            geometry: shape of the image.
            low: u_min, 0..255.
            high: u_max, 0..255.
            max_bits: M_max, 1..8.

        Raises:
            FrameError: a rule of the format is broken.
            ValueError: `codes` has the wrong shape, or a code does not fit its bits.
        """
        check_geometry(geometry)
        bits = np.asarray(bits)
        if bits.shape != (geometry.patches,) or bits.dtype.kind not in "iu" or bits.min() < 0 or bits.max() > 8:
            raise FrameError("bit_map", f"the bit map must be ({geometry.patches},) integers within 0..8")
        byte_map = bits.astype(np.uint8)
        codes = np.asarray(codes)
        shape = geometry.patches, geometry.values_per_patch
        if codes.shape != shape or codes.dtype.kind not in "iu":
            raise ValueError(f"codes must be integers of shape {shape}, not {codes.dtype} of {codes.shape}")
        if (codes.max(axis=1) >> byte_map).any() or codes.min() < 0:
            raise ValueError("codes must be 0 or more, and below 2^M in a patch of M bits")
        return cls(geometry, max_bits, low, high, byte_map, pack(codes.astype(np.uint8), byte_map))

    @cached_property
    def codes(self) -> NDArray[np.uint8]:
        """(N, P·P·C) codes of the payload; patches without bits have code 0."""
        return unpack(self.payload, self.bits, self.geometry.values_per_patch)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the image."""
        return self.geometry.shape

    @property
    def segment_bits(self) -> NDArray[np.int64]:
        """(N,) bits P²C·M_i of each patch, in raster order."""
        return self.geometry.values_per_patch * self.bits.astype(np.int64)

    @property
    def importance(self) -> NDArray[np.float64]:
        """(N,) M_i / M_max: attention itself is not in the frame, but the encoder gave bits in its order."""
        return self.bits / self.max_bits

    @cached_property
    def payload_bits(self) -> int:
        """Bits B = P²C·ΣM_i that carry pixels, without the padding; found without an array of `segment_bits`."""
        return self.geometry.values_per_patch * int(self.bits.sum(dtype=np.int64))

    @property
    def header_bits(self) -> int:
        """Bits of the header, CRC included."""
        return header_bits(self.geometry, self.max_bits)

    def with_payload(self, payload: bytes) -> Self:
        """The frame with another payload of the same length."""
        return replace(self, payload=payload)

    def without(self, segments: ArrayLike) -> Self:
        """The frame as if some patches had not been sent: they have 0 bits, and their codes are left out."""
        kept = self._kept(segments)
        return self if kept.all() else replace(self, bits=self.bits * kept, payload=self._payload_of(kept))

    @property
    def fields(self) -> bytes:
        """Geometry, most bits, range of values and bit map."""
        geometry = self.geometry
        width = self.max_bits.bit_length()
        return (
            _FIXED.pack(
                geometry.rows, geometry.columns, geometry.patch_size, geometry.channels,
                self.max_bits, self.low, self.high,
            )
            + np.packbits(np.unpackbits(self.bits[:, None], axis=1)[:, 8 - width :]).tobytes()
        )  # fmt: skip

    @classmethod
    def fields_bytes(cls, header: memoryview) -> int:
        """Length of the fields, which follows from the grid and the most bits."""
        if len(header) < _FIXED.size:
            raise FrameError("truncated", f"{len(header)} bytes are too few for the fields of a frame header")
        rows, columns, _, _, max_bits, _, _ = _FIXED.unpack_from(header)
        _check_max_bits(max_bits)
        return _FIXED.size + _map_bytes(rows * columns, max_bits)

    @classmethod
    def from_fields(cls, fields: bytes, payload: bytes) -> Self:
        """The frame of these header fields."""
        rows, columns, patch_size, channels, max_bits, low, high = _FIXED.unpack_from(fields)
        geometry = Geometry(rows, columns, patch_size, channels)
        width = max_bits.bit_length()
        map_bits = np.unpackbits(np.frombuffer(fields, np.uint8, offset=_FIXED.size))
        if map_bits[geometry.patches * width :].any():
            raise FrameError("bit_map", "the padding of the bit map must be zero")
        bits = np.zeros((geometry.patches, 8), np.uint8)
        bits[:, 8 - width :] = map_bits[: geometry.patches * width].reshape(-1, width)
        return cls(geometry, max_bits, low, high, np.packbits(bits), payload)


def check_geometry(geometry: Geometry) -> None:
    """FrameError unless an image of this shape may be in a frame."""
    for name in ("rows", "columns", "patch_size"):
        if not 1 <= getattr(geometry, name) <= 255:
            raise FrameError("geometry", f"{name} must be 1 to 255, not {getattr(geometry, name)}")
    if geometry.channels not in (1, 3):
        raise FrameError("geometry", f"channels must be 1 or 3, not {geometry.channels}")
    check_values(geometry.values)


def _check_max_bits(max_bits: int) -> None:
    if not 1 <= max_bits <= 8:
        raise FrameError("max_bits", f"max bits must be 1 to 8, not {max_bits}")


def header_bits(geometry: Geometry, max_bits: int) -> int:
    """Bits of a frame's header, CRC included."""
    return 8 * (FORMAT_BYTES + _FIXED.size + _map_bytes(geometry.patches, max_bits))


def _map_bytes(patches: int, max_bits: int) -> int:
    return -(-patches * max_bits.bit_length() // 8)
