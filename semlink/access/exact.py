"""Whole bits with exact powers: the joint optimum in integers, never worse than the printed methods."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.access.equal_finish import equal_finish
from semlink.access.joint import Joint, joint_optimum
from semlink.access.log_rates import log_rates, powers_for_rates
from semlink.access.weighted_error import weighted_error
from semlink.channel.blocks import Blocks
from semlink.source.iaq.allocation.arguments import checked_problem
from semlink.source.iaq.allocation.incremental import incremental, largest

LEVELS = 4
"""Whole bits looked at for each patch: the two below its real ones and the two above."""
ROUNDS = 5
NEGLIGIBLE = 1e-4
"""Of the objective."""
RELAXED_TOLERANCE = 1e-5


class Exact(NamedTuple):
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


def exact(
    error_costs: ArrayLike,
    steps: int,
    blocks: Blocks,
    latency_weight: float,
    *,
    candidates: Iterable[NDArray[np.int64]] = (),
    min_bits: int = 1,
    max_bits: int = 8,
) -> Exact:
    """Whole bits and powers of low E_Q + latency_weight·T_d: IA-QSMPA, problem P1 (13) or P4 (29).

    The relaxed optimum `joint_optimum` prices power. At that price each further bit of a patch has a worth, and
    the bits of most worth are taken until the budget is spent; the powers are then exact for these bits
    (`equal_finish`), and as long as that helps, the price is set anew and the bits with it. The powers are exact
    for every one of `candidates` and for the bits of least E_Q too, and the best of all is returned: at least as
    good as any method whose bits are among the candidates, whatever its powers. For Shannon's rates no whole bits
    are better than the relaxed optimum, which tells how much may be missing.

    Args:
        error_costs: (N,) c_i ≥ 0 with E_Q = Σ c_i·4^-B[i].
        steps: Σ B[i], from N·min_bits to N·max_bits.
        blocks: the subchannels.
        latency_weight: what a second costs in units of the error, ≥ 0; 0 asks for the least E_Q.
        candidates: other (N,) bits to compare with, within the same budget.
        min_bits: B_min, ≥ 1.
        max_bits: B_max.

    Raises:
        ValueError: an argument is outside these ranges.
    """
    costs, steps = checked_problem(error_costs, steps, 0.0, min_bits, max_bits)
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
    # Nothing can save more than what the latency costs; where that is little, the price alone tells.
    if best.objective - best.error < NEGLIGIBLE * best.objective and np.array_equal(
        best.bits, _whole_bits(costs, steps, blocks, best, latency_weight, min_bits, max_bits)
    ):
        return best
    relaxed = joint_optimum(
        costs, steps, blocks, latency_weight, min_bits=min_bits, max_bits=max_bits, tolerance=RELAXED_TOLERANCE
    )
    if not np.isfinite(relaxed.latency):
        return best
    bits = _whole_bits(costs, steps, blocks, relaxed, latency_weight, min_bits, max_bits)
    for _ in range(ROUNDS):
        if np.array_equal(bits, best.bits):
            break
        found = _finished(bits, costs, blocks, latency_weight)
        if found.objective >= best.objective:
            break
        best = found
        bits = _whole_bits(costs, steps, blocks, best, latency_weight, min_bits, max_bits)
    return best


def pareto_front(
    error_costs: ArrayLike,
    steps: int,
    blocks: Blocks,
    latency_weights: Iterable[float],
    *,
    min_bits: int = 1,
    max_bits: int = 8,
) -> list[Exact]:
    """What the exchange rate between seconds and squared error buys: `exact` at each, without those outdone.

    Args:
        error_costs: (N,) c_i ≥ 0 with E_Q = Σ c_i·4^-B[i].
        steps: Σ B[i], from N·min_bits to N·max_bits.
        blocks: the subchannels.
        latency_weights: what a second costs in units of the error, ≥ 0; between 10^5 and 10^8 a link of the
            paper's dimensions trades one for the other.
        min_bits: B_min, ≥ 1.
        max_bits: B_max.

    Returns:
        By ascending latency and descending E_Q; none is both later and worse than another.
    """
    found: list[Exact] = []
    for weight in latency_weights:
        others = [other.bits for other in found]
        found.append(
            exact(error_costs, steps, blocks, weight, candidates=others, min_bits=min_bits, max_bits=max_bits)
        )
    front: list[Exact] = []
    for point in sorted(found, key=lambda point: (point.latency, point.error)):
        if not front or point.error < front[-1].error:
            front.append(point)
    return front


def _finished(bits: NDArray[np.int64], costs: NDArray[np.float64], blocks: Blocks, latency_weight: float) -> Exact:
    """These bits with the powers that finish earliest."""
    power, latency = equal_finish(bits, blocks)
    error = weighted_error(costs, bits)
    # No weight makes an infinite latency no matter.
    return Exact(bits, power, latency, error, error + (latency_weight * latency if latency_weight else 0.0))


def _whole_bits(
    costs: NDArray[np.float64],
    steps: int,
    blocks: Blocks,
    found: Joint | Exact,
    latency_weight: float,
    min_bits: int,
    max_bits: int,
) -> NDArray[np.int64]:
    """Whole bits of most worth, at the latency and the price of power of real or other whole ones."""
    bits, power, latency = found.bits, found.power, found.latency
    snr = np.square(blocks.gains) / blocks.noise_power
    _, elasticity = log_rates(np.log(power), snr, blocks.bandwidth, blocks.penalty)
    # A unit of power saves so much latency, and a second costs latency_weight.
    price = latency_weight * latency / (power / elasticity).sum()
    lowest = np.clip(np.ceil(bits).astype(np.int64) - 2, min_bits, max_bits)
    levels = lowest + np.arange(LEVELS)[:, None]
    ratios = np.log(levels / bits)
    rates = np.log(blocks.values_per_segment * bits / latency) + ratios
    log_power, _ = powers_for_rates(
        rates.ravel(),
        (np.log(power) + ratios / elasticity).ravel(),
        np.tile(snr, (LEVELS, 1)),
        blocks.bandwidth,
        blocks.penalty,
    )
    loss = costs * 0.25**levels + price * np.exp(log_power).reshape(levels.shape)
    worth = np.where(levels[1:] <= max_bits, loss[:-1] - loss[1:], -np.inf).T
    return lowest + largest(worth, steps - int(lowest.sum())).sum(axis=1)
