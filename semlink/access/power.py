"""Power allocation over blocks: equal finishing times, equal powers, capacity water-filling.

Rates and powers are handled in logarithms, in which one is close to a straight line over the other.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.channel.blocks import Blocks
from semlink.checks import finite_vector

LAST_STEP = 1e-7
"""In the logarithms of power and latency; Newton's error after such a step is about its square."""
MAX_STEPS = 300
"""Every step that is not Newton's halves a bracket; this many are never needed."""
JOINT_STEPS = 8
"""Newton steps on all powers at once, before the bracketed search."""


class Finish(NamedTuple):
    """Powers and the latency that they share."""

    power: NDArray[np.float64]
    """(N,) P[i]; Σ weights[i]·P[i] is the budget. All 0 where the latency is infinite."""
    latency: float
    """Seconds; infinite if the budget gets no bit through in every block."""


def equal_finish(bits: ArrayLike, blocks: Blocks) -> Finish:
    """The powers that minimise T_d = max D·B[i]/R[i](P[i]) for given bits: every latency constraint is tight.

    The problem of IA-QSMPA, equations 45 (Theorem 1), 23 (P3), 51 and 39, solved as it stands. A block's rate
    rises with its power, so each latency needs one power of every block, their sum falls with the latency, and
    the optimum is where it meets the budget: one root, whether the problem is convex or not. With
    `blocks.averaged()` that is equation 20; with each subchannel's own gain it is T_d of equation 25, and with a
    penalty that of equation 38, without the linearisation of Theorem 2.

    The root is bracketed and found by Newton's method on ln ΣP over -ln T_d, from where a few steps of Newton's
    method on all powers at once have led. SciPy's `brentq` over the latency finds the same root, to 2e-15, in 7 to
    8 times the time (196 blocks of 16 subchannels); `logsumexp` alone would add 0.2 ms to each of its steps.

    Args:
        bits: (N,) bits B[i], real, ≥ 0, not all 0. A block without bits gets no power.
        blocks: the subchannels.

    Raises:
        ValueError: an argument is outside these ranges.

    >>> power, latency = equal_finish([1, 3], Blocks(np.array([[1.0], [2.0]]), 0.1, 2.0, 15e3))
    >>> power.round(3), round(1e3 * latency, 2)
    (array([0.309, 1.691]), 25.18)
    """
    bits = finite_vector("bits", bits)
    if bits.size != blocks.count or (bits < 0).any() or not bits.any():
        raise ValueError(f"bits must be {blocks.count} numbers, 0 or more, not all 0")
    if not bits.all():
        used = bits > 0
        finish = equal_finish(bits[used], blocks.only(used))
        power = np.zeros(bits.size)
        power[used] = finish.power
        return Finish(power, finish.latency)
    weights = blocks.weights
    if (weights * least_power(blocks)).sum() >= blocks.power_budget:
        return Finish(np.zeros(bits.size), np.inf)
    load = np.log(blocks.values_per_segment * bits)
    budget = np.log(blocks.power_budget)
    snr = np.square(blocks.gains) / blocks.noise_power
    # With equal power for all, the slowest block is slower than at the optimum, the fastest is faster.
    log_power = np.full(bits.size, budget - np.log(bits.size))
    penalty = blocks.penalty_column
    speeds, elasticity = log_rates(log_power, snr, blocks.bandwidth, penalty)
    speeds -= load
    low, high = speeds.min(), speeds.max()
    speed = speeds[np.isfinite(speeds)].mean()
    for _ in range(JOINT_STEPS):
        # Newton's method on all powers and the common speed at once: quick, but it may go astray.
        shares = weights * np.exp(log_power - budget)
        works = np.isfinite(speeds)
        pull = shares[works] / elasticity[works]
        speed = float(np.clip((1 - shares.sum() + pull @ speeds[works]) / pull.sum(), low, high))
        step = np.clip((speed - speeds) / elasticity, -2, 2)
        log_power = log_power + step
        if np.abs(step).max() < 1e-3:
            break
        speeds, elasticity = log_rates(log_power, snr, blocks.bandwidth, penalty)
        speeds -= load
    for _ in range(MAX_STEPS):
        log_power, elasticity = powers_for_rates(load + speed, log_power, snr, blocks.bandwidth, penalty)
        largest = log_power.max()
        shares = weights * np.exp(log_power - largest)
        excess = largest + np.log(shares.sum()) - budget
        low, high = (low, speed) if excess > 0 else (speed, high)
        step = -excess / (shares / shares.sum() @ (1 / elasticity))
        if abs(step) < LAST_STEP or high - low < LAST_STEP**2:
            break
        following = speed + step
        if not low < following < high:
            following = (low + high) / 2 if np.isfinite(low) else speed - 1
        log_power = log_power + np.clip((following - speed) / elasticity, -1, 1)
        speed = following
    power = np.exp(log_power + step / elasticity)
    power *= blocks.power_budget / (weights * power).sum()
    return Finish(power, float(blocks.latencies(bits, power).max()))


def least_power(blocks: Blocks) -> NDArray[np.float64]:
    """(N,) power P[i] above which block i has a rate at all: 0 without a penalty."""
    if isinstance(blocks.penalty, np.ndarray):
        least = np.array([_least_snr(float(penalty)) for penalty in blocks.penalty])
    else:
        least = np.full(blocks.count, _least_snr(blocks.penalty))
    power: NDArray[np.float64] = least * blocks.noise_power / np.square(blocks.gains.max(axis=1))
    return power


def _least_snr(penalty: float) -> float:
    """SNR above which a subchannel has a rate."""
    if penalty == 0:
        return 0.0

    def nats(snr: float) -> float:
        return math.log1p(snr) - penalty * math.sqrt(snr * (2 + snr)) / (1 + snr)

    from scipy.optimize import brentq  # a quarter of a second that a device without such a plan does not need

    # The least SNR is near 2·penalty² if that is low, and below exp(penalty) - 1 as √U < 1.
    low, high = 1e-6 * min(penalty, 1) ** 2, math.expm1(penalty)
    least: float = brentq(nats, low, high, xtol=np.finfo(float).tiny, rtol=4 * np.finfo(float).eps)
    return least


def uniform_power(blocks: Blocks) -> NDArray[np.float64]:
    """(N,) the same power for every block (IA-QSMPA, Section V, Fixed P)."""
    return np.full(blocks.count, blocks.power_budget / blocks.count)


def capacity_water_filling(blocks: Blocks) -> NDArray[np.float64]:
    """(N,) powers max(μ - σ²/λ²[i], 0) that maximise the sum of Shannon's rates (IA-QSMPA, Section V, WF).

    Over the blocks' mean gains (8), as every power of the paper. A block too weak for the water level gets no
    power and never finishes: at low SNR the latency of this baseline is infinite.
    """
    floor = blocks.noise_power / blocks.mean_gains**2
    order = np.argsort(floor, kind="stable")
    ascending, weights = floor[order], blocks.weights[order]
    levels = (blocks.power_budget + np.cumsum(weights * ascending)) / np.cumsum(weights)
    # The water stands above the deepest blocks only, as many as lie below the level they share.
    level = levels[np.count_nonzero(levels > ascending) - 1]
    power: NDArray[np.float64] = np.maximum(level - floor, 0)
    return power


class LogRates(NamedTuple):
    """Rates, and how they rise with power."""

    log_rate: NDArray[np.float64]
    """(N,) ln R; -inf where nothing gets through."""
    elasticity: NDArray[np.float64]
    """(N,) d ln R/d ln P, > 0; 1 where nothing gets through."""


def log_rates(
    log_power: NDArray[np.float64],
    snr: NDArray[np.float64],
    bandwidth: float | NDArray[np.float64],
    penalty: float | NDArray[np.float64],
) -> LogRates:
    """ln R of each block (equations 24 and 38) and its slope over ln P.

    Args:
        log_power: (N,) ln P.
        snr: (N, K) λ²/σ²; 0 fills up a block.
        bandwidth: Hz of one subchannel, or (N,) of each block's.
        penalty: of the finite block length; or (N, 1) of each block.
    """
    received = np.exp(log_power)[:, None] * snr
    rate = np.log1p(received)
    slope = received / (1 + received)
    if np.any(penalty):
        # √U and its derivative: U = 1 - (1 - s)² with s = γ/(1 + γ), of derivative (1 - s)² over γ.
        root = np.sqrt(slope * (2 - slope))
        rate = rate - penalty * root
        works = rate > 0
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.where(works, slope - penalty * slope * (1 - slope) ** 2 / root, 0)
        rate = np.where(works, rate, 0)
    total = rate.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        elasticity = slope.sum(axis=1) / total
        logarithm = np.log(total)
    return LogRates(logarithm + np.log(bandwidth / np.log(2)), np.where(total > 0, elasticity, 1.0))


def powers_for_rates(
    log_rate: NDArray[np.float64],
    start: NDArray[np.float64],
    snr: NDArray[np.float64],
    bandwidth: float | NDArray[np.float64],
    penalty: float | NDArray[np.float64],
    last_step: float = LAST_STEP,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ln P at which each block has its rate, and the elasticity there: Newton in logarithms, within brackets.

    SciPy's `elementwise.find_root` gives the same to 3e-13, but takes 6 to 9 times as long (196 blocks of 16
    subchannels).

    Args:
        log_rate: (N,) ln R wanted.
        start: (N,) ln P to start from.
        snr: (N, K) λ²/σ²; 0 fills up a block.
        bandwidth: Hz of one subchannel, or (N,) of each block's.
        penalty: of the finite block length; or (N, 1) of each block.
        last_step: Newton's step of ln P after which it stops.

    Returns:
        (N,) ln P and (N,) d ln R/d ln P.
    """
    log_power = start
    low, high = np.full(start.shape, -np.inf), np.full(start.shape, np.inf)
    for _ in range(MAX_STEPS):
        found = log_rates(log_power, snr, bandwidth, penalty)
        missing = log_rate - found.log_rate
        low = np.where(missing >= 0, log_power, low)
        high = np.where(missing <= 0, log_power, high)
        step = np.clip(missing / found.elasticity, -4, 4)
        if np.abs(step).max() < last_step or (high - low < LAST_STEP**2).all():
            break
        following = log_power + step
        # The other end of the bracket is known already.
        outside = np.where(missing > 0, following >= high, (missing < 0) & (following <= low))
        if outside.any():
            following[outside] = (low[outside] + high[outside]) / 2
        log_power = following
    return log_power + step, found.elasticity


def power_curvature(
    log_power: NDArray[np.float64], snr: NDArray[np.float64], penalty: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N,) φ''(R)·R²/P of the power φ(R) that a rate takes; not below 0 for Shannon's rates.

    Where nothing gets through it is 0.

    Args:
        log_power: (N,) ln P.
        snr: (N, K) λ²/σ².
        penalty: of the finite block length; or (N, 1) of each block.
    """
    received = np.exp(log_power)[:, None] * snr
    share = received / (1 + received)
    rate, slope, bend = np.log1p(received), share, share * (1 - share)
    if np.any(penalty):
        root = np.sqrt(share * (2 - share))
        with np.errstate(divide="ignore", invalid="ignore"):  # where a gain is 0, which has no rate
            root_slope = share * (1 - share) ** 2 / root
            root_bend = share * (1 - share) ** 2 * (1 - 3 * share) / root - root_slope**2 / root
        works = rate > penalty * root
        rate = np.where(works, rate - penalty * root, 0)
        slope = np.where(works, slope - penalty * root_slope, 0)
        bend = np.where(works, bend - penalty * root_bend, 0)
    total, first = rate.sum(axis=1), slope.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, (total / first) ** 2 * (1 - bend.sum(axis=1) / first), 0.0)
