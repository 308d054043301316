"""Packet loss (packet erasure channel): packets are lost independently, and the receiver knows which.

A segment arrives only if every packet that carries some of it does. The packets carry the payload; where a frame's
header is exposed too, the first ones carry it, and a frame whose header is lost can't be read at all.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Interval

from semlink.channel.base import Arrival, Carried, register
from semlink.channel.over_bits import OverBits
from semlink.channel.segments import lost_segments
from semlink.parameters import Notation, Option


@register
@dataclass(frozen=True, kw_only=True)
class PacketLoss(OverBits):
    """Packets of `packet_bytes` bytes are lost with probability `loss`, and with them the patches they carry."""

    name = "packet_loss"
    interleaves: ClassVar[bool] = False

    loss: Annotated[
        float,
        Interval(ge=0, le=1),
        Option("probability that a packet is lost", flag="packet_loss"),
        Notation("p", "", 'P("a segment arrives") = (1 - p)^n', "n: packets that carry some of the segment"),
    ] = 0.01
    packet_bytes: Annotated[
        int,
        Interval(ge=1, le=65_535),
        Option("bytes of the payload in a packet; the last one has what is left"),
        Notation("L", "byte", '"packets" = ⌈B/(8 L)⌉', "B: bits of the payload"),
    ] = 1200

    @property
    def own_ber(self) -> float:
        """Nothing errs in what arrives; against packets that are lost as a whole no code of a block helps."""
        return 0.0

    def carries_quickly(self, bits: int) -> bool:
        """There are fewer packets than bytes, and the time goes with their number."""
        return bits <= 8 * self.packet_bytes * 10_000

    def carry(self, frame: Carried, generator: np.random.Generator) -> Arrival:
        """See `OverBits.carry`."""
        packets = -(-len(frame.payload) // self.packet_bytes)
        packet_is_lost = generator.random(packets) < self.loss
        return Arrival(
            np.empty(0, np.int64), lost_segments(frame.segment_bits, packet_is_lost, 8 * self.packet_bytes)
        )
