"""No impairment: the channel that damages nothing, which one compares the others with."""

from dataclasses import dataclass

import numpy as np

from semlink.channel.base import Arrival, Carried, register
from semlink.channel.over_bits import OverBits


@register
@dataclass(frozen=True, kw_only=True)
class NoImpairment(OverBits):
    """Every bit arrives as it was sent."""

    name = "none"

    @property
    def own_ber(self) -> float:
        """Nothing errs."""
        return 0.0

    def carries_quickly(self, bits: int) -> bool:
        """There is nothing to do."""
        return True

    def carry(self, frame: Carried, generator: np.random.Generator) -> Arrival:
        """See `OverBits.carry`."""
        return Arrival(np.empty(0, np.int64))
