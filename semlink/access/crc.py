"""CRC of 5G NR (3GPP TS 38.212, Section 5.1): parity bits that tell a receiver whether a code block is right.

They are sent inverted, as if scrambled with an identity of ones (Section 7.3.2): a block of zeros, which is what a
decoder makes of nothing at all, is then none that holds.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

CRC24A, CRC16 = 0x864CFB, 0x1021
"""Generator polynomials g_CRC24A and g_CRC16 without their highest term, bit i the coefficient of D^i."""
LONGEST_OF_CRC16 = 3824
"""Information bits up to which 16 bits are enough (Section 7.2.1); longer blocks have 24."""


def crc_bits(information: int) -> int:
    """Parity bits L of a block of so many information bits: 16 or 24."""
    return 16 if information <= LONGEST_OF_CRC16 else 24


def attach_crc(information: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blocks with their parity bits behind them.

    >>> attach_crc(np.ones((1, 4), np.uint8))
    array([[1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0]],
          dtype=uint8)

    Args:
        information: (B, A) values 0 and 1, the first of a block the highest power of D.

    Returns:
        (B, A + L).
    """
    return np.concatenate([information, _parity(information)], axis=1)


def crc_holds(blocks: NDArray[np.uint8], information: int) -> NDArray[np.bool_]:
    """(B,) whether the parity bits of (B, A + L) blocks are those of their first A = `information` bits."""
    holds: NDArray[np.bool_] = (_parity(blocks[:, :information]) == blocks[:, information:]).all(axis=1)
    return holds


def _parity(information: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(B, L) inverted sum of the remainders of the powers of D that (B, A) bits stand for."""
    sums = information.astype(np.float32) @ _remainders(information.shape[1])  # counts, exact in float32
    return (1 - (sums.astype(np.int64) & 1)).astype(np.uint8)


@lru_cache(maxsize=64)
def _remainders(information: int) -> NDArray[np.float32]:
    """(A, L) bits of D^(A - 1 - i + L) mod g, for each information bit i."""
    width = crc_bits(information)
    generator = CRC16 if width == 16 else CRC24A
    remainder, found = generator, np.empty(information, np.int64)  # D^L mod g is g without its highest term
    for power in range(information):
        found[information - 1 - power] = remainder
        remainder <<= 1
        if remainder >> width:
            remainder ^= 1 << width | generator
    return ((found[:, None] >> np.arange(width - 1, -1, -1)) & 1).astype(np.float32)
