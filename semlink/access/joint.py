"""The joint optimum of bits, power and latency, which the coordinate descent of IA-QSMPA does not reach."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.access.equal_finish import equal_finish
from semlink.access.log_rates import power_curvature, powers_for_rates
from semlink.channel.blocks import Blocks
from semlink.source.iaq.allocation.arguments import checked_problem

MOST_STEPS = 60
TINY = 1e-14


class Joint(NamedTuple):
    """The relaxed optimum and its Lagrange multipliers."""

    bits: NDArray[np.float64]
    """(N,) B[i], real, within their bounds."""
    power: NDArray[np.float64]
    """(N,) P[i]; they add up to the budget."""
    latency: float
    """Seconds; infinite if the budget gets no bit through in every block."""
    price_of_bit: float
    """By how much the objective would fall if one bit fewer had to be sent; negative if it would rise."""
    price_of_power: float
    """By how much the objective would fall with a unit of power more in the budget."""
    steps: int
    """Newton steps taken."""


def joint_optimum(
    error_weights: ArrayLike,
    steps: int,
    blocks: Blocks,
    latency_weight: float,
    *,
    min_bits: int = 1,
    max_bits: int = 8,
    tolerance: float = 1e-9,
) -> Joint:
    """Real bits and powers that minimise Σ c_i·4^-B[i] + latency_weight·T_d: IA-QSMPA, problem P2 (14), globally.

    For given bits the best powers let all blocks finish at once, and y = T_d is where their sum
    Σ φ_i(D·B[i]/y) meets the budget, φ_i being the power that a rate takes. φ_i is convex for Shannon rates, so
    y·Σ φ_i(D·B[i]/y), its perspective, is jointly convex in bits and y: there is one optimum. It is found by a
    primal-dual interior-point method, whose equations are diagonal but for three unknowns. The rates are those of
    equation 24, with each subchannel's own gain.

    At a finite block length φ_i is not convex just above the least SNR that carries anything: there the result
    is a point where the optimality conditions hold.

    Args:
        error_weights: (N,) c_i ≥ 0: with c_i = I[i]·D·(u_max - u_min)²/4 the sum is E_Q of equation 12.
        steps: sum of all B[i], from N·min_bits to N·max_bits.
        blocks: the subchannels.
        latency_weight: what a second costs in units of the error, > 0.
        min_bits: fewest bits of a patch B_min, ≥ 1.
        max_bits: most bits of a patch B_max.
        tolerance: of the optimality conditions, relative to the objective's slopes at equal bits.

    Raises:
        ValueError: an argument is outside these ranges.
    """
    cost, steps = checked_problem(error_weights, steps, 0.0, min_bits, max_bits)
    if not 0 < latency_weight < np.inf:
        raise ValueError(f"latency_weight must be finite and above 0, not {latency_weight}")
    if min_bits < 1:
        raise ValueError(f"min_bits must be at least 1, not {min_bits}")
    if cost.size != blocks.count:
        raise ValueError(f"error_weights must be {blocks.count} numbers, one per block, not {cost.size}")
    bits = np.full(blocks.count, steps / blocks.count)
    power, latency = equal_finish(bits, blocks)
    if not np.isfinite(latency) or steps in (min_bits * blocks.count, max_bits * blocks.count):
        return Joint(bits, power, latency, np.nan, np.nan, 0)

    snr = np.square(blocks.gains) / blocks.noise_power
    log_power = np.log(power)
    # Time in units of the start's latency, the objective in units of its largest slope.
    speed = np.log(blocks.values_per_segment / latency)
    scale = max((np.log(4) * cost * 0.25**bits).max(), latency_weight * latency / steps)
    cost, weight = cost / scale, latency_weight * latency / scale
    time = 1.0
    # Newton's error after it is about its square.
    last_step = np.sqrt(tolerance) / 10
    theta, nu, below, above = 0.0, 0.0, np.ones(bits.size), np.ones(bits.size)
    length = 1.0
    for number in range(1, MOST_STEPS + 1):
        log_power, elasticity = powers_for_rates(
            speed + np.log(bits / time), log_power, snr, blocks.bandwidth, blocks.penalty, last_step
        )
        power = np.exp(log_power)
        # t = time·(Σφ - budget) = 0, its slopes, and the second derivatives of the perspective.
        t = time * (power.sum() - blocks.power_budget)
        t_bits = time * power / (elasticity * bits)
        t_time = (t - t_bits @ bits) / time
        if number == 1:
            theta = -weight / t_time
        second = theta * time * power * np.maximum(power_curvature(log_power, snr, blocks.penalty), 0) / bits**2
        mixed = -second * bits / time
        # Residuals of the optimality conditions.
        slope = np.log(4) * cost * 0.25**bits
        # Rounding must not put a bit count onto its bound.
        over, under = np.maximum(bits - min_bits, TINY), np.maximum(max_bits - bits, TINY)
        gap = (below @ over + above @ under) / (2 * bits.size)
        r_bits = theta * t_bits - slope + nu - below + above
        r_time = weight + theta * t_time
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
    return Joint(bits, finish.power, finish.latency, nu * scale, theta * time * scale, number)
