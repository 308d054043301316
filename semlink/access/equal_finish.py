"""Powers with which all blocks finish at the same time, the earliest possible: exact, for any rate that rises."""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.access.log_rates import LAST_STEP, MOST_STEPS, log_rates, powers_for_rates
from semlink.channel.blocks import Blocks
from semlink.checks import finite_vector

FIRST_STEPS = 8
HALVINGS = 60


class Finish(NamedTuple):
    """Powers and the latency that they share."""

    power: NDArray[np.float64]
    """(N,) P[i]; they add up to the budget. All 0 where the latency is infinite."""
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
    method on all powers at once have led.

    Args:
        bits: (N,) bits B[i], real, ≥ 0, not all 0. A block without bits gets no power.
        blocks: the subchannels.

    Raises:
        ValueError: an argument is outside these ranges.
    """
    bits = finite_vector("bits", bits)
    if bits.size != blocks.count or (bits < 0).any() or not bits.any():
        raise ValueError(f"bits must be {blocks.count} numbers, 0 or more, not all 0")
    if not bits.all():
        used = bits > 0
        finish = equal_finish(bits[used], replace(blocks, gains=blocks.gains[used]))
        power = np.zeros(bits.size)
        power[used] = finish.power
        return Finish(power, finish.latency)
    if least_power(blocks).sum() >= blocks.power_budget:
        return Finish(np.zeros(bits.size), np.inf)
    load = np.log(blocks.values_per_segment * bits)
    budget = np.log(blocks.power_budget)
    snr = np.square(blocks.gains) / blocks.noise_power
    # With equal power for all, the slowest block is slower than at the optimum, the fastest is faster.
    log_power = np.full(bits.size, budget - np.log(bits.size))
    speeds, elasticity = log_rates(log_power, snr, blocks.bandwidth, blocks.penalty)
    speeds -= load
    low, high = speeds.min(), speeds.max()
    speed = speeds[np.isfinite(speeds)].mean()
    for _ in range(FIRST_STEPS):
        # Newton's method on all powers and the common speed at once: quick, but it may go astray.
        shares = np.exp(log_power - budget)
        works = np.isfinite(speeds)
        pull = shares[works] / elasticity[works]
        speed = float(np.clip((1 - shares.sum() + pull @ speeds[works]) / pull.sum(), low, high))
        step = np.clip((speed - speeds) / elasticity, -2, 2)
        log_power = log_power + step
        if np.abs(step).max() < 1e-3:
            break
        speeds, elasticity = log_rates(log_power, snr, blocks.bandwidth, blocks.penalty)
        speeds -= load
    for _ in range(MOST_STEPS):
        log_power, elasticity = powers_for_rates(load + speed, log_power, snr, blocks.bandwidth, blocks.penalty)
        largest = log_power.max()
        shares = np.exp(log_power - largest)
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
    power *= blocks.power_budget / power.sum()
    return Finish(power, float(blocks.latencies(bits, power).max()))


def least_power(blocks: Blocks) -> NDArray[np.float64]:
    """(N,) power P[i] above which block i has a rate at all: 0 without a penalty."""
    penalty = blocks.penalty
    if penalty == 0:
        return np.zeros(blocks.count)
    # The least SNR is near 2·penalty² if that is low, and below exp(penalty) - 1 as √U < 1: halved between.
    low, high = 1e-6 * min(penalty, 1) ** 2, math.expm1(penalty)
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        works = math.log1p(middle) > penalty * math.sqrt(middle * (2 + middle)) / (1 + middle)
        low, high = (low, middle) if works else (middle, high)
    return high * blocks.noise_power / np.square(blocks.gains.max(axis=1))
