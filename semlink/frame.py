"""Frame: the wire format common to all source coders, version 1, and what a frame offers to what carries it.

HEADER, multi-byte integers big-endian, then PAYLOAD:

    magic 2 "SL" | version 1 | profile 1 | the profile's own fields | CRC-32 of all header bytes before it 4

A profile is the format of one source coder; see the modules `semlink.source.*.frame` for their fields. The payload
is a row of segments, one behind the other, zero-padded to a byte. The coder says how important each is, and
channels and access schemes decide by that alone. A damaged payload is normal; a damaged header is an error.
"""

import math
import struct
import zlib
from abc import ABC, abstractmethod
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAGIC = b"SL"
VERSION = 1
MAX_VALUES = 2**22
"""Most values a frame may decode to: a tiny frame must not unpack into gigabytes."""

MAX_FRAME_BYTES = 1 << 20
"""Longest frame that the processes take."""

FORMAT_RULES = (
    "oversized", "truncated", "magic", "version", "profile", "crc", "too_many_values", "payload_length",
)  # fmt: skip
"""Rules that any frame may break; a profile has more, see `Frame.rules`."""

_START = struct.Struct(">2sBB")
_CRC = struct.Struct(">I")
FORMAT_BYTES = _START.size + _CRC.size
"""Bytes of the header beside the profile's own fields."""


class FrameError(ValueError):
    """A frame that breaks a rule. `reason` names the rule, one of a fixed set, fit for a metric's label."""

    def __init__(self, reason: str, message: str) -> None:
        """`message`: a sentence on how the rule is broken."""
        super().__init__(message)
        self.reason = reason


class Frame(ABC):
    """One image on the air, of one profile. Building a frame checks every rule, so that it is always a valid one.

    A profile derives from this, as a frozen dataclass with the field `payload`, and checks its rules in
    `__post_init__`.
    """

    profile: ClassVar[int]
    """Number of the profile, 0..255, unique among the source coders."""

    rules: ClassVar[tuple[str, ...]] = ()
    """Reasons of `FrameError` that only this profile has."""

    payload: bytes
    """The segments, as long as their bits say; the padding bits at the end carry nothing."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the image that the frame decodes to."""

    @property
    @abstractmethod
    def fields(self) -> bytes:
        """The profile's own header fields."""

    @property
    @abstractmethod
    def segment_bits(self) -> NDArray[np.int64]:
        """(N,) bits of each segment of the payload, in their order in it."""

    @property
    def importance(self) -> NDArray[np.float64]:
        """(N,) how much each segment matters, within [0, 1], as far as the frame says; here it says nothing: ones.

        It is what carriers without the coder's own importance decide by, such as unequal error protection. They
        use the order alone, so profiles need not agree on a scale.
        """
        return np.ones(self.segment_bits.size)

    @abstractmethod
    def with_payload(self, payload: bytes) -> Self:
        """The frame with another payload of the same length, such as a damaged one."""

    @abstractmethod
    def without(self, segments: ArrayLike) -> Self:
        """The frame as if some segments had not been sent.

        Args:
            segments: (n,) integers, the segments' numbers, within 0..N-1; one may come twice.

        Raises:
            ValueError: there is no such segment.
        """

    @classmethod
    @abstractmethod
    def fields_bytes(cls, header: memoryview) -> int:
        """Length of the profile's own fields.

        Args:
            header: what follows the profile's number: the fields, perhaps cut off, perhaps damaged.

        Raises:
            FrameError: it is too short to say ("truncated"), or says nothing valid.
        """

    @classmethod
    @abstractmethod
    def from_fields(cls, fields: bytes, payload: bytes) -> Self:
        """The frame of these header fields, whose checksum was right.

        Raises:
            FrameError: a rule is broken.
        """

    @property
    def values(self) -> int:
        """Number of values H·W·C of the image."""
        return math.prod(self.shape)

    @property
    def payload_bits(self) -> int:
        """Bits B of all segments, without the padding."""
        return int(self.segment_bits.sum())

    @property
    def header_bits(self) -> int:
        """Bits of the header, CRC included."""
        return 8 * (FORMAT_BYTES + len(self.fields))

    @property
    def rho(self) -> float:
        """Compression ratio ρ of the papers: payload bits over the 8-bit image's."""
        return self.payload_bits / (8 * self.values)

    @property
    def true_ratio(self) -> float:
        """Every bit of the frame, header and padding included, over the 8-bit image's."""
        return (self.header_bits + 8 * len(self.payload)) / (8 * self.values)

    def to_bytes(self) -> bytes:
        """The frame as it is sent."""
        header = _START.pack(MAGIC, VERSION, self.profile) + self.fields
        return header + _CRC.pack(zlib.crc32(header)) + self.payload

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reads a frame of this profile; the payload may be damaged, the header may not.

        Raises:
            FrameError: `data` is not a valid frame of this profile; `reason` and the message say why.
        """
        if (profile := read_profile(data)) != cls.profile:
            raise FrameError("profile", f"frame profile {profile} is unknown; this reads {cls.profile}")
        view = memoryview(data)
        end = _START.size + cls.fields_bytes(view[_START.size :])
        if len(data) < end + _CRC.size:
            raise FrameError("truncated", f"{len(data)} bytes are too few for a header of {end + _CRC.size}")
        if _CRC.unpack_from(data, end) != (zlib.crc32(view[:end]),):
            raise FrameError("crc", "the header's CRC-32 does not match: the header is damaged")
        return cls.from_fields(bytes(view[_START.size : end]), bytes(view[end + _CRC.size :]))

    def _check_payload(self) -> None:
        """FrameError unless the payload is as long as its segments."""
        wanted = -(-self.payload_bits // 8)
        if len(self.payload) != wanted:
            raise FrameError(
                "payload_length", f"the payload has {len(self.payload)} bytes; the header stands for {wanted}"
            )

    def _kept(self, segments: ArrayLike) -> NDArray[np.bool_]:
        """For `without`: (N,) which segments stay; ValueError if there is no such segment."""
        numbers, kept = np.asarray(segments), np.ones(self.segment_bits.size, bool)
        if numbers.size:
            if numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() >= kept.size:
                raise ValueError(f"segments must be integers within 0..{kept.size - 1}")
            kept[numbers.astype(np.intp)] = False
        return kept

    def _payload_of(self, kept: NDArray[np.bool_]) -> bytes:
        """For `without`: the payload of the segments that stay."""
        sent = np.unpackbits(np.frombuffer(self.payload, np.uint8), count=self.payload_bits)
        return np.packbits(sent[np.repeat(kept, self.segment_bits)]).tobytes()


def read_profile(data: bytes) -> int:
    """Profile of a frame, by the beginning of its header.

    Raises:
        FrameError: this is no frame of version 1.
    """
    if len(data) < FORMAT_BYTES:
        raise FrameError("truncated", f"{len(data)} bytes are too few for a frame header")
    magic, version, profile = _START.unpack_from(data)
    if magic != MAGIC:
        raise FrameError("magic", f"a frame starts with {MAGIC!r}, not {magic!r}")
    if version != VERSION:
        raise FrameError("version", f"frame version {version} is unknown; this reads version {VERSION}")
    return int(profile)


def check_values(values: int) -> None:
    """FrameError if an image of so many values is too large for a frame."""
    if values > MAX_VALUES:
        raise FrameError(
            "too_many_values", f"the frame decodes to {values} values; at most {MAX_VALUES} are taken"
        )
