"""Rates and powers of blocks in logarithms, in which one is close to a straight line over the other."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LAST_STEP = 1e-7
"""In the logarithms of power and latency; Newton's error after such a step is about its square."""
MOST_STEPS = 300
"""Every step that is not Newton's halves a bracket; this many are never needed."""


class LogRates(NamedTuple):
    """Rates, and how they rise with power."""

    log_rate: NDArray[np.float64]
    """(N,) ln R; -inf where nothing gets through."""
    elasticity: NDArray[np.float64]
    """(N,) d ln R/d ln P, > 0; 1 where nothing gets through."""


def log_rates(
    log_power: NDArray[np.float64], snr: NDArray[np.float64], bandwidth: float, penalty: float
) -> LogRates:
    """ln R of each block (equations 24 and 38) and its slope over ln P.

    Args:
        log_power: (N,) ln P.
        snr: (N, K) λ²/σ².
        bandwidth: Hz of one subchannel.
        penalty: of the finite block length.
    """
    received = np.exp(log_power)[:, None] * snr
    rate = np.log1p(received)
    slope = received / (1 + received)
    if penalty:
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
    bandwidth: float,
    penalty: float,
    last_step: float = LAST_STEP,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ln P at which each block has its rate, and the elasticity there: Newton in logarithms, within brackets.

    Args:
        log_rate: (N,) ln R wanted.
        start: (N,) ln P to start from.
        snr: (N, K) λ²/σ².
        bandwidth: Hz of one subchannel.
        penalty: of the finite block length.
        last_step: Newton's step of ln P after which it stops.

    Returns:
        (N,) ln P and (N,) d ln R/d ln P.
    """
    log_power = start
    low, high = np.full(start.shape, -np.inf), np.full(start.shape, np.inf)
    for _ in range(MOST_STEPS):
        found = log_rates(log_power, snr, bandwidth, penalty)
        missing = log_rate - found.log_rate
        low = np.where(missing >= 0, log_power, low)
        high = np.where(missing <= 0, log_power, high)
        step = np.clip(missing / found.elasticity, -4, 4)
        if np.abs(step).max() < last_step or (high - low < LAST_STEP**2).all():
            break
        following = log_power + step
        # The other end of the bracket has been looked at.
        outside = np.where(missing > 0, following >= high, (missing < 0) & (following <= low))
        if outside.any():
            following[outside] = (low[outside] + high[outside]) / 2
        log_power = following
    return log_power + step, found.elasticity


def power_curvature(
    log_power: NDArray[np.float64], snr: NDArray[np.float64], penalty: float
) -> NDArray[np.float64]:
    """(N,) φ''(R)·R²/P of the power φ(R) that a rate takes; not below 0 for Shannon's rates.

    Where nothing gets through it is 0.

    Args:
        log_power: (N,) ln P.
        snr: (N, K) λ²/σ².
        penalty: of the finite block length.
    """
    received = np.exp(log_power)[:, None] * snr
    share = received / (1 + received)
    rate, slope, bend = np.log1p(received), share, share * (1 - share)
    if penalty:
        root = np.sqrt(share * (2 - share))
        root_slope = share * (1 - share) ** 2 / root
        root_bend = share * (1 - share) ** 2 * (1 - 3 * share) / root - root_slope**2 / root
        works = rate > penalty * root
        rate = np.where(works, rate - penalty * root, 0)
        slope = np.where(works, slope - penalty * root_slope, 0)
        bend = np.where(works, bend - penalty * root_bend, 0)
    total, first = rate.sum(axis=1), slope.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, (total / first) ** 2 * (1 - bend.sum(axis=1) / first), 0.0)
