"""Blocks of subchannels: which subchannels a block has, its rate, its latency, and the worst-case latency T_d.

Segment i of a payload is carried by block i (IA-QSMPA, Section II). The paper gives every block N_s·F/N
subchannels; where that is no whole number, we go beyond it: the numbers of two blocks differ by one at most.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.channel.rates import finite_blocklength_rate

MAX_INTERVALS = 64
"""So many coherence times are followed one by one; what comes later goes on at their mean rate."""


@dataclass(frozen=True)
class Blocks:
    """What one OFDM symbol offers to N blocks of subchannels; all subchannels of a block have the same power.

    Raises:
        ValueError: a value is out of range.
    """

    gains: NDArray[np.float64]
    """(N, K) singular values λ, finite, above 0; zeros at the end fill up a block that has fewer than K."""
    noise_power: float
    """σ², above 0."""
    total_power: float
    """P_tot over all subchannels, above 0."""
    bandwidth: float | NDArray[np.float64]
    """Of one subchannel in Hz: Δf0, above 0; or (N,) of each block's."""
    values_per_segment: int = 768
    """D, values of each segment of the payload: payload bits that each of B[i] costs."""
    penalty: float | NDArray[np.float64] = 0.0
    """`dispersion_penalty` of the finite block length, ≥ 0, or (N,) of each block; 0: ideal transmission."""
    shares: NDArray[np.float64] | None = None
    """(N,) `weights`, where they are not those of the gains."""

    def __post_init__(self) -> None:
        """Refuses values out of range."""
        gains = np.asarray(self.gains, dtype=np.float64)
        if gains.ndim != 2 or gains.size == 0:
            raise ValueError(f"gains must have shape (N, K), not {gains.shape}")
        if not ((gains > 0) & np.isfinite(gains)).all():
            if not (np.isfinite(gains) & (gains >= 0)).all() or not gains[:, 0].all():
                raise ValueError("gains must be finite and above 0")
            if ((gains[:, 1:] > 0) & (gains[:, :-1] == 0)).any():
                raise ValueError("gains of 0 may stand at the end of a block only, where they fill it up")
        object.__setattr__(self, "gains", gains)
        for name in ("noise_power", "total_power", "values_per_segment"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be finite and above 0, not {getattr(self, name)}")
        bandwidth = np.asarray(self.bandwidth)
        if bandwidth.shape not in ((), (len(gains),)) or not ((bandwidth > 0) & np.isfinite(bandwidth)).all():
            raise ValueError(f"bandwidth must be finite and above 0, not {self.bandwidth}")
        penalty = np.asarray(self.penalty)
        if penalty.shape not in ((), (len(gains),)) or not ((penalty >= 0) & np.isfinite(penalty)).all():
            raise ValueError(f"penalty must be finite and at least 0, not {self.penalty}")

    @property
    def count(self) -> int:
        """N, called G in the paper."""
        return len(self.gains)

    @cached_property
    def widths(self) -> NDArray[np.int64]:
        """(N,) gains of each block, without those that fill it up."""
        widths: NDArray[np.int64] = (self.gains > 0).sum(axis=1)
        return widths

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """(N,) what P[i] counts in the budget: the block's subchannels over their mean; 1 where all have K."""
        return self.widths / self._mean_width if self.shares is None else self.shares

    @property
    def power_budget(self) -> float:
        """What Σ weights[i]·P[i] may come to: P_tot·G/(N_s·F) (IA-QSMPA, equation 20)."""
        return float(self.total_power / self._mean_width)

    @cached_property
    def mean_gains(self) -> NDArray[np.float64]:
        """(N,) λ[i], mean singular value of each block (equation 8)."""
        means: NDArray[np.float64] = self.gains.sum(axis=1) / self.widths
        return means

    def averaged(self) -> "Blocks":
        """The paper's approximation: each block as one wide subchannel of the mean gain (equations 8 and 11)."""
        return Blocks(
            self.mean_gains[:, None],
            self.noise_power,
            self.power_budget,
            self.bandwidth * (self.gains.shape[1] if self.gains.all() else self.widths.astype(np.float64)),
            self.values_per_segment,
            self.penalty,
            self.weights,
        )

    def only(self, chosen: NDArray[np.bool_]) -> "Blocks":
        """Some of the blocks, with the power budget of all."""
        gains, bandwidth, penalty = self.gains[chosen], np.asarray(self.bandwidth), np.asarray(self.penalty)
        return replace(
            self,
            gains=gains,
            # The budget is relative to the mean width, which is another one now.
            total_power=self.total_power * (np.count_nonzero(gains) / len(gains) / self._mean_width),
            bandwidth=bandwidth[chosen] if bandwidth.ndim else self.bandwidth,
            penalty=penalty[chosen] if penalty.ndim else self.penalty,
            shares=self.weights[chosen],
        )

    @property
    def penalty_column(self) -> float | NDArray[np.float64]:
        """The penalty, (N, 1) where each block has its own: as it goes with the gains."""
        return self.penalty[:, None] if isinstance(self.penalty, np.ndarray) else self.penalty

    @cached_property
    def _mean_width(self) -> float:
        return float(np.count_nonzero(self.gains) / len(self.gains))

    def rates(self, power: ArrayLike) -> NDArray[np.float64]:
        """(N,) bit/s of each block at powers P[i] ≥ 0 (N,): IA-QSMPA, equations 24 and 38."""
        snr = np.asarray(power, dtype=np.float64)[:, None] * self.gains**2 / self.noise_power
        rates: NDArray[np.float64] = self.bandwidth * finite_blocklength_rate(snr, self.penalty_column).sum(axis=1)
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
    """(N, ⌈N_s·F/N⌉) gains of the subchannels of each block; their mean is λ[i] of equation 8.

    Args:
        gains: (F, N_s) singular values.
        block_of_subchannel: (F, N_s) blocks, as of `semlink.access.mapping`; see `check_even`.
        count: number of blocks N.

    Returns:
        In ascending order of the subchannels; a block with fewer than others ends in a zero.

    Raises:
        ValueError: the blocks do not share the subchannels evenly.
    """
    gains = np.asarray(gains, dtype=np.float64)
    blocks = np.asarray(block_of_subchannel)
    if blocks.shape != gains.shape:
        raise ValueError(f"block_of_subchannel must have the shape of gains {gains.shape}, not {blocks.shape}")
    check_even(blocks, count)
    sorted_gains = gains.ravel()[np.argsort(blocks, axis=None, kind="stable")]
    if gains.size % count == 0:
        return sorted_gains.reshape(count, -1)
    widths = np.bincount(blocks.ravel(), minlength=count)
    of_blocks = np.zeros((count, widths.max()))
    of_blocks[np.arange(widths.max()) < widths[:, None]] = sorted_gains
    return of_blocks


def check_even(block_of_subchannel: NDArray[np.int64], count: int) -> None:
    """ValueError unless every block 0 to count - 1 has subchannels, and none has two more than another.

    Where the subchannels are a multiple of the blocks, all have the same number (IA-QSMPA, Section II).
    """
    blocks = np.asarray(block_of_subchannel).ravel()
    if not np.issubdtype(blocks.dtype, np.integer):
        raise ValueError("block_of_subchannel must be integers")
    if blocks.size == 0 or blocks.min() < 0 or blocks.max() >= count:
        raise ValueError(f"block_of_subchannel must be within [0, {count - 1}]")
    shares = np.bincount(blocks, minlength=count)
    if shares.min() == 0 or np.ptp(shares) > 1:
        least, rest = divmod(blocks.size, count)
        wanted = f"{least} or {least + 1}" if rest and least else f"{max(least, 1)}"
        raise ValueError(
            f"block_of_subchannel must give every block {wanted} subchannels: "
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
