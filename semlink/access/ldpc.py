"""LDPC codes of 5G NR (3GPP TS 38.212, Sections 5.3.2 and 5.4.2.1): base graphs, lifting, encoder, rate matching.

A code is quasi-cyclic: every entry of its base graph stands for a Z×Z identity matrix whose columns are shifted,
or for zeros. Blocks of bits are therefore kept as (columns of the base graph, Z, number of blocks), in which a
shifted identity is a roll along the middle axis. There is no CRC, no segmentation and no interleaver here.
"""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from semlink.checks import integer_within

BASE_GRAPHS = Path(__file__).with_name("ldpc_base_graphs.csv")
"""Tables 5.3.2-2 and 5.3.2-3: graph, row and column of each entry that is not zero, and its shift in 8 sets."""

SHORTEST_BLOCK = 12
"""Fewest information bits of a code block, those of the smallest block of 5G's channels with this code."""
LONGEST_BLOCK = {1: 8448, 2: 3840}
"""Most information bits of a block, by base graph: 22 and 10 columns of 384."""
LONGEST_OF_LOW_RATE = 3824
"""Most information bits of a block that has all rates down to the lowest of base graph 2."""
LOWEST_RATE = {1: 1 / 3, 2: 1 / 5}
"""By base graph; lower rates would repeat bits."""
HIGHEST_RATE = 0.95

_SETS = (
    (2, 4, 8, 16, 32, 64, 128, 256), (3, 6, 12, 24, 48, 96, 192, 384), (5, 10, 20, 40, 80, 160, 320),
    (7, 14, 28, 56, 112, 224), (9, 18, 36, 72, 144, 288), (11, 22, 44, 88, 176, 352), (13, 26, 52, 104, 208),
    (15, 30, 60, 120, 240),
)  # fmt: skip
"""Lifting sizes Z by set index (Table 5.3.2-1)."""
_INFORMATION_COLUMNS = {1: 22, 2: 10}
_CORE = 4
"""Rows and columns of the core parity bits: one column of weight 3, then a double diagonal."""


class Entry(NamedTuple):
    """A shifted identity of the lifted base graph: check i has bit (i + shift) mod Z of the column."""

    column: int
    shift: int


@dataclass(frozen=True)
class Ldpc:
    """The code of k information bits and n bits on the air.

    Attributes:
        k: information bits of a block.
        n: bits of a block on the air, the first that rate matching takes: redundancy version 0.

    Raises:
        ValueError: 5G has no such code.
    """

    k: int
    n: int

    def __post_init__(self) -> None:
        """Refuses lengths and rates that 5G does not have."""
        integer_within("k", self.k, SHORTEST_BLOCK, LONGEST_BLOCK[1])
        integer_within("n", self.n, 1, 2**31)
        if self.rate > HIGHEST_RATE:
            raise ValueError(f"k/n must be at most {HIGHEST_RATE}, not {self.k}/{self.n}")
        # As fractions: k·3 ≥ n and k·5 ≥ n are exact.
        if self.k > LONGEST_BLOCK[self.graph] or round(1 / LOWEST_RATE[self.graph]) * self.k < self.n:
            raise ValueError(
                f"no code of {self.k} bits at rate {self.rate:.3f}: base graph {self.graph} has at most "
                f"{LONGEST_BLOCK[self.graph]} bits and rates from {LOWEST_RATE[self.graph]:.3f}"
            )

    @property
    def rate(self) -> float:
        """R = k/n."""
        return self.k / self.n

    @cached_property
    def graph(self) -> int:
        """Base graph, 1 or 2 (Section 7.2.2)."""
        short = self.k <= 292 or (self.k <= LONGEST_OF_LOW_RATE and self.rate <= 0.67) or self.rate <= 0.25
        return 2 if short else 1

    @cached_property
    def lifting(self) -> int:
        """Z: the smallest size that gives the information bits room (Section 5.2.2)."""
        return min(z for sizes in _SETS for z in sizes if z * self._filled_columns >= self.k)

    @property
    def information_columns(self) -> int:
        """Columns of the base graph that carry information, fillers included."""
        return _INFORMATION_COLUMNS[self.graph]

    @property
    def fillers(self) -> slice:
        """Bits behind the information that are known to be 0 and not sent."""
        return slice(self.k, self.information_columns * self.lifting)

    @property
    def columns(self) -> int:
        """Columns that matter: each row past the core has one new bit, and is left out where that is not sent."""
        last: int = 2 * self.lifting + self.fillers.stop - self.fillers.start + self.n
        return max(-(-last // self.lifting), self.information_columns + _CORE)

    @cached_property
    def rows(self) -> tuple[tuple[Entry, ...], ...]:
        """Entries of each row of the lifted base graph that matters, by ascending column."""
        set_index = next(index for index, sizes in enumerate(_SETS) if self.lifting in sizes)
        rows: list[list[Entry]] = [[] for _ in range(self.columns - self.information_columns)]
        for row, column, *shifts in _base_graph(self.graph):
            if row < len(rows):
                rows[row].append(Entry(column, shifts[set_index] % self.lifting))
        return tuple(map(tuple, rows))

    @cached_property
    def sent(self) -> NDArray[np.int64]:
        """(n,) bits that go on the air, counted among all: the first two columns and the fillers do not."""
        bits = np.arange(2 * self.lifting, self.columns * self.lifting)
        fillers = self.fillers
        sent: NDArray[np.int64] = bits[(bits < fillers.start) | (bits >= fillers.stop)][: self.n]
        return sent

    def encode(self, information: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bits on the air.

        >>> code = Ldpc(k=20, n=50)
        >>> code.encode(np.zeros((3, 20), np.uint8)).sum(), code.encode(np.ones((3, 20), np.uint8)).shape
        (np.uint64(0), (3, 50))

        Args:
            information: (B, k) values 0 and 1.

        Returns:
            (B, n) values 0 and 1.

        Raises:
            ValueError: these are no blocks of bits.
        """
        information = np.asarray(information)
        if information.ndim != 2 or information.shape[1] != self.k or information.dtype != np.uint8:
            raise ValueError(f"information must be (blocks, {self.k}) uint8, not {np.shape(information)}")
        if information.size and information.max() > 1:
            raise ValueError("information must be 0 and 1")
        z, first = self.lifting, self.information_columns
        bits = np.zeros((self.columns, z, len(information)), np.uint8)
        of_bit = bits.reshape(self.columns * z, len(information))
        of_bit[: self.k] = information.T

        def parity(row: int, below: int) -> NDArray[np.uint8]:
            """Sum of a row's bits in the columns below a number."""
            total = np.zeros((z, len(information)), np.uint8)
            for column, shift in self.rows[row]:
                if column < below:
                    total ^= np.roll(bits[column], -shift, axis=0)
            return total

        # In the sum of the core rows the double diagonal cancels, and of the column of weight 3 two entries do.
        core = [parity(row, first) for row in range(_CORE)]
        shifts = [entry.shift for row in self.rows[:_CORE] for entry in row if entry.column == first]
        odd = next(shift for shift in shifts if shifts.count(shift) % 2)
        bits[first] = np.roll(core[0] ^ core[1] ^ core[2] ^ core[3], odd, axis=0)
        for row in range(_CORE - 1):  # down the diagonal: each row has one bit that is not known yet
            bits[first + row + 1] = parity(row, first + row + 1)
        for row in range(_CORE, len(self.rows)):
            bits[first + row] = parity(row, first + row)
        return np.ascontiguousarray(of_bit[self.sent].T)

    @property
    def _filled_columns(self) -> int:
        """Columns that Section 5.2.2 counts on for the information bits."""
        if self.graph == 1:
            return 22
        return 10 if self.k > 640 else 9 if self.k > 560 else 8 if self.k > 192 else 6


@lru_cache(maxsize=2)
def _base_graph(graph: int) -> list[list[int]]:
    """Row, column and the shifts in all sets of each entry."""
    table = np.loadtxt(BASE_GRAPHS, np.int64, delimiter=",", skiprows=1)
    return [entry[1:].tolist() for entry in table if entry[0] == graph]


def cut_into_blocks(bits: int, rate: float) -> tuple[int, int, int]:
    """The fewest blocks of equal size that carry so many bits at a rate.

    >>> cut_into_blocks(10_000, 0.5)
    (2, 5000, 10000)

    Args:
        bits: at least 1; the last block is filled up with zeros.
        rate: R within [1/5, 0.95]. Rounding n up makes it a little lower.

    Returns:
        Number of blocks, k and n of each.
    """
    most = LONGEST_BLOCK[1] if rate > 1 / 3 else LONGEST_OF_LOW_RATE
    blocks = -(-bits // most)
    k = max(-(-bits // blocks), SHORTEST_BLOCK)
    return blocks, k, max(math.ceil(k / rate), 1)
