"""Frame of profile 4: one still of AVIF, WebP or JPEG without its container.

The profile's own header fields:

    codec 1 | picture's height - 1, width - 1, 12 bits each | head of the still 4, see `head` | payload's bytes 2

PAYLOAD: the still's compressed data in segments of 64 bytes, the last one shorter. The head is in the frame's
header, which is protected, and from it alone come the sides that a decoder is told: a payload can't claim others.

A decoder reads a still from its beginning on, so what a segment is worth is the share of the payload from there
on. Where one is lost, those behind it are useless, and a frame without it ends there.
"""

import struct
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.frame import FORMAT_BYTES, Frame, FrameError, check_values
from semlink.source.codec.head import HEAD_BYTES, MAX_SIDE, Head
from semlink.source.codec.stills import CODECS

SEGMENT_BYTES = 64
MAX_PAYLOAD_BYTES = (1 << 16) - 1
_CODECS = tuple(CODECS)
"""Names of codecs by their number on the wire."""
_FIELDS = struct.Struct(f">B3s{HEAD_BYTES}sH")
HEADER_BYTES = FORMAT_BYTES + _FIELDS.size
"""Of a frame, CRC included."""


@dataclass(frozen=True, eq=False)
class CodecFrame(Frame):
    """One still.

    Attributes:
        codec: avif, webp or jpeg.
        height: of the picture that the frame decodes to, 1..4096.
        width: of it.
        head: sides and settings of the still, no larger than the picture, which it is enlarged to.
        payload: its compressed data, at most 65,535 bytes; none where the first segment was lost.
    """

    profile: ClassVar[int] = 4
    rules: ClassVar[tuple[str, ...]] = ("codec", "sides", "undecodable")

    codec: str
    height: int
    width: int
    head: Head
    payload: bytes

    def __post_init__(self) -> None:
        """Raise FrameError unless every rule holds."""
        if self.codec not in CODECS:
            raise FrameError("codec", f"codec must be one of {', '.join(CODECS)}, not {self.codec!r}")
        if not CODECS[self.codec].has_settings(self.head.settings):
            raise FrameError("codec", f"{self.codec} has no settings {self.head.settings:#04x}")
        if not (1 <= self.height <= MAX_SIDE and 1 <= self.width <= MAX_SIDE):
            raise FrameError("sides", f"sides must be 1 to {MAX_SIDE}, not {self.height} and {self.width}")
        check_values(self.values)
        if self.head.height > self.height or self.head.width > self.width:
            raise FrameError("sides", f"a still of {self._sides(self.head)} in a picture of {self._sides(self)}")
        if (length := len(self.payload)) > MAX_PAYLOAD_BYTES:
            raise FrameError(
                "payload_length", f"the payload has {length} bytes; at most {MAX_PAYLOAD_BYTES} are taken"
            )

    @staticmethod
    def _sides(of: "Head | CodecFrame") -> str:
        return f"{of.height} x {of.width}"

    @property
    def stripped(self) -> bytes:
        """The still as `rebuild` of its codec takes it."""
        return self.head.to_bytes() + self.payload

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and the three channels of the picture."""
        return self.height, self.width, 3

    @property
    def segment_bits(self) -> NDArray[np.int64]:
        """(N,) bits of each segment: 512, the last one fewer; N is at least 1."""
        lengths = np.full(max(-(-len(self.payload) // SEGMENT_BYTES), 1), 8 * SEGMENT_BYTES, np.int64)
        lengths[-1] -= 8 * SEGMENT_BYTES * lengths.size - 8 * len(self.payload)
        return lengths

    @property
    def importance(self) -> NDArray[np.float64]:
        """(N,) share (N - i)/N of the segments that a decoder needs segment i for."""
        number = self.segment_bits.size
        return np.arange(number, 0, -1) / number

    def with_payload(self, payload: bytes) -> Self:
        """The frame with another payload of the same length."""
        _check_length(payload, len(self.payload))
        return replace(self, payload=payload)

    def without(self, segments: ArrayLike) -> Self:
        """The frame up to the first of some segments."""
        kept = self._kept(segments)
        if kept.all():
            return self
        return replace(self, payload=self.payload[: SEGMENT_BYTES * int(kept.argmin())])

    @property
    def fields(self) -> bytes:
        """Codec, sides, the still's head and the payload's length."""
        sides = ((self.height - 1) << 12 | (self.width - 1)).to_bytes(3)
        return _FIELDS.pack(_CODECS.index(self.codec), sides, self.head.to_bytes(), len(self.payload))

    @classmethod
    def fields_bytes(cls, header: memoryview) -> int:
        """Always the same."""
        return _FIELDS.size

    @classmethod
    def from_fields(cls, fields: bytes, payload: bytes) -> Self:
        """The frame of these header fields."""
        number, sides, head, length = _FIELDS.unpack(fields)
        if number >= len(_CODECS):
            raise FrameError("codec", f"there is no codec of number {number}")
        _check_length(payload, length)
        both = int.from_bytes(sides)
        return cls(_CODECS[number], (both >> 12) + 1, (both & 0xFFF) + 1, Head.from_bytes(head), payload)


def _check_length(payload: bytes, wanted: int) -> None:
    if len(payload) != wanted:
        raise FrameError("payload_length", f"the payload has {len(payload)} bytes; the header stands for {wanted}")
