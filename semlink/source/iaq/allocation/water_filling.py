"""Bits by water-filling: the relaxed problem solved by its Lagrange multiplier, then rounded."""

from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.source.iaq.allocation.arguments import checked_problem
from semlink.source.iaq.allocation.methods import AllocationMethod, register

FIRST_GUESS_BITS = 4.0


def water_filling(
    weights: ArrayLike,
    steps: SupportsIndex,
    *,
    bit_error_rate: float = 0.0,
    min_bits: int = 0,
    max_bits: int = 8,
    bisections: int = 10,
    newtons: int = 5,
) -> NDArray[np.int64]:
    """Bits M_i from the relaxed problem with real levels Q_i = 2^M_i, rounded to meet ΣM_i = steps exactly.

    IAQ, problem P2 (13)-(15) by Theorem 1 (16)-(17), and with `bit_error_rate` > 0 problem P4 (25)-(27) by
    Theorem 3 (28)-(30) and Algorithm 1; then the rounding step of Section III-C.

    Two deviations. Algorithm 1 as printed runs Newton in Q from Q = 1, which grows at most 1.5 times a step and
    turns negative where the root lies below 1, so that it does not converge within its own limits; here Newton
    runs on ln h in M = log2 Q, from 4 bits. And the rounding pass, which adds or takes at most one bit a patch,
    is repeated until the budget is met.

    Args:
        weights: (N,) weights w_i ≥ 0.
        steps: sum of all M_i, from N·min_bits to N·max_bits.
        bit_error_rate: μ that the allocation assumes, in [0, 3/13].
        min_bits: fewest bits of a patch, ≥ 0.
        max_bits: most bits of a patch M_max, at most 16.
        bisections: S_max, halvings of the interval of the multiplier.
        newtons: T_max, Newton steps at each.

    Returns:
        (N,) int64 bits M_i, within [min_bits, max_bits].

    Raises:
        ValueError: an argument is outside these ranges.

    >>> water_filling([1.0, 0.1, 0.01], 8)
    array([4, 3, 1])
    """
    weights, steps = checked_problem(weights, steps, bit_error_rate, min_bits, max_bits)
    real = relaxed_bits(weights, steps, bit_error_rate, min_bits, max_bits, bisections, newtons)
    return round_to_budget(real, weights, steps, min_bits, max_bits)


def relaxed_bits(
    weights: NDArray[np.float64],
    steps: int,
    bit_error_rate: float,
    min_bits: int,
    max_bits: int,
    bisections: int,
    newtons: int,
) -> NDArray[np.float64]:
    """(N,) real bits log2 Q_i of the relaxed problem, before rounding; arguments as of `water_filling`.

    Weights of zero get `min_bits`, the limit of ever smaller ones.
    """
    bits = np.full(weights.size, float(min_bits))
    log_weights = np.log(weights[weights > 0])
    if log_weights.size == 0:
        return bits
    # ln ν is sought between the multipliers at which every patch has all bits, and at which none has any.
    lowest = log_weights.min() + _log_h(np.array(float(max_bits)), bit_error_rate)[0]
    highest = log_weights.max() + _log_h(np.array(float(min_bits)), bit_error_rate)[0]
    for _ in range(bisections):
        log_multiplier = (lowest + highest) / 2
        found = _inverse(log_multiplier - log_weights, bit_error_rate, min_bits, max_bits, newtons)
        if found.sum() + min_bits * (weights.size - found.size) < steps:
            highest = log_multiplier
        else:
            lowest = log_multiplier
    bits[weights > 0] = found
    return bits


def _inverse(
    log_h: NDArray[np.float64], bit_error_rate: float, min_bits: int, max_bits: int, newtons: int
) -> NDArray[np.float64]:
    """Bits at which ln h is `log_h`, clipped to [min_bits, max_bits] (IAQ, equation 28)."""
    if bit_error_rate == 0:
        # ln h is linear in the bits then: equation (16).
        intercept, slope = _log_h(np.array(0.0), 0.0)
        linear: NDArray[np.float64] = np.clip((log_h - intercept) / slope, min_bits, max_bits)
        return linear
    bits = np.full(log_h.shape, FIRST_GUESS_BITS)
    for _ in range(newtons):
        value, slope = _log_h(bits, bit_error_rate)
        bits = np.clip(bits - (value - log_h) / slope, min_bits, max_bits)
    return bits


def _log_h(bits: NDArray[np.float64], bit_error_rate: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ln h(2^M; w=1, μ) of equation (30) and its slope in M, up to a constant common to all patches."""
    rate, levels = bit_error_rate, np.exp2(bits)
    quadratic = -4 / 3 * rate * np.log2(1 - rate) * levels**2
    linear = -4 * rate * np.log2((1 - rate) / 2) * levels
    constant = -(1 - 16 / 3 * rate) * np.log2((1 - rate) / 4)
    bracket = quadratic + linear + constant
    power = np.log((1 - rate) / 4)
    return bits * power + np.log(bracket), power + np.log(2) * (2 * quadratic + linear) / bracket


def round_to_budget(
    real: NDArray[np.float64], weights: NDArray[np.float64], steps: int, min_bits: int, max_bits: int
) -> NDArray[np.int64]:
    """Rounds, then adds bits by descending weight or takes them by ascending, one a patch and pass."""
    bits = np.floor(real + 0.5).astype(np.int64)
    descending = np.argsort(-weights, kind="stable")
    while missing := steps - int(bits.sum()):
        if missing > 0:
            takers = descending[bits[descending] < max_bits][:missing]
            bits[takers] += 1
        else:
            givers = descending[::-1][bits[descending[::-1]] > min_bits][:-missing]
            bits[givers] -= 1
    return bits


register(
    AllocationMethod(
        "water-filling",
        lambda problem: water_filling(
            problem.weights,
            problem.steps,
            bit_error_rate=problem.bit_error_rate,
            max_bits=problem.max_bits,
        ),
        weighs=True,
    )
)
