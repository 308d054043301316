"""Incremental allocation: bits one by one where they help most; optimal, by selection instead of by a loop."""

from functools import lru_cache
from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.source.iaq.allocation.arguments import checked_problem
from semlink.source.iaq.allocation.methods import AllocationMethod, register
from semlink.source.iaq.distortion import one_error_bound


def incremental(
    weights: ArrayLike,
    steps: SupportsIndex,
    *,
    bit_error_rate: float = 0.0,
    min_bits: int = 0,
    max_bits: int = 8,
) -> NDArray[np.int64]:
    """Bits M_i that minimise Σ w_i·D(2^M_i; μ) subject to ΣM_i = steps: optimal.

    IAQ, problem P1 (9)-(11), and with `bit_error_rate` > 0 its modified form P3 (22)-(24). The paper adds
    one bit at a time where it helps most. D is convex and decreasing (Proposition 1), so a patch's gains
    shrink from bit to bit, and the loop ends up with the `steps` largest of all gains: they are selected
    here at once. Equal gains go to the lower patch index, as in the loop.

    Args:
        weights: (N,) weights w_i ≥ 0.
        steps: sum of all M_i, from N·min_bits to N·max_bits.
        bit_error_rate: μ that the allocation assumes, in [0, 3/13].
        min_bits: fewest bits of a patch, ≥ 0.
        max_bits: most bits of a patch M_max, at most 16.

    Returns:
        (N,) int64 bits M_i, within [min_bits, max_bits].

    Raises:
        ValueError: an argument is outside these ranges.

    >>> incremental([1.0, 0.1, 0.01], 8)
    array([4, 3, 1])
    """
    weights, steps = checked_problem(weights, steps, bit_error_rate, min_bits, max_bits)
    # Scaled to at most 1, which changes no order but keeps the products from vanishing.
    scale = weights.max() or 1.0
    gains = np.outer(weights / scale, _drops(min_bits, max_bits, float(bit_error_rate)))
    bits: NDArray[np.int64] = min_bits + largest(gains, steps - weights.size * min_bits).sum(axis=1)
    return bits


@lru_cache(maxsize=64)
def _drops(min_bits: int, max_bits: int, bit_error_rate: float) -> NDArray[np.float64]:
    """(max_bits - min_bits,) by how much each further bit lowers the distortion; the same for every image."""
    return -np.diff(one_error_bound(np.arange(min_bits, max_bits + 1), bit_error_rate))


def largest(gains: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    """Marks the `count` largest entries; equal ones are taken in C order, on every platform."""
    if count == 0:
        return np.zeros(gains.shape, dtype=bool)
    threshold = np.partition(gains, gains.size - count, axis=None)[gains.size - count]
    chosen: NDArray[np.bool_] = gains > threshold
    equal = np.flatnonzero(gains == threshold)
    chosen.flat[equal[: count - np.count_nonzero(chosen)]] = True
    return chosen


register(
    AllocationMethod(
        "incremental",
        lambda problem: incremental(
            problem.weights,
            problem.steps,
            bit_error_rate=problem.bit_error_rate,
            max_bits=problem.max_bits,
        ),
        weighs=True,
    )
)
