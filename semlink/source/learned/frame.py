"""Frame of profile 2: learned bits of tiles of 32 × 32 pixels, level of importance by level.

The profile's own header fields:

    tile rows 1, columns 1 | interface 4, the first bytes of its SHA-256 | presence of the 16 levels 2

PAYLOAD: level by level, the most important first; a level that is present is a segment of 384 bits a tile, one
that is absent has 0 bits. Within a level tile by tile in raster order, within a tile by ascending bit position.

Which positions are of which level is the interface's to say (`semlink.source.learned.interface`), so a frame can
be carried, damaged and thinned out by who does not know it; who wants its bits must.
"""

import struct
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.frame import Frame, FrameError, check_values
from semlink.source.learned.interface import (
    BITS,
    ID_BYTES,
    LEVEL_BITS,
    LEVELS,
    POSITIONS,
    SIDE,
    TOKENS,
    Interface,
    known_interface,
)  # fmt: skip

_FIELDS = struct.Struct(f">BB{ID_BYTES}sH")
CHANNELS = 3
ABSENT = 0.5
"""Value of a bit that was not sent: as likely 1 as 0."""


@dataclass(frozen=True, eq=False)
class LearnedFrame(Frame):
    """One colour image as the bits of its tiles.

    Attributes:
        grid: rows and columns of tiles, each 1..255, at most `MAX_VALUES` values in all.
        interface: 4 bytes, the identity of the interface that orders the bits.
        present: (16,) which levels are in the payload, the most important first.
        payload: the levels' bits.
    """

    profile: ClassVar[int] = 2
    rules: ClassVar[tuple[str, ...]] = ("tiles", "interface")

    grid: tuple[int, int]
    interface: bytes
    present: NDArray[np.bool_]
    payload: bytes

    def __post_init__(self) -> None:
        """Raise FrameError unless every rule holds."""
        if len(self.grid) != 2 or not all(1 <= side <= 255 for side in self.grid):
            raise FrameError("tiles", f"rows and columns of tiles must be 1 to 255, not {self.grid}")
        if len(self.interface) != ID_BYTES:
            raise FrameError(
                "interface", f"an interface's identity has {ID_BYTES} bytes, not {len(self.interface)}"
            )
        if self.present.shape != (LEVELS,) or self.present.dtype != np.bool_:
            raise FrameError("tiles", f"presence must be ({LEVELS},) bool, not {self.present.shape}")
        check_values(self.values)
        self._check_payload()

    @classmethod
    def from_bits(
        cls, bits: NDArray[np.generic], grid: tuple[int, int], interface: Interface, present: ArrayLike = True
    ) -> Self:
        """Packs bits into a frame.

        Args:
            bits: (tiles, 64, 96) of 0 and 1, tiles in raster order; those of absent levels are not looked at.
            grid: rows and columns of tiles.
            interface: of the networks that made the bits.
            present: (16,) levels to send, or one truth for all.

        Raises:
            ValueError: `bits` has another shape, or something else than 0 and 1 in a level that is sent.
            FrameError: a rule of the format is broken.
        """
        if bits.shape != (grid[0] * grid[1], TOKENS, BITS):
            raise ValueError(f"bits must be ({grid[0] * grid[1]}, {TOKENS}, {BITS}), not {bits.shape}")
        sent = np.broadcast_to(np.asarray(present, bool), LEVELS).copy()
        levels = bits.reshape(len(bits), POSITIONS)[:, interface.levels()].swapaxes(0, 1)[sent]
        if not ((levels == 0) | (levels == 1)).all():
            raise ValueError("bits must be 0 or 1")
        return cls(grid, interface.id, sent, np.packbits(levels.astype(np.uint8)).tobytes())

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return self.grid[0] * self.grid[1]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the image."""
        return SIDE * self.grid[0], SIDE * self.grid[1], CHANNELS

    @property
    def segment_bits(self) -> NDArray[np.int64]:
        """(16,) bits of each level."""
        return np.where(self.present, LEVEL_BITS * self.tiles, 0)

    @property
    def importance(self) -> NDArray[np.float64]:
        """(16,) mean of 1 - 2ε of each level; of an unknown interface their order alone, 1 down to 1/16."""
        interface = known_interface(self.interface)
        if interface is None:
            return 1 - np.arange(LEVELS) / LEVELS
        return interface.level_importance()

    @property
    def bits(self) -> NDArray[np.float32]:
        """(tiles, 64, 96) bits as they arrived, 0 or 1, and 0.5 in levels that did not.

        Raises:
            FrameError: the interface is unknown here (reason "interface").
        """
        levels = np.full((LEVELS, self.tiles, LEVEL_BITS), ABSENT, np.float32)
        sent = np.unpackbits(np.frombuffer(self.payload, np.uint8))
        levels[self.present] = sent.reshape(-1, self.tiles, LEVEL_BITS)
        bits = np.empty((self.tiles, POSITIONS), np.float32)
        bits[:, self.known().levels()] = levels.swapaxes(0, 1)
        return bits.reshape(self.tiles, TOKENS, BITS)

    def with_bits(self, bits: NDArray[np.generic]) -> Self:
        """The frame with other bits in the levels that it has, such as a receiver's decisions.

        Args:
            bits: (tiles, 64, 96) of 0 and 1.

        Raises:
            FrameError: the interface is unknown here (reason "interface").
        """
        return type(self).from_bits(bits, self.grid, self.known(), self.present)

    def known(self) -> Interface:
        """The frame's interface.

        Raises:
            FrameError: it is unknown here (reason "interface").
        """
        interface = known_interface(self.interface)
        if interface is None:
            raise FrameError(
                "interface",
                f"interface {self.interface.hex()} is unknown here: both ends need the files of one training",
            )
        return interface

    def with_payload(self, payload: bytes) -> Self:
        """The frame with another payload of the same length."""
        return replace(self, payload=payload)

    def without(self, segments: ArrayLike) -> Self:
        """The frame as if some levels had not been sent."""
        kept = self._kept(segments)
        return self if kept.all() else replace(self, present=self.present & kept, payload=self._payload_of(kept))

    @property
    def fields(self) -> bytes:
        """Grid, interface and presence of the levels."""
        presence = int.from_bytes(np.packbits(self.present).tobytes())
        return _FIELDS.pack(*self.grid, self.interface, presence)

    @classmethod
    def fields_bytes(cls, header: memoryview) -> int:
        """Length of the fields, which is always the same."""
        if len(header) < _FIELDS.size:
            raise FrameError("truncated", f"{len(header)} bytes are too few for the fields of a frame header")
        return _FIELDS.size

    @classmethod
    def from_fields(cls, fields: bytes, payload: bytes) -> Self:
        """The frame of these header fields."""
        rows, columns, interface, presence = _FIELDS.unpack(fields)
        present = np.unpackbits(np.frombuffer(presence.to_bytes(2), np.uint8)).astype(bool)
        return cls((rows, columns), interface, present, payload)
