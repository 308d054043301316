"""Blocks of subchannels: which subchannels a block has, its rate, its latency, and the worst-case latency T_d.

Segment i of a payload is carried by block i (IA-QSMPA, Section II).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.channel.rates import finite_blocklength_rate

MAX_INTERVALS = 64
"""So many coherence times are followed one by one; what comes later goes on at their mean rate."""


@dataclass(frozen=True)
class Blocks:
    """What one OFDM symbol offers to N blocks of K subchannels each; all subchannels of a block share its power.

    Raises:
        ValueError: a value is out of range.
    """

    gains: NDArray[np.float64]
    """(N, K) singular values λ, finite, above 0."""
    noise_power: float
    """σ², above 0."""
    total_power: float
    """P_tot over all N·K subchannels, above 0."""
    bandwidth: float
    """Of one subchannel in Hz: Δf0, above 0."""
    values_per_segment: int = 768
    """D, values of each segment of the payload: payload bits that each of B[i] costs."""
    penalty: float = 0.0
    """`dispersion_penalty` of the finite block length, ≥ 0; 0 for the ideal transmission."""

    def __post_init__(self) -> None:
        """Refuses values out of range."""
        gains = np.asarray(self.gains, dtype=np.float64)
        if gains.ndim != 2 or gains.size == 0:
            raise ValueError(f"gains must have shape (N, K), not {gains.shape}")
        if not ((gains > 0) & np.isfinite(gains)).all():
            raise ValueError("gains must be finite and above 0")
        object.__setattr__(self, "gains", gains)
        for name in ("noise_power", "total_power", "bandwidth", "values_per_segment"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be finite and above 0, not {getattr(self, name)}")
        if not 0 <= self.penalty < np.inf:
            raise ValueError(f"penalty must be finite and at least 0, not {self.penalty}")

    @property
    def count(self) -> int:
        """N, called G in the paper."""
        return len(self.gains)

    @property
    def power_budget(self) -> float:
        """What the powers P[i] of the blocks may add up to: P_tot·G/(N_s·F) (IA-QSMPA, equation 20)."""
        return float(self.total_power / self.gains.shape[1])

    def averaged(self) -> "Blocks":
        """The paper's approximation: each block as one wide subchannel of the mean gain (equations 8 and 11)."""
        subchannels = self.gains.shape[1]
        return Blocks(
            self.gains.mean(axis=1, keepdims=True),
            self.noise_power,
            self.power_budget,
            self.bandwidth * subchannels,
            self.values_per_segment,
            self.penalty,
        )

    def rates(self, power: ArrayLike) -> NDArray[np.float64]:
        """(N,) bit/s of each block at powers P[i] ≥ 0 (N,): IA-QSMPA, equations 24 and 38."""
        snr = np.asarray(power, dtype=np.float64)[:, None] * self.gains**2 / self.noise_power
        rates: NDArray[np.float64] = self.bandwidth * finite_blocklength_rate(snr, self.penalty).sum(axis=1)
        return rates

    def latencies(self, bits: ArrayLike, power: ArrayLike) -> NDArray[np.float64]:
        """(N,) seconds that each block takes, D·B[i]/R[i]; the largest is T_d (IA-QSMPA, equations 24 and 25).

        Infinite for a block that has bits and no rate, 0 for one without bits.

        Args:
            bits: (N,) quantization bits B[i], ≥ 0.
            power: (N,) power P[i] of each subchannel of block i, ≥ 0.
        """
        load = self.values_per_segment * np.asarray(bits, dtype=np.float64)
        rates = self.rates(power)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(load == 0, 0.0, load / rates)


def gains_of_blocks(gains: ArrayLike, block_of_subchannel: ArrayLike, count: int) -> NDArray[np.float64]:
    """(N, N_s·F/N) gains of the subchannels of each block; their mean is λ[i] of equation 8.

    Args:
        gains: (F, N_s) singular values.
        block_of_subchannel: (F, N_s) blocks, each the same number of times, as of `semlink.access.mapping`.
        count: number of blocks N.

    Raises:
        ValueError: the blocks do not share the subchannels evenly.
    """
    gains = np.asarray(gains, dtype=np.float64)
    blocks = np.asarray(block_of_subchannel)
    if blocks.shape != gains.shape:
        raise ValueError(f"block_of_subchannel must have the shape of gains {gains.shape}, not {blocks.shape}")
    check_even(blocks, count)
    return gains.ravel()[np.argsort(blocks, axis=None, kind="stable")].reshape(count, -1)


def check_even(block_of_subchannel: NDArray[np.int64], count: int) -> None:
    """ValueError unless every block 0 to count - 1 has the same number of subchannels (IA-QSMPA, Section II)."""
    blocks = np.asarray(block_of_subchannel).ravel()
    if not np.issubdtype(blocks.dtype, np.integer):
        raise ValueError("block_of_subchannel must be integers")
    if blocks.size == 0 or blocks.min() < 0 or blocks.max() >= count:
        raise ValueError(f"block_of_subchannel must be within [0, {count - 1}]")
    shares = np.bincount(blocks, minlength=count)
    if (shares != shares[0]).any():
        raise ValueError(
            f"block_of_subchannel must give every block {blocks.size / count:g} subchannels: "
            f"block {int(np.argmin(shares))} has {shares.min()}, block {int(np.argmax(shares))} has {shares.max()}"
        )


def latencies_over_intervals(
    load: ArrayLike, rates: Callable[[int], NDArray[np.float64]], interval: float
) -> NDArray[np.float64]:
    """Seconds that each block takes when its rate changes every coherence time.

    Args:
        load: (N,) bits of each block, ≥ 0.
        rates: number of the coherence time, from 0 -> (N,) bit/s, ≥ 0. Called for one after the other, at most
            `MAX_INTERVALS` of them; the blocks that are not done then go on at the mean of these rates, without
            the first, which alone has the channel that the plan was made for.
        interval: the coherence time in seconds, above 0.

    Returns:
        (N,), 0 for a block without bits, infinite for one that gets nothing through.
    """
    remaining = np.array(load, dtype=np.float64)
    seconds = np.zeros(remaining.shape)
    later = np.zeros(remaining.shape)
    for number in range(MAX_INTERVALS):
        open_ = remaining > 0
        if not open_.any():
            return seconds
        rate = rates(number)
        later += rate if number else 0
        done = open_ & (remaining <= rate * interval)
        seconds[done] += remaining[done] / rate[done]
        seconds[open_ & ~done] += interval
        remaining = np.where(done, 0, remaining - rate * interval * open_)
    with np.errstate(divide="ignore"):
        return np.where(remaining > 0, seconds + remaining / (later / (MAX_INTERVALS - 1)), seconds)
