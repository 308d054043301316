"""Head of a stripped picture: the four bytes from which a receiver makes a codec's container anew.

    height - 1, 12 bits | width - 1, 12 bits | settings 1 byte, of the codec's own

The compressed data follow. Big-endian, most significant bit first.
"""

from dataclasses import dataclass
from typing import Self

MAX_SIDE = 1 << 12
"""Longest side of a picture that a head can tell, in pixels."""
HEAD_BYTES = 4


class StripError(ValueError):
    """A file whose container can't be made anew from a head: it has what the codecs here don't write."""


@dataclass(frozen=True)
class Head:
    """Sides and settings of a compressed picture.

    Attributes:
        height: in pixels, 1..4096.
        width: in pixels, 1..4096.
        settings: 0..255, see the codec.
    """

    height: int
    width: int
    settings: int

    def __post_init__(self) -> None:
        """Raise ValueError outside these ranges."""
        if not (1 <= self.height <= MAX_SIDE and 1 <= self.width <= MAX_SIDE):
            raise ValueError(f"sides must be 1 to {MAX_SIDE} pixels, not {self.height} and {self.width}")
        if not 0 <= self.settings <= 255:
            raise ValueError(f"settings must be one byte, not {self.settings}")

    def to_bytes(self) -> bytes:
        """The head as it is sent.

        >>> Head(224, 160, 7).to_bytes().hex()
        '0df09f07'
        """
        return ((self.height - 1) << 20 | (self.width - 1) << 8 | self.settings).to_bytes(HEAD_BYTES)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reads the head that a stripped picture begins with.

        Raises:
            ValueError: the data are shorter than a head.
        """
        if len(data) < HEAD_BYTES:
            raise ValueError(f"{len(data)} bytes are too few for a stripped picture")
        number = int.from_bytes(data[:HEAD_BYTES])
        return cls((number >> 20) + 1, (number >> 8 & 0xFFF) + 1, number & 0xFF)
