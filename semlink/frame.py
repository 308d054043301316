"""Integer codes as frame bytes and back: frame version 1, what crosses the air.

HEADER, multi-byte integers big-endian:

    magic 2 | version 1 | profile 1 | grid rows 1, columns 1 | patch size 1, channels 1 | max bits 1
    | u_min 1, u_max 1 | bit map ceil(N·b/8), b = bits of max_bits | CRC-32 of all header bytes before it 4

PAYLOAD: for each patch in raster order, for each of its P·P·C values, M_i bits; zero-padded to a byte.

Fields are of fixed length, so that one flipped payload bit damages one value. The bit map and u_min, u_max
are the side information of IAQ, equation (12); the rest of the header is overhead of this format.
"""

import struct
import zlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.source.iaq.packing import pack, unpack

MAGIC = b"SL"
VERSION = 1
PROFILE_IAQ_PIXELS = 0
MAX_VALUES = 2**22
"""Most values a frame may decode to: a tiny frame must not unpack into gigabytes."""

MAX_FRAME_BYTES = 1 << 20
"""Longest frame that the processes take."""

FrameRule = Literal[
    "oversized", "truncated", "magic", "version", "profile", "max_bits", "crc",
    "bit_map", "geometry", "too_many_values", "value_range", "payload_length",
]  # fmt: skip
FRAME_RULES: tuple[FrameRule, ...] = get_args(FrameRule)
"""Rules that a frame may break, those of the format and the longest that the processes take."""

_FIXED = struct.Struct(">2sBBBBBBBBB")
_CRC = struct.Struct(">I")


class FrameError(ValueError):
    """A frame that breaks a rule. `reason` is one of `FRAME_RULES`, fit for a metric's label."""

    def __init__(self, reason: FrameRule, message: str) -> None:
        """`message`: a sentence on how the rule is broken."""
        super().__init__(message)
        self.reason = reason


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


@dataclass(frozen=True, eq=False)
class Frame:
    """One image on the air.

    Building a frame checks every rule of the format, so a `Frame` is always a valid one.

    Attributes:
        geometry: grid, patch size and channels (1 or 3), each 1..255, at most `MAX_VALUES` values in all.
        max_bits: M_max, 1..8.
        low: u_min, the image's smallest 8-bit value.
        high: u_max, its largest; low ≤ high.
        bits: (N,) uint8 bit map M_i, each ≤ max_bits.
        payload: the packed codes, as long as the bit map says; its padding bits carry nothing.
    """

    geometry: Geometry
    max_bits: int
    low: int
    high: int
    bits: NDArray[np.uint8]
    payload: bytes

    def __post_init__(self) -> None:
        """Raise FrameError unless every rule holds."""
        geometry = self.geometry
        _check_geometry(geometry)
        if not 1 <= self.max_bits <= 8:
            raise FrameError("max_bits", f"max bits must be 1 to 8, not {self.max_bits}")
        if not 0 <= self.low <= self.high <= 255:
            raise FrameError("value_range", f"0 ≤ u_min ≤ u_max ≤ 255 must hold, not {self.low} and {self.high}")
        if self.bits.shape != (geometry.patches,) or self.bits.dtype != np.uint8:
            raise FrameError("bit_map", f"the bit map must be ({geometry.patches},) uint8, not {self.bits.shape}")
        if self.bits.max() > self.max_bits:
            raise FrameError(
                "bit_map", f"a patch has {self.bits.max()} bits; the frame's most are {self.max_bits}"
            )
        if len(self.payload) != self._payload_bytes:
            raise FrameError(
                "payload_length",
                f"the payload has {len(self.payload)} bytes; the bit map stands for {self._payload_bytes}",
            )

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
        _check_geometry(geometry)
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
    def payload_bits(self) -> int:
        """Bits B = P²C·ΣM_i that carry pixels, without the padding."""
        return self.geometry.values_per_patch * int(self.bits.sum(dtype=np.int64))

    @property
    def header_bits(self) -> int:
        """Bits of the header, CRC included."""
        return header_bits(self.geometry, self.max_bits)

    @property
    def rho(self) -> float:
        """Compression ratio ρ of the papers: payload bits over the 8-bit image's."""
        return self.payload_bits / (8 * self.geometry.values)

    @property
    def true_ratio(self) -> float:
        """Every bit of the frame, header and padding included, over the 8-bit image's."""
        return (self.header_bits + 8 * len(self.payload)) / (8 * self.geometry.values)

    @property
    def _payload_bytes(self) -> int:
        return -(-self.payload_bits // 8)

    def without(self, patches: ArrayLike) -> Self:
        """The frame as if some patches had not been sent: they have 0 bits, and their codes are left out.

        Args:
            patches: (n,) integers, the patches' numbers in raster order, within 0..N-1; one may come twice.

        Raises:
            ValueError: there is no such patch.
        """
        numbers = np.asarray(patches)
        if not numbers.size:
            return self
        if numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() >= self.geometry.patches:
            raise ValueError(f"patches must be integers within 0..{self.geometry.patches - 1}")
        kept = np.ones(self.geometry.patches, bool)
        kept[numbers.astype(np.intp)] = False
        values = np.unpackbits(np.frombuffer(self.payload, np.uint8), count=self.payload_bits)
        left = values[np.repeat(kept, self.geometry.values_per_patch * self.bits.astype(np.int64))]
        return replace(self, bits=self.bits * kept, payload=np.packbits(left).tobytes())

    def to_bytes(self) -> bytes:
        """The frame as it is sent."""
        geometry = self.geometry
        header = _FIXED.pack(
            MAGIC, VERSION, PROFILE_IAQ_PIXELS, geometry.rows, geometry.columns, geometry.patch_size,
            geometry.channels, self.max_bits, self.low, self.high,
        )  # fmt: skip
        width = self.max_bits.bit_length()
        header += np.packbits(np.unpackbits(self.bits[:, None], axis=1)[:, 8 - width :]).tobytes()
        return header + _CRC.pack(zlib.crc32(header)) + self.payload

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reads a frame; the payload may be damaged, the header may not.

        Raises:
            FrameError: `data` is not a valid frame; `reason` and the message say why.
        """
        if len(data) < _FIXED.size:
            raise FrameError("truncated", f"{len(data)} bytes are too few for a frame header")
        magic, version, profile, rows, columns, patch_size, channels, max_bits, low, high = _FIXED.unpack_from(
            data
        )
        if magic != MAGIC:
            raise FrameError("magic", f"a frame starts with {MAGIC!r}, not {magic!r}")
        if version != VERSION:
            raise FrameError("version", f"frame version {version} is unknown; this reads version {VERSION}")
        if profile != PROFILE_IAQ_PIXELS:
            raise FrameError("profile", f"frame profile {profile} is unknown; this reads {PROFILE_IAQ_PIXELS}")
        if not 1 <= max_bits <= 8:
            raise FrameError("max_bits", f"max bits must be 1 to 8, not {max_bits}")
        geometry = Geometry(rows, columns, patch_size, channels)
        map_end = _FIXED.size + _map_bytes(geometry, max_bits)
        header_end = map_end + _CRC.size
        if len(data) < header_end:
            raise FrameError("truncated", f"{len(data)} bytes are too few for a header of {header_end}")
        (crc,) = _CRC.unpack_from(data, map_end)
        if crc != zlib.crc32(memoryview(data)[:map_end]):
            raise FrameError("crc", "the header's CRC-32 does not match: the header is damaged")
        width = max_bits.bit_length()
        map_bits = np.unpackbits(np.frombuffer(data, np.uint8, map_end - _FIXED.size, _FIXED.size))
        if map_bits[geometry.patches * width :].any():
            raise FrameError("bit_map", "the padding of the bit map must be zero")
        fields = np.zeros((geometry.patches, 8), np.uint8)
        fields[:, 8 - width :] = map_bits[: geometry.patches * width].reshape(-1, width)
        return cls(geometry, max_bits, low, high, np.packbits(fields), bytes(data[header_end:]))


def _check_geometry(geometry: Geometry) -> None:
    for name in ("rows", "columns", "patch_size"):
        if not 1 <= getattr(geometry, name) <= 255:
            raise FrameError("geometry", f"{name} must be 1 to 255, not {getattr(geometry, name)}")
    if geometry.channels not in (1, 3):
        raise FrameError("geometry", f"channels must be 1 or 3, not {geometry.channels}")
    if geometry.values > MAX_VALUES:
        raise FrameError(
            "too_many_values",
            f"the frame decodes to {geometry.values} values; at most {MAX_VALUES} are taken",
        )


def header_bits(geometry: Geometry, max_bits: int) -> int:
    """Bits of a frame's header, CRC included."""
    return 8 * (_FIXED.size + _map_bytes(geometry, max_bits) + _CRC.size)


def _map_bytes(geometry: Geometry, max_bits: int) -> int:
    return -(-geometry.patches * max_bits.bit_length() // 8)
