"""Segments of a frame on the air: the header as one of them, and those that a lost packet or block takes along."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from semlink.channel.base import Arrival
    from semlink.frame import Frame


@dataclass(frozen=True, eq=False)
class WholeFrame:
    """A frame whose header is exposed as well, as segment 0 before those of the payload: `Carried`.

    Where the header is lost, zeros arrive in its place: nobody can read such a frame.
    """

    frame: "Frame"

    @property
    def payload(self) -> bytes:
        """All bytes of the frame."""
        return self.frame.to_bytes()

    @property
    def payload_bits(self) -> int:
        """Bits of header and payload."""
        return self.frame.header_bits + self.frame.payload_bits

    @property
    def segment_bits(self) -> NDArray[np.int64]:
        """(1 + N,) bits of the header, and of each segment of the payload."""
        return np.concatenate([[self.frame.header_bits], self.frame.segment_bits])

    @property
    def values(self) -> int:
        """Values of the image."""
        return self.frame.values

    @property
    def importance(self) -> NDArray[np.float64]:
        """(1 + N,) the header before everything, without which nothing else can be read."""
        return np.concatenate([[1.0], self.frame.importance])

    def is_lost(self, arrival: "Arrival") -> bool:
        """Whether nothing can be made of what arrives: the header is lost, or nothing of a payload is left.

        Without its first segments a picture may have none left, though others arrived: see `Frame.without`.
        """
        missing = arrival.missing
        if not missing.size:
            return False
        if missing[0] == 0:
            return True
        return self._is_nothing(self.frame.without(missing - 1))

    def arrived(self, arrival: "Arrival") -> "Frame | None":
        """The frame as it arrives, as if what is missing had not been sent; None: it is lost, see `is_lost`.

        The header's CRC-32 is not looked at: flips within it are the caller's to see, in `Arrival.received`.
        """
        missing = arrival.missing
        if missing.size and missing[0] == 0:
            return None
        payload = arrival.received(self)[self.frame.header_bits // 8 :]
        found = self.frame.with_payload(payload).without(missing - 1)
        return None if self._is_nothing(found) else found

    def _is_nothing(self, left: "Frame") -> bool:
        return self.frame.payload_bits > 0 and not left.payload_bits


def lost_segments(
    segment_bits: NDArray[np.int64], packet_is_lost: NDArray[np.bool_], packet_bits: int
) -> NDArray[np.int64]:
    """Segments of which a lost packet carries at least a bit, ascending.

    Three segments of 6, 0 and 10 bits in two packets; the second packet carries the end of the last segment:

    >>> lost_segments(np.array([6, 0, 10]), np.array([False, True]), 8)
    array([2])

    Args:
        segment_bits: (N,) bits of each segment, one behind the other.
        packet_is_lost: (K,) for each packet, K·`packet_bits` ≥ the sum of `segment_bits`.
        packet_bits: bits in a packet, ≥ 1.
    """
    lost_before = np.concatenate([[0], np.cumsum(packet_is_lost)])
    end = np.cumsum(segment_bits)
    first, behind = (end - segment_bits) // packet_bits, -(-end // packet_bits)
    lost = (
        lost_before[np.minimum(behind, packet_is_lost.size)] > lost_before[np.minimum(first, packet_is_lost.size)]
    )
    return np.flatnonzero(lost & (segment_bits > 0))
