"""Gilbert-Elliott channel: bit errors in bursts, by a Markov chain of two states (Gilbert 1960, Elliott 1963).

In a burst (the bad state) a bit arrives inverted with probability `burst_ber`, in the gaps between (the good state
of the chain) with probability `gap_ber`. After every bit a burst ends with probability r = 1/`burst_length`, and a
gap with probability p = r·π/(1 - π), where π = (μ - `gap_ber`)/(`burst_ber` - `gap_ber`) is the share of bits in
bursts: then the mean bit error rate is μ = `ber`. "Burst" and "gap" as in RFC 3611.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

from semlink.channel.base import Arrival, Carried, Erring, register
from semlink.channel.bsc import QUICK_FLIPS, flip_positions
from semlink.channel.over_bits import OverBits
from semlink.parameters import Notation, Option

_MODEL, _SHARE = "Gilbert (1960), Elliott (1963)", "π = (μ - μ_G)/(μ_B - μ_G)"


@register
@dataclass(frozen=True, kw_only=True)
class GilbertElliott(OverBits, Erring):
    """Bits arrive inverted in bursts: as many as over `bsc` at the same `ber`, but one beside the other."""

    name = "burst"

    burst_length: Annotated[
        float,
        Interval(ge=1, le=1e7),
        Option("mean length of a burst of errors, in bits"),
        Notation("L", "bit", f"r = 1/L, p = r π/(1 - π)\n{_SHARE}", f"{_MODEL}; a burst ends by r, begins by p"),
    ] = 100.0
    burst_ber: Annotated[
        float,
        Interval(gt=0, le=1),
        Option("probability that a bit in a burst arrives inverted"),
        Notation("μ_B", "", _SHARE, f"{_MODEL}; π: share of the bits in bursts"),
    ] = 0.5
    gap_ber: Annotated[
        float,
        Interval(ge=0, le=1),
        Option("probability that a bit between bursts arrives inverted"),
        Notation("μ_G", "", "μ = π μ_B + (1 - π) μ_G", f"{_MODEL}; π: share of the bits in bursts"),
    ] = 0.0

    def __post_init__(self) -> None:
        """Refuses a parameter out of its range, and those for which there is no such chain."""
        super().__post_init__()
        if not self.gap_ber <= self.ber <= self.burst_ber:
            raise ValueError(
                f"ber must be within gap_ber and burst_ber, {self.gap_ber} to {self.burst_ber}, not {self.ber}"
            )
        if self.burst_share > self.burst_length / (1 + self.burst_length):
            raise ValueError(
                f"ber must be lower or burst_ber higher: {self.burst_share:.3g} of all bits are in bursts, of "
                f"{self.burst_length:g} bits each, which leaves less than a bit between two bursts"
            )

    @property
    def burst_share(self) -> float:
        """Share π of the bits that are in bursts."""
        excess = self.ber - self.gap_ber
        return excess / (self.burst_ber - self.gap_ber) if excess else 0.0

    @property
    def own_ber(self) -> float:
        """μ: that of bursts and gaps together."""
        return self.ber

    def carries_quickly(self, bits: int) -> bool:
        """The time goes with the number of flips and of bursts."""
        return bits * (self.ber + self.burst_share / self.burst_length) <= QUICK_FLIPS

    def carry(self, frame: Carried, generator: np.random.Generator) -> Arrival:
        """See `OverBits.carry`: errors of the bursts and of the gaps."""
        edges = burst_edges(frame.payload_bits, self.burst_share, self.burst_length, generator)
        flips = [
            _flips_within(edges[begin:], error_rate, generator)
            for begin, error_rate in ((0, self.gap_ber), (1, self.burst_ber))
            if error_rate
        ]
        return Arrival(np.sort(np.concatenate(flips)))


def burst_edges(bits: int, share: float, burst_length: float, generator: np.random.Generator) -> NDArray[np.int64]:
    """Where gaps and bursts begin, by drawing how long each lasts: the cost follows their number, not `bits`.

    Both last for geometric numbers of bits, a burst for L = `burst_length` in the mean, a gap for L(1 - π)/π. The
    chain is stationary: the first bit is in a burst with probability π.

    Args:
        bits: how many there are, ≥ 0.
        share: π of the bits in bursts, in [0, L/(1 + L)].
        burst_length: mean length L of a burst in bits, ≥ 1.
        generator: the source of all randomness.

    Returns:
        (2K + 1,) 0 = e_0 ≤ e_1 ≤ … = `bits`: bits e_0 to e_1 - 1 are a gap, possibly empty, those from e_1 to
        e_2 - 1 a burst, and so on.
    """
    if share == 0 or bits == 0:
        return np.array([0, bits, bits])
    begins_in_burst = generator.random() < share
    end_of_gap = min(1.0, max(share / (1 - share) / burst_length, 1e-300))  # no less, so that NumPy takes it
    ends = np.array([end_of_gap, 1 / burst_length])
    if begins_in_burst:
        ends = ends[::-1]
    cycles = 16 + int(1.1 * bits * share / burst_length)  # nearly always enough
    lengths: list[NDArray[np.int64]] = [np.zeros(1 + begins_in_burst, np.int64)]
    drawn = 0
    while drawn < bits:
        lasting = np.minimum(generator.geometric(ends, (cycles, 2)), bits).ravel()
        drawn += int(lasting.sum())
        lengths.append(lasting)
    edges = np.minimum(np.cumsum(np.concatenate(lengths)), bits)
    return edges if edges.size % 2 else np.append(edges, bits)


def _flips_within(
    edges: NDArray[np.int64], error_rate: float, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Positions that err, independently, in every second interval between edges, from the first on."""
    begins, ends = edges[:-1:2], edges[1::2]
    sizes = ends - begins
    before = np.cumsum(sizes)
    flips = flip_positions(int(before[-1]), error_rate, generator)
    interval = np.searchsorted(before, flips, side="right")
    positions: NDArray[np.int64] = begins[interval] + flips - (before - sizes)[interval]
    return positions
