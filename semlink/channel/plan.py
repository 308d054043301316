"""Transmission plan of one frame: the bits, subchannels and power of every block, and the rules that a plan keeps.

`semlink.access.planner` makes plans; a channel is given one as an argument of its transmission.
To construct a `Plan` is to check it.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from semlink.channel.blocks import check_even
from semlink.channel.ofdm import Numerology

MIN_BITS, MAX_BITS = 1, 8
"""B_min and B_max (IA-QSMPA, Section V)."""
EXCESS = 1e-9
"""Relative excess of power that rounding may cause."""
PLAN_RULES = ("sizes", "bits", "budget", "mapping", "power", "latency")
"""Rules of a plan, which a `PlanError` names."""


class PlanError(ValueError):
    """A plan that breaks a rule. `rule` is one of `PLAN_RULES`, and the message begins with it."""

    def __init__(self, rule: str, message: str) -> None:
        """`message`: how the rule is broken."""
        super().__init__(f"{rule}: {message}")
        self.rule = rule


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """How a frame is sent: block i of the subchannels carries segment i of the payload (IA-QSMPA, Section II).

    All segments have the same number of values, and all blocks the same number of subchannels; where these are no
    multiple of the blocks, some have one more than others.

    Raises:
        PlanError: the plan breaks a rule.
    """

    numerology: Numerology
    """Dimensions of the link."""
    rho: float
    """Compression ratio that the bits keep to, ΣB[i] ≤ 8·N·ρ, from 1/8 to 1."""
    bits: NDArray[np.int64]
    """(N,) B[i] of every value of segment i, 1..8."""
    block_of_subchannel: NDArray[np.int64]
    """(F, N_s) the block that each subchannel belongs to, each block N_s·F/N times, rounded down or up."""
    power: NDArray[np.float64]
    """(N,) P[i] ≥ 0 of every subchannel of block i; over all subchannels they add up to no more than P_tot."""
    values_per_segment: int = 768
    """D, values of each segment of the payload."""

    def __post_init__(self) -> None:
        """Refuses a plan that breaks a rule."""
        count = np.size(self.bits)
        for name in ("bits", "power"):
            if np.shape(values := getattr(self, name)) != (count,) or count == 0:
                raise PlanError("sizes", f"{name} must be one per block, not {np.shape(values)}")
        shape = (self.numerology.subcarriers, self.numerology.streams)
        if np.shape(self.block_of_subchannel) != shape:
            raise PlanError(
                "sizes", f"block_of_subchannel must have shape {shape}, not {np.shape(self.block_of_subchannel)}"
            )
        if not MIN_BITS / 8 <= self.rho <= 1:
            raise PlanError("budget", f"rho must be within [{MIN_BITS / 8}, 1], not {self.rho}")
        if not np.issubdtype(self.bits.dtype, np.integer):
            raise PlanError("bits", "they must be integers")
        if self.bits.min() < MIN_BITS or self.bits.max() > MAX_BITS:
            raise PlanError(
                "bits", f"they must be within [{MIN_BITS}, {MAX_BITS}], not {self.bits.min()} to {self.bits.max()}"
            )
        if (total := self.bits.sum(dtype=np.int64)) > (allowed := bit_budget(self.rho, count)):
            raise PlanError("budget", f"the bits add up to {total}, ρ = {self.rho} allows {allowed}")
        try:
            check_even(self.block_of_subchannel, count)
        except ValueError as error:
            raise PlanError("mapping", str(error)) from None
        if not ((self.power >= 0) & np.isfinite(self.power)).all():
            raise PlanError("power", "it must be finite and at least 0")
        spent = self.power_of_subchannel.sum()
        if spent > self.numerology.total_power * (1 + EXCESS):
            raise PlanError("power", f"it adds up to {spent:.9g}, P_tot is {self.numerology.total_power:.9g}")

    @property
    def load(self) -> NDArray[np.int64]:
        """(N,) payload bits of each block, D·B[i], in the order in which the payload has them."""
        return self.bits * self.values_per_segment

    @cached_property
    def power_of_subchannel(self) -> NDArray[np.float64]:
        """(F, N_s) power of each subchannel (equation 10)."""
        return self.power[self.block_of_subchannel]

    @property
    def block_length(self) -> int:
        """L_c = ⌊N_s·F/N⌋·T, the most symbols that a block sends within the coherence time (Section IV).

        Of the blocks with the fewest subchannels: with more, the block error rate is lower still.
        """
        return self.numerology.subchannels // self.bits.size * self.numerology.coherence_symbols


def bit_budget(rho: float, count: int) -> int:
    """ΣB[i] that ρ pays for: floor(8·N·ρ) (IA-QSMPA, Section V, definition of ρ).

    >>> bit_budget(0.25, 196)
    392
    """
    # The lift is for ratios of whole steps, as in `semlink.source.iaq.coder`.
    return int(8 * count * rho + 1e-6)
