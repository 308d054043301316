"""Powers that know nothing of bits: the same for all, and capacity water-filling."""

import numpy as np
from numpy.typing import NDArray

from semlink.channel.blocks import Blocks


def uniform_power(blocks: Blocks) -> NDArray[np.float64]:
    """(N,) the same power for every block (IA-QSMPA, Section V, Fixed P)."""
    return np.full(blocks.count, blocks.power_budget / blocks.count)


def capacity_water_filling(blocks: Blocks) -> NDArray[np.float64]:
    """(N,) powers max(μ - σ²/λ²[i], 0) that maximise the sum of Shannon's rates (IA-QSMPA, Section V, WF).

    Over the blocks' mean gains (8), as every power of the paper. A block too weak for the water level gets no
    power and never finishes: at low SNR the latency of this baseline is infinite.
    """
    floor = blocks.noise_power / blocks.gains.mean(axis=1) ** 2
    ascending = np.sort(floor)
    levels = (blocks.power_budget + np.cumsum(ascending)) / np.arange(1, floor.size + 1)
    # The water stands above the deepest blocks only, as many as lie below the level they share.
    level = levels[np.count_nonzero(levels > ascending) - 1]
    return np.maximum(level - floor, 0)
