"""IA-QSMPA as printed: Theorem 1 for the ideal transmission, Top-β bits, Theorem 2 for a finite block length.

Park, Oh, Park, Jeon, Importance-Aware Semantic Communication in MIMO-OFDM Systems Using Vision Transformer,
arXiv 2508.07696, Sections III and IV.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.access.power import Finish, equal_finish
from semlink.channel.blocks import Blocks
from semlink.checks import finite_vector, integer_within
from semlink.source.iaq.allocation.arguments import checked_problem
from semlink.source.iaq.allocation.selection import top_k
from semlink.source.iaq.allocation.water_filling import round_to_budget


class Descent(NamedTuple):
    """The relaxed solution after the last round of the block coordinate descent."""

    bits: NDArray[np.float64]
    """(N,) B[i], real."""
    power: NDArray[np.float64]
    """(N,) P[i]."""
    latency: float
    """y in seconds, by the mean gain of each block (equation 11)."""


def theorem_1(
    weights: ArrayLike,
    steps: int,
    blocks: Blocks,
    *,
    rounds: int = 5,
    min_bits: int = 1,
    max_bits: int = 8,
) -> Descent:
    """Block coordinate descent over bits and power: IA-QSMPA, Theorem 1, equations 15 to 21.

    It starts, as the paper leaves open, with equal powers and y = ∞, so that the first round allocates the bits of
    IAQ. Then (20) makes every latency constraint tight, so that the caps (16) of the next round are the bits just
    found, which add up to the budget: the descent cannot move after the first round. `semlink.access.exact`
    has the optimum that it misses.

    Args:
        weights: (N,) importance weights I[i] ≥ 0.
        steps: Σ B[i], from N·min_bits to N·max_bits.
        blocks: the subchannels; their penalty plays no part.
        rounds: K, at least 1.
        min_bits: B_min, ≥ 1.
        max_bits: B_max.

    Raises:
        ValueError: an argument is outside these ranges.
    """
    weights, steps = checked_problem(weights, steps, 0.0, min_bits, max_bits)
    rounds = integer_within("rounds", rounds, 1, 2**31)
    mean = replace(blocks.averaged(), penalty=0.0)
    caps = np.full(weights.size, float(max_bits))
    for _ in range(rounds):
        bits = capped_bits(weights, steps, caps, min_bits)
        power, latency = equal_finish(bits, mean)
        caps = np.minimum(latency * mean.rates(power) / mean.values_per_segment, max_bits)
    return Descent(bits, power, latency)


def ia_qsmpa_bits(
    weights: ArrayLike,
    steps: int,
    blocks: Blocks,
    *,
    rounds: int = 5,
    min_bits: int = 1,
    max_bits: int = 8,
) -> NDArray[np.int64]:
    """(N,) integer bits of IA-QSMPA: Theorem 1, rounded, clipped and refined to meet the budget (Section III-B).

    The paper's last step adds or takes a bit in the order of attention; like it, ties go to the lower index.

    Args:
        weights: (N,) importance weights I[i] ≥ 0.
        steps: Σ B[i], from N·min_bits to N·max_bits.
        blocks: the subchannels.
        rounds: K, at least 1.
        min_bits: B_min, ≥ 1.
        max_bits: B_max.
    """
    real = theorem_1(weights, steps, blocks, rounds=rounds, min_bits=min_bits, max_bits=max_bits).bits
    return round_to_budget(real, np.asarray(weights, dtype=np.float64), steps, min_bits, max_bits)


def top_beta(importance: ArrayLike, steps: int, *, min_bits: int = 1, max_bits: int = 8) -> NDArray[np.int64]:
    """(N,) B_max bits for the segments of highest importance, B_min for the others (IA-QSMPA, equation 42).

    As many segments get B_max as the budget pays for; what is left over stays unspent.

    Args:
        importance: (N,) importance of each segment: only its order matters.
        steps: Σ B[i], from N·min_bits to N·max_bits.
        min_bits: B_min, ≥ 0.
        max_bits: B_max, above B_min.

    >>> top_beta([0.3, 0.1, 0.9, 0.2], 4 + 14)
    array([8, 1, 8, 1])
    """
    importance = finite_vector("importance", importance)
    min_bits = integer_within("min_bits", min_bits, 0, max_bits - 1)
    steps = integer_within("steps", steps, importance.size * min_bits, importance.size * max_bits)
    return min_bits + top_k(importance, steps - importance.size * min_bits, max_bits=max_bits - min_bits)


def capped_bits(
    weights: NDArray[np.float64], steps: int, caps: NDArray[np.float64], min_bits: int
) -> NDArray[np.float64]:
    """(N,) real bits that minimise Σ I[i]·4^-B[i] within [min_bits, caps]: IA-QSMPA, equations 15, 17 and 19.

    All caps, where they add up to no more than the budget.

    Args:
        weights: (N,) I[i] ≥ 0.
        steps: Σ B[i].
        caps: (N,) largest bits, ≥ min_bits.
        min_bits: B_min.
    """
    if caps.sum() <= steps:
        return caps
    with np.errstate(divide="ignore"):
        half_logs = np.log2(weights) / 2
    # A weight of 0 is the limit of ever smaller ones: that segment is the last to get a bit.
    lowest = np.min(half_logs, where=weights > 0, initial=0) - np.ptp(caps) - caps.max()
    half_logs = np.maximum(half_logs, lowest)
    # B̂[i] is half_logs[i] + level, and the level stands for ν*. A segment's bits rise between two levels, so
    # their sum is piecewise linear: it is followed from corner to corner.
    levels = np.concatenate([min_bits - half_logs, caps - half_logs])
    order = np.argsort(levels)
    levels = levels[order]
    rising = np.cumsum(np.where(order < weights.size, 1, -1))
    sums = weights.size * min_bits + np.concatenate([[0], np.cumsum(rising[:-1] * np.diff(levels))])
    corner = np.searchsorted(sums, steps, side="right") - 1
    level = levels[corner] + (steps - sums[corner]) / max(rising[corner], 1)
    bits: NDArray[np.float64] = np.clip(half_logs + level, min_bits, caps)
    return bits


def theorem_2_power(bits: ArrayLike, blocks: Blocks) -> Finish:
    """Powers P[i] for given bits by the linearised rate (31): IA-QSMPA, Theorem 2 (36)-(37) and equation 40.

    The latency constraint (51b) of block i, with its case chosen by the SNR γ⁽⁰⁾ under equal powers, reads
    γ[i] = c_i + a_i/y, where a_i = D·B[i]·ln 2/(α·Δf) and c_i = (1 - α)/α below γ⁽⁰⁾ = 1, else
    a_i = D·B[i]·ln 2/Δf and c_i = 2(1 - α). With s_i = σ²/λ²[i] the power budget S gives the one y they share,
    y = Σ s_i·a_i/(S - Σ s_i·c_i); where the denominator is not positive no y meets the budget, and the latency is
    infinite.

    Two deviations from the print. (37) as printed gives two values of y when blocks lie on both sides of γ = 1.
    And the theorem does not iterate: y belongs to the linearised rate while the caps (26) use the true one, so
    that in a second round they add up to less than the bits to place; only the first round is run.

    Args:
        bits: (N,) B[i], > 0.
        blocks: the subchannels, with the penalty 2(1 - α) < 2.

    Returns:
        The powers, and the y in seconds that the linearised rate of the blocks' mean gains promises.

    Raises:
        ValueError: bits are not N numbers above 0, or the penalty is 2 or more.
    """
    bits = finite_vector("bits", bits)
    if bits.size != blocks.count or (bits <= 0).any():
        raise ValueError(f"bits must be {blocks.count} numbers above 0")
    alpha = 1 - blocks.penalty / 2
    if np.any(alpha <= 0):
        raise ValueError(
            f"the blocks are too short for Theorem 2, whose linear rate rises only for a penalty below 2, not "
            f"{np.max(blocks.penalty):.3g}: take fewer blocks, or plan `exact`"
        )
    mean = blocks.averaged()
    inverse_gain = mean.noise_power / mean.gains[:, 0] ** 2
    counted = blocks.weights * inverse_gain
    low = blocks.power_budget / blocks.count / inverse_gain < 1
    per_second = mean.values_per_segment * bits * np.log(2) / mean.bandwidth / np.where(low, alpha, 1)
    constant = np.where(low, (1 - alpha) / alpha, 2 * (1 - alpha))
    left = blocks.power_budget - counted @ constant
    if left <= 0:
        return Finish(np.zeros(bits.size), np.inf)
    latency = float(counted @ per_second / left)
    return Finish(inverse_gain * (constant + per_second / latency), latency)
