"""The value to expect behind a received code: dequantization that allows for bit errors."""

from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.source.iaq.quantizer import dequantize

ITERATIONS = 30
"""Steps of the estimate of how often each code was sent."""


def posterior_mean(
    codes: ArrayLike, bits: ArrayLike, low: float, high: float, bit_error_rate: float
) -> NDArray[np.float64]:
    """Mean of the cell centre that was sent, given the code that was received over a binary symmetric channel.

    By Bayes: P(sent s | received r) is proportional to p(s)·μ^d·(1-μ)^(M-d), where d bits of s and r differ. The
    prior p, how often each code of M bits was sent, is estimated from the received codes of all patches of M bits
    by expectation maximisation from a uniform start (Richardson 1972, Lucy 1974). Not in the papers, whose
    receiver takes the centre of the received cell.

    Args:
        codes: (N, K) integer codes, each below 2^M_i.
        bits: (N,) bits M_i, integers in 0..8.
        low: u_min.
        high: u_max, ≥ low.
        bit_error_rate: μ, in [0, 1/2]; 0 gives the cell centres.

    Returns:
        (N, K) float64 values within [low, high].

    Raises:
        ValueError: a shape does not fit, or a value is outside these ranges.
    """
    if not 0 <= bit_error_rate <= 0.5:
        raise ValueError(f"bit_error_rate must be within [0, 1/2], not {bit_error_rate}")
    values = dequantize(codes, bits, low, high)
    if bit_error_rate == 0:
        return values
    codes, bits = np.asarray(codes), np.asarray(bits)
    for width in np.unique(bits[bits > 0]).astype(int):
        patches = bits == width
        levels = np.arange(2**width)
        becomes = _transitions(width, bit_error_rate)
        sent = _sent(np.bincount(codes[patches].ravel(), minlength=levels.size), becomes)
        centres = dequantize(levels[None], [width], low, high)[0]
        expected = becomes @ (sent * centres) / (becomes @ sent)
        values[patches] = expected[codes[patches]]
    return values


def _transitions(bits: int, bit_error_rate: float) -> NDArray[np.float64]:
    """(2^M, 2^M) probability that one code becomes another; symmetric."""
    bit = np.array([[1 - bit_error_rate, bit_error_rate], [bit_error_rate, 1 - bit_error_rate]])
    return reduce(np.kron, [bit] * bits)


def _sent(received: NDArray[np.int64], becomes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2^M,) how often each code was sent, of how often each was received."""
    sent = np.full(received.size, 1 / received.size)
    for _ in range(ITERATIONS):
        sent *= becomes @ (received / received.sum() / (becomes @ sent))
    return sent
