"""Transmission plan of one frame: the subchannels and power of every block, and the rules that a plan keeps.

`semlink.access.planner` makes plans that choose a frame's bits too, `semlink.access.load_planner` those of frames
as they are; a channel is given one as an argument of its transmission. To construct a `Plan` is to check it.
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
MOST_BLOCKS_BY_METHOD = 1024
"""Blocks of a plan, at most, that an emulator makes itself by the method's name; a codec's frame has no more."""
PLAN_RULES = ("sizes", "bits", "budget", "mapping", "power", "latency", "error_rates")
"""Rules of a plan, which a `PlanError` names."""


class PlanError(ValueError):
    """A plan that breaks a rule. `rule` is one of `PLAN_RULES`, and the message begins with it."""

    def __init__(self, rule: str, message: str) -> None:
        """`message`: how the rule is broken."""
        super().__init__(f"{rule}: {message}")
        self.rule = rule


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """How a frame is sent: block i of the subchannels carries a segment of the payload (IA-QSMPA, Section II).

    The blocks carry the segments that have bits, in their order; an empty one needs no block. All blocks have the
    same number of subchannels; where these are no multiple of the blocks, some have one more than others.

    Raises:
        PlanError: the plan breaks a rule.
    """

    numerology: Numerology
    """Dimensions of the link."""
    load: NDArray[np.int64]
    """(N,) payload bits of each block, above 0."""
    block_of_subchannel: NDArray[np.int64]
    """(F, N_s) the block that each subchannel belongs to, each block N_s·F/N times, rounded down or up."""
    power: NDArray[np.float64]
    """(N,) P[i] ≥ 0 of every subchannel of block i; over all subchannels they add up to no more than P_tot."""
    error_rates: NDArray[np.float64] | None = None
    """(N,) block error rate of each block at a finite block length, in (0, 1/2]; None: the channel's, for all."""

    def __post_init__(self) -> None:
        """Refuses a plan that breaks a rule."""
        count = np.size(self.load)
        for name in ("load", "power", *(("error_rates",) if self.error_rates is not None else ())):
            if np.shape(values := getattr(self, name)) != (count,) or count == 0:
                raise PlanError("sizes", f"{name} must be one per block, not {np.shape(values)}")
        shape = (self.numerology.subcarriers, self.numerology.streams)
        if np.shape(self.block_of_subchannel) != shape:
            raise PlanError(
                "sizes", f"block_of_subchannel must have shape {shape}, not {np.shape(self.block_of_subchannel)}"
            )
        if not np.issubdtype(self.load.dtype, np.integer) or self.load.min() <= 0:
            raise PlanError("bits", "every block must have some, a whole number")
        try:
            check_even(self.block_of_subchannel, count)
        except ValueError as error:
            raise PlanError("mapping", str(error)) from None
        if not ((self.power >= 0) & np.isfinite(self.power)).all():
            raise PlanError("power", "it must be finite and at least 0")
        spent = self.power_of_subchannel.sum()
        if spent > self.numerology.total_power * (1 + EXCESS):
            raise PlanError("power", f"it adds up to {spent:.9g}, P_tot is {self.numerology.total_power:.9g}")
        rates = self.error_rates
        if rates is not None and not ((rates > 0) & (rates <= 0.5)).all():
            raise PlanError("error_rates", "they must be within (0, 0.5]")

    @cached_property
    def power_of_subchannel(self) -> NDArray[np.float64]:
        """(F, N_s) power of each subchannel (equation 10)."""
        return self.power[self.block_of_subchannel]

    @property
    def block_length(self) -> int:
        """L_c = ⌊N_s·F/N⌋·T, the most symbols that a block sends within the coherence time (Section IV).

        Of the blocks with the fewest subchannels: with more, the block error rate is lower still.
        """
        return self.numerology.subchannels // self.load.size * self.numerology.coherence_symbols


def check_bits(bits: NDArray[np.int64], rho: float) -> None:
    """PlanError unless bits (N,) of the values of each segment keep to IA-QSMPA's bounds and budget.

    Args:
        bits: B[i], integers; within 1..8 all is well.
        rho: compression ratio, from 1/8 to 1, that ΣB[i] ≤ 8·N·ρ keeps to.
    """
    if not MIN_BITS / 8 <= rho <= 1:
        raise PlanError("budget", f"rho must be within [{MIN_BITS / 8}, 1], not {rho}")
    if not np.issubdtype(bits.dtype, np.integer):
        raise PlanError("bits", "they must be integers")
    if bits.min() < MIN_BITS or bits.max() > MAX_BITS:
        raise PlanError("bits", f"they must be within [{MIN_BITS}, {MAX_BITS}], not {bits.min()} to {bits.max()}")
    if (total := bits.sum(dtype=np.int64)) > (allowed := bit_budget(rho, bits.size)):
        raise PlanError("budget", f"the bits add up to {total}, ρ = {rho} allows {allowed}")


def bit_budget(rho: float, count: int) -> int:
    """ΣB[i] that ρ pays for: floor(8·N·ρ) (IA-QSMPA, Section V, definition of ρ).

    >>> bit_budget(0.25, 196)
    392
    """
    # The lift is for ratios of whole steps, as in `semlink.source.iaq.coder`.
    return int(8 * count * rho + 1e-6)
