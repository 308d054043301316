"""IA-QSMPA for a finite block length, as printed: Theorem 2 and Section IV-C, with the linearised rate."""

import numpy as np
from numpy.typing import ArrayLike

from semlink.access.equal_finish import Finish
from semlink.channel.blocks import Blocks
from semlink.checks import finite_vector


def theorem_2_power(bits: ArrayLike, blocks: Blocks) -> Finish:
    """Powers P[i] for given bits by the linearised rate (31): IA-QSMPA, Theorem 2 (36)-(37) and equation 40.

    The latency constraint (51b) of block i, with its case chosen by the SNR γ⁽⁰⁾ under equal powers, reads
    γ[i] = c_i + a_i/y, where a_i = D·B[i]·ln 2/(α·Δf) and c_i = (1 - α)/α below γ⁽⁰⁾ = 1, else
    a_i = D·B[i]·ln 2/Δf and c_i = 2(1 - α). With s_i = σ²/λ²[i] the power budget S gives the one y they share,
    y = Σ s_i·a_i/(S - Σ s_i·c_i); where the denominator is not positive no y meets the budget, and the latency is
    infinite.

    Two deviations from the print. (37) as printed gives two values of y when blocks lie on both sides of γ = 1.
    And the theorem does not iterate: y belongs to the linearised rate while the caps (26) use the true one, so
    that in a second round they add up to less than the bits to place; only the first round is run.

    Args:
        bits: (N,) B[i], > 0.
        blocks: the subchannels, with the penalty 2(1 - α) < 2.

    Returns:
        The powers, and the y in seconds that the linearised rate of the blocks' mean gains promises.

    Raises:
        ValueError: bits are not N numbers above 0, or the penalty is 2 or more.
    """
    bits = finite_vector("bits", bits)
    if bits.size != blocks.count or (bits <= 0).any():
        raise ValueError(f"bits must be {blocks.count} numbers above 0")
    alpha = 1 - blocks.penalty / 2
    if alpha <= 0:
        raise ValueError(f"penalty must be below 2, or the linear rate does not rise, not {blocks.penalty}")
    mean = blocks.averaged()
    inverse_gain = mean.noise_power / mean.gains[:, 0] ** 2
    low = blocks.power_budget / blocks.count / inverse_gain < 1
    per_second = mean.values_per_segment * bits * np.log(2) / mean.bandwidth / np.where(low, alpha, 1)
    constant = np.where(low, (1 - alpha) / alpha, 2 * (1 - alpha))
    left = blocks.power_budget - inverse_gain @ constant
    if left <= 0:
        return Finish(np.zeros(bits.size), np.inf)
    latency = float(inverse_gain @ per_second / left)
    return Finish(inverse_gain * (constant + per_second / latency), latency)
