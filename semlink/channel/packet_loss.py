"""Packet loss (packet erasure channel): packets are lost independently, and the receiver knows which.

A segment arrives only if every packet that carries some of it does. The packets carry the payload; where a frame's
header is exposed too, the first ones carry it, and a frame whose header is lost can't be read at all.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

from semlink.channel.base import Arrival, Carried, Channel, register
from semlink.channel.fading import FadingState
from semlink.channel.plan import Plan
from semlink.parameters import Option


@register
@dataclass(frozen=True, kw_only=True)
class PacketLoss(Channel):
    """Packets of `packet_bytes` bytes are lost with probability `loss`, and with them the patches they carry."""

    name = "packet_loss"

    loss: Annotated[
        float, Interval(ge=0, le=1), Option("probability that a packet is lost", flag="packet_loss")
    ] = 0.01
    packet_bytes: Annotated[
        int, Interval(ge=1, le=65_535), Option("bytes of the payload in a packet; the last one has what is left")
    ] = 1200

    def is_quick(self, bits: int) -> bool:
        """There are fewer packets than bytes, and the time goes with their number."""
        return bits <= 8 * self.packet_bytes * 10_000

    def transmit(
        self,
        frame: Carried,
        plan: Plan | None,
        state: FadingState | None,
        generator: np.random.Generator,
    ) -> Arrival:
        """See `Channel.transmit`."""
        packets = -(-len(frame.payload) // self.packet_bytes)
        packet_is_lost = generator.random(packets) < self.loss
        return Arrival(
            np.empty(0, np.int64), lost_segments(frame.segment_bits, packet_is_lost, 8 * self.packet_bytes)
        )


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
