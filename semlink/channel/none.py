"""No impairment: the channel that damages nothing, which one compares the others with."""

from dataclasses import dataclass

import numpy as np

from semlink.channel.base import Arrival, Carried, Channel, register
from semlink.channel.fading import FadingState
from semlink.channel.plan import Plan


@register
@dataclass(frozen=True, kw_only=True)
class NoImpairment(Channel):
    """Every bit arrives as it was sent."""

    name = "none"

    def is_quick(self, bits: int) -> bool:
        """There is nothing to do."""
        return True

    def transmit(
        self,
        frame: Carried,
        plan: Plan | None,
        state: FadingState | None,
        generator: np.random.Generator,
    ) -> Arrival:
        """See `Channel.transmit`."""
        return Arrival(np.empty(0, np.int64))
