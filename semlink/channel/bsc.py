"""Binary symmetric channel (BSC): every bit arrives inverted with probability μ, on its own (IAQ, equation 19)."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semlink.channel.base import Arrival, Carried, Erring, register
from semlink.channel.over_bits import OverBits

QUICK_FLIPS = 50_000
"""Flips to expect of a frame that is sent within a millisecond."""


@register
@dataclass(frozen=True, kw_only=True)
class BinarySymmetricChannel(OverBits, Erring):
    """Every bit arrives inverted with probability `ber`, independently of all others."""

    name = "bsc"

    @property
    def own_ber(self) -> float:
        """μ."""
        return self.ber

    def carries_quickly(self, bits: int) -> bool:
        """The time goes with the number of flips."""
        return self.ber * bits <= QUICK_FLIPS

    def carry(self, frame: Carried, generator: np.random.Generator) -> Arrival:
        """See `OverBits.carry` and `flip_positions`."""
        return Arrival(flip_positions(frame.payload_bits, self.ber, generator))


def flip_positions(bits: int, bit_error_rate: float, generator: np.random.Generator) -> NDArray[np.int64]:
    """Positions of the inverted bits, drawn by geometric skips: the cost follows their number, not `bits`.

    Between two inverted bits lie K intact ones, P(K = k) = μ(1-μ)^k. Inverting that distribution,
    K = floor(E / -ln(1-μ)) with E exponential of mean 1 (Devroye, Non-Uniform Random Variate Generation, 1986,
    X.2). The draws are made in chunks, and one draw after another, so that the size of the chunks does not show:
    more exposed bits only append positions.

    Args:
        bits: how many bits are exposed, ≥ 0.
        bit_error_rate: μ, in [0, 1].
        generator: the source of all randomness.

    Returns:
        (F,) positions within [0, bits), ascending, each once; F is binomial(bits, μ).
    """
    if bit_error_rate in (0, 1):
        return np.arange(bits if bit_error_rate else 0, dtype=np.int64)
    mean_skip = min(-1 / math.log1p(-bit_error_rate), 1e300)  # times a draw, it stays finite
    chunk = 16 + int(1.1 * bits * bit_error_rate)  # nearly always the only one
    chunks = []
    last = -1
    while last < bits:
        skips = generator.standard_exponential(chunk) * mean_skip
        # A skip beyond the end is as good as a longer one, and its sums fit an integer.
        positions = last + np.cumsum(np.minimum(skips, bits).astype(np.int64) + 1)  # astype is floor here
        chunks.append(positions)
        last = int(positions[-1])
    positions = np.concatenate(chunks)
    return positions[: np.searchsorted(positions, bits)]
