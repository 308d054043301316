"""IA-QSMPA for the ideal transmission, as printed: Theorem 1, the rounding step, the low-complexity form."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.access.equal_finish import equal_finish
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
    found, which add up to the budget: the descent cannot move after the first round. `semlink.access.joint` has
    the optimum that it misses.

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


def top_beta(scores: ArrayLike, steps: int, *, min_bits: int = 1, max_bits: int = 8) -> NDArray[np.int64]:
    """(N,) B_max bits for the patches with the highest scores, B_min for the others (IA-QSMPA, equation 42).

    As many patches get B_max as the budget pays for; what is left over stays unspent.

    Args:
        scores: (N,) importance of each patch.
        steps: Σ B[i], from N·min_bits to N·max_bits.
        min_bits: B_min, ≥ 0.
        max_bits: B_max, above B_min.
    """
    scores = finite_vector("scores", scores)
    min_bits = integer_within("min_bits", min_bits, 0, max_bits - 1)
    steps = integer_within("steps", steps, scores.size * min_bits, scores.size * max_bits)
    return min_bits + top_k(scores, steps - scores.size * min_bits, max_bits=max_bits - min_bits)


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
    # A weight of 0 is the limit of ever smaller ones: that patch is the last to get a bit.
    lowest = np.min(half_logs, where=weights > 0, initial=0) - np.ptp(caps) - caps.max()
    half_logs = np.maximum(half_logs, lowest)
    # B̂[i] is half_logs[i] + level, and the level stands for ν*. A patch's bits rise with it between two levels, so
    # their sum is piecewise linear: it is followed from corner to corner.
    levels = np.concatenate([min_bits - half_logs, caps - half_logs])
    order = np.argsort(levels)
    levels = levels[order]
    rising = np.cumsum(np.where(order < weights.size, 1, -1))
    sums = weights.size * min_bits + np.concatenate([[0], np.cumsum(rising[:-1] * np.diff(levels))])
    corner = np.searchsorted(sums, steps, side="right") - 1
    level = levels[corner] + (steps - sums[corner]) / max(rising[corner], 1)
    return np.clip(half_logs + level, min_bits, caps)
