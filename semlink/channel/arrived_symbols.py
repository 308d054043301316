"""Constellation of a frame as it arrived: equalised symbols, and which of them a decision gets wrong."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semlink.channel.qam import bits_per_symbol, demodulate_hard


def spread(most: int, total: int) -> NDArray[np.intp]:
    """(n,) places of at most so many of a frame's symbols, ascending, from the first on evenly spread.

    >>> spread(4, 10)
    array([0, 2, 5, 7])
    """
    count = min(most, total)
    return np.arange(count) * total // max(count, 1)


@dataclass(frozen=True, eq=False)
class ArrivedSymbols:
    """Symbols of one frame, held as the receiver has them anyway: nothing is computed until somebody looks."""

    order: int
    """Number of points of their QAM; 0: they are of no grid, such as those of networks."""
    arrived: NDArray[np.complex128]
    """(Q,) equalised, in the order in which they were sent; they were sent with unit mean energy."""
    sent: Callable[[], NDArray[np.complex128]]
    """(Q,) as they were sent."""

    def wrong(self, places: NDArray[np.intp]) -> NDArray[np.bool_]:
        """(n,) which of the symbols there are nearest to another point than was sent; of no grid, none."""
        if not self.order:
            return np.zeros(places.size, bool)
        pairs = (self.arrived[places], self.sent()[places])
        decided, meant = (demodulate_hard(each, self.order) for each in pairs)
        wrong: NDArray[np.bool_] = (decided != meant).reshape(places.size, bits_per_symbol(self.order)).any(axis=1)
        return wrong
