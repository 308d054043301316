"""Joint optimum of bits, power and latency: the relaxed problem by an interior-point method, then integer bits.

The coordinate descent of IA-QSMPA does not reach it, see `semlink.access.ia_qsmpa`.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.access.power import equal_finish, log_rates, power_curvature, powers_for_rates
from semlink.channel.blocks import Blocks
from semlink.source.iaq.allocation.arguments import checked_problem
from semlink.source.iaq.allocation.incremental import incremental, largest

LEVELS = 4
"""Integer bits tried for each segment: the two below its real ones and the two above."""
ROUNDS = 5
"""Most times that the price of power is set anew for integer bits."""
NEGLIGIBLE = 1e-4
"""Share of the latency in the objective below which the relaxed problem is not solved."""
RELAXED_TOLERANCE = 1e-5
"""Of the relaxed optimum that integer bits start from."""
MAX_NEWTON_STEPS = 60
SMALLEST_SLACK = 1e-14
"""Bits between a bit count and its bound, at least: rounding must not put it onto the bound."""


class RelaxedOptimum(NamedTuple):
    """The relaxed optimum and its Lagrange multipliers."""

    bits: NDArray[np.float64]
    """(N,) B[i], real, within their bounds."""
    power: NDArray[np.float64]
    """(N,) P[i]; Σ weights[i]·P[i] is the budget."""
    latency: float
    """Seconds; infinite if the budget gets no bit through in every block."""
    price_of_bit: float
    """By how much the objective would fall if one bit fewer had to be sent; negative if it would rise."""
    price_of_power: float
    """By how much the objective would fall with a unit of power more in the budget."""


class IntegerOptimum(NamedTuple):
    """Bits, powers, latency and what they cost together."""

    bits: NDArray[np.int64]
    """(N,) B[i]."""
    power: NDArray[np.float64]
    """(N,) P[i]."""
    latency: float
    """T_d in seconds."""
    error: float
    """E_Q."""
    objective: float
    """E_Q + latency_weight·T_d."""


def error_costs(
    importance: ArrayLike, *, value_range: float = 1.0, values_per_segment: int = 768
) -> NDArray[np.float64]:
    """(N,) c_i = I[i]·D·(u_max - u_min)²/4, so that E_Q = Σ c_i·4^-B[i] (IA-QSMPA, equation 12).

    Args:
        importance: (N,) weights I[i] ≥ 0 of equation 43.
        value_range: u_max - u_min, > 0, in the unit whose square the error has.
        values_per_segment: D.
    """
    if not 0 < value_range < np.inf:
        raise ValueError(f"value_range must be finite and above 0, not {value_range}")
    return np.asarray(importance, dtype=np.float64) * values_per_segment * value_range**2 / 4


def weighted_error(costs: ArrayLike, bits: ArrayLike) -> float:
    """E_Q = Σ c_i·4^-B[i] of costs c_i from `error_costs` (IA-QSMPA, equation 12).

    >>> weighted_error([64.0, 16.0], [3, 1])
    5.0
    """
    return float(np.asarray(costs, dtype=np.float64) @ 0.25 ** np.asarray(bits))


def exact(
    costs: ArrayLike,
    steps: int,
    blocks: Blocks,
    latency_weight: float,
    *,
    candidates: Iterable[NDArray[np.int64]] = (),
    min_bits: int = 1,
    max_bits: int = 8,
) -> IntegerOptimum:
    """Integer bits and powers of low E_Q + latency_weight·T_d: IA-QSMPA, problem P1 (13) or P4 (29).

    The relaxed optimum `joint_optimum` prices power. At that price each further bit of a segment has a worth, and
    the bits of most worth are taken until the budget is spent; the powers are then exact for these bits
    (`equal_finish`), and as long as that helps, the price is set anew and the bits with it. The powers are exact
    for every one of `candidates` and for the bits of least E_Q too, and the best of all is returned: at least as
    good as any method whose bits are among the candidates, whatever its powers. For Shannon's rates no integer
    bits are better than the relaxed optimum, which bounds what may be missing.

    Args:
        costs: (N,) c_i ≥ 0 of `error_costs`, with E_Q = Σ c_i·4^-B[i].
        steps: Σ B[i], from N·min_bits to N·max_bits.
        blocks: the subchannels.
        latency_weight: what a second costs in units of the error, ≥ 0; 0 asks for the least E_Q.
        candidates: other (N,) bits to compare with, within the same budget.
        min_bits: B_min, ≥ 1.
        max_bits: B_max.

    Raises:
        ValueError: an argument is outside these ranges.
    """
    costs, steps = checked_problem(costs, steps, 0.0, min_bits, max_bits)
    if not 0 <= latency_weight < np.inf:
        raise ValueError(f"latency_weight must be finite and at least 0, not {latency_weight}")
    best = _finished(
        incremental(costs, steps, min_bits=min_bits, max_bits=max_bits), costs, blocks, latency_weight
    )
    for bits in candidates:
        # The latency only adds to the error.
        if weighted_error(costs, bits) < best.objective:
            best = min(best, _finished(bits, costs, blocks, latency_weight), key=lambda found: found.objective)
    if latency_weight == 0 or not np.isfinite(best.latency):
        return best
    # No bits can save more than what the latency costs: where that is little, the price alone decides.
    if best.objective - best.error < NEGLIGIBLE * best.objective and np.array_equal(
        best.bits, _integer_bits(costs, steps, blocks, best, latency_weight, min_bits, max_bits)
    ):
        return best
    relaxed = joint_optimum(
        costs, steps, blocks, latency_weight, min_bits=min_bits, max_bits=max_bits, tolerance=RELAXED_TOLERANCE
    )
    if not np.isfinite(relaxed.latency):
        return best
    bits = _integer_bits(costs, steps, blocks, relaxed, latency_weight, min_bits, max_bits)
    for _ in range(ROUNDS):
        if np.array_equal(bits, best.bits):
            break
        found = _finished(bits, costs, blocks, latency_weight)
        if found.objective >= best.objective:
            break
        best = found
        bits = _integer_bits(costs, steps, blocks, best, latency_weight, min_bits, max_bits)
    return best


def joint_optimum(
    costs: ArrayLike,
    steps: int,
    blocks: Blocks,
    latency_weight: float,
    *,
    min_bits: int = 1,
    max_bits: int = 8,
    tolerance: float = 1e-9,
) -> RelaxedOptimum:
    """Real bits and powers that minimise Σ c_i·4^-B[i] + latency_weight·T_d: IA-QSMPA, problem P2 (14), globally.

    For given bits the best powers let all blocks finish at once, and y = T_d is where their sum
    Σ φ_i(D·B[i]/y) meets the budget, φ_i being the power that a rate takes. φ_i is convex for Shannon rates, so
    y·Σ φ_i(D·B[i]/y), its perspective, is jointly convex in bits and y: there is one optimum. It is found by a
    primal-dual interior-point method, whose equations are diagonal but for three unknowns. The rates are those of
    equation 24, with each subchannel's own gain.

    At a finite block length φ_i is not convex just above the least SNR that carries anything: there the result
    is a point where the optimality conditions hold.

    Args:
        costs: (N,) c_i ≥ 0; of `error_costs` they make the sum E_Q of equation 12.
        steps: sum of all B[i], from N·min_bits to N·max_bits.
        blocks: the subchannels.
        latency_weight: what a second costs in units of the error, > 0.
        min_bits: fewest bits of a segment's values B_min, ≥ 1.
        max_bits: most bits of a segment's values B_max.
        tolerance: of the optimality conditions, relative to the objective's slopes at equal bits.

    Raises:
        ValueError: an argument is outside these ranges.
    """
    costs, steps = checked_problem(costs, steps, 0.0, min_bits, max_bits)
    if not 0 < latency_weight < np.inf:
        raise ValueError(f"latency_weight must be finite and above 0, not {latency_weight}")
    if min_bits < 1:
        raise ValueError(f"min_bits must be at least 1, not {min_bits}")
    if costs.size != blocks.count:
        raise ValueError(f"costs must be {blocks.count} numbers, one per block, not {costs.size}")
    bits = np.full(blocks.count, steps / blocks.count)
    power, latency = equal_finish(bits, blocks)
    if not np.isfinite(latency) or steps in (min_bits * blocks.count, max_bits * blocks.count):
        return RelaxedOptimum(bits, power, latency, np.nan, np.nan)

    snr = np.square(blocks.gains) / blocks.noise_power
    log_power = np.log(power)
    # Time in units of the start's latency, the objective in units of its largest slope.
    speed = np.log(blocks.values_per_segment / latency)
    scale = max((np.log(4) * costs * 0.25**bits).max(), latency_weight * latency / steps)
    costs, price_of_time = costs / scale, latency_weight * latency / scale
    time = 1.0
    # Newton's error after it is about its square.
    last_step = np.sqrt(tolerance) / 10
    theta, nu, below, above = 0.0, 0.0, np.ones(bits.size), np.ones(bits.size)
    length = 1.0
    for number in range(1, MAX_NEWTON_STEPS + 1):
        log_power, elasticity = powers_for_rates(
            speed + np.log(bits / time), log_power, snr, blocks.bandwidth, blocks.penalty_column, last_step
        )
        power = blocks.weights * np.exp(log_power)  # as it counts in the budget
        # t = time·(Σφ - budget) = 0, its slopes, and the second derivatives of the perspective.
        t = time * (power.sum() - blocks.power_budget)
        t_bits = time * power / (elasticity * bits)
        t_time = (t - t_bits @ bits) / time
        if number == 1:
            theta = -price_of_time / t_time
        curvature = np.maximum(power_curvature(log_power, snr, blocks.penalty_column), 0)
        second = theta * time * power * curvature / bits**2
        mixed = -second * bits / time
        # Residuals of the optimality conditions.
        slope = np.log(4) * costs * 0.25**bits
        over, under = (np.maximum(slack, SMALLEST_SLACK) for slack in (bits - min_bits, max_bits - bits))
        gap = (below @ over + above @ under) / (2 * bits.size)
        r_bits = theta * t_bits - slope + nu - below + above
        r_time = price_of_time + theta * t_time
        worst = max(np.abs(r_bits).max(), abs(r_time), abs(t) / blocks.power_budget, abs(bits.sum() - steps))
        if worst < tolerance and gap < tolerance / 100:
            break
        # Newton's equations, with the bits and the bounds' multipliers eliminated.
        target = gap * (0.02 if length > 0.9 else 0.1 if length > 0.5 else 0.5)
        diagonal = np.log(4) * slope + second + below / over + above / under
        r_bits = r_bits + below - target / over - above + target / under
        border = np.stack([mixed, np.ones(bits.size), t_bits], axis=1)
        matrix = np.zeros((3, 3))
        matrix[0] = second @ bits**2 / time**2, 0, t_time
        matrix[2, 0] = t_time
        reduced = border / diagonal[:, None]
        step = np.linalg.solve(
            matrix - border.T @ reduced,
            np.array([-r_time, steps - bits.sum(), -t]) + reduced.T @ r_bits,
        )
        if not np.isfinite(step).all():
            break
        d_bits = -(r_bits + border @ step) / diagonal
        d_below = (target - below * d_bits) / over - below
        d_above = (target + above * d_bits) / under - above
        # As far as 99 % of the way to the nearest bound.
        falling = [(over, d_bits), (under, -d_bits), (below, d_below), (above, d_above)]
        ratios = [(-change / value).max() for value, change in falling] + [-step[0] / time, -step[2] / theta]
        length = min(1.0, 0.99 / max(*ratios, 1e-300))
        # The powers that the next bits will want, nearly.
        log_power = log_power + (np.log1p(length * d_bits / bits) - np.log1p(length * step[0] / time)) / elasticity
        bits = bits + length * d_bits
        below, above = below + length * d_below, above + length * d_above
        time, nu, theta = time + length * step[0], nu + length * step[1], theta + length * step[2]
    finish = equal_finish(bits, blocks)
    return RelaxedOptimum(bits, finish.power, finish.latency, nu * scale, theta * time * scale)


def _finished(
    bits: NDArray[np.int64], costs: NDArray[np.float64], blocks: Blocks, latency_weight: float
) -> IntegerOptimum:
    """These bits with the powers that finish earliest."""
    power, latency = equal_finish(bits, blocks)
    error = weighted_error(costs, bits)
    # Without a latency weight even an infinite latency costs nothing.
    return IntegerOptimum(
        bits, power, latency, error, error + (latency_weight * latency if latency_weight else 0.0)
    )


def _integer_bits(
    costs: NDArray[np.float64],
    steps: int,
    blocks: Blocks,
    found: RelaxedOptimum | IntegerOptimum,
    latency_weight: float,
    min_bits: int,
    max_bits: int,
) -> NDArray[np.int64]:
    """Integer bits of most worth, at the latency and the price of power of real or other integer ones."""
    bits, power, latency = found.bits, found.power, found.latency
    snr = np.square(blocks.gains) / blocks.noise_power
    _, elasticity = log_rates(np.log(power), snr, blocks.bandwidth, blocks.penalty_column)
    # A unit of power saves so much latency, and a second costs latency_weight.
    price = latency_weight * latency / (blocks.weights * power / elasticity).sum()
    lowest = np.clip(np.ceil(bits).astype(np.int64) - 2, min_bits, max_bits)
    levels = lowest + np.arange(LEVELS)[:, None]
    ratios = np.log(levels / bits)
    rates = np.log(blocks.values_per_segment * bits / latency) + ratios
    log_power, _ = powers_for_rates(
        rates.ravel(),
        (np.log(power) + ratios / elasticity).ravel(),
        np.tile(snr, (LEVELS, 1)),
        np.tile(blocks.bandwidth, LEVELS) if np.ndim(blocks.bandwidth) else blocks.bandwidth,
        np.tile(blocks.penalty_column, (LEVELS, 1)) if np.ndim(blocks.penalty) else blocks.penalty_column,
    )
    loss = costs * 0.25**levels + price * blocks.weights * np.exp(log_power).reshape(levels.shape)
    worth = np.where(levels[1:] <= max_bits, loss[:-1] - loss[1:], -np.inf).T
    best: NDArray[np.int64] = lowest + largest(worth, steps - int(lowest.sum())).sum(axis=1)
    return best
