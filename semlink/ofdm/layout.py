"""Where the blocks of a payload go: subchannels and OFDM symbols (IA-QSMPA, Sections II and III-A).

A payload is a row of blocks, one a patch. Block i owns N_s·F/G subchannels, fills them with its own bits OFDM
symbol after OFDM symbol until all are sent, and leaves them idle then.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from semlink.ofdm.qam import bits_per_symbol, checked_bits, demodulate_hard, modulate


@dataclass(frozen=True, eq=False)
class BlockLayout:
    """Which subchannels carry which block of a payload.

    Raises:
        ValueError: a field is not of the form below.
    """

    subchannels: NDArray[np.int64]
    """(G, N_s·F/G) indices f·N_s + r, each at most once; row i belongs to block i of the payload."""
    bits: NDArray[np.int64]
    """(G,) bits of each block, ≥ 0, in the order in which the payload has them."""
    order: int
    """Number of points of the QAM, the same on all subchannels."""

    def __post_init__(self) -> None:
        """Refuses fields of another form."""
        bits_per_symbol(self.order)
        for name in ("subchannels", "bits"):
            values = np.asarray(getattr(self, name))
            if values.dtype.kind not in "iu" or values.size == 0 or values.min() < 0:
                raise ValueError(f"{name} must be integers, at least 0")
            object.__setattr__(self, name, values.astype(np.int64))
        if self.subchannels.ndim != 2 or np.bincount(self.subchannels.ravel()).max() > 1:
            raise ValueError("subchannels must have shape (G, n), each index at most once")
        if self.bits.shape != self.subchannels.shape[:1]:
            raise ValueError(f"bits must have shape ({len(self.subchannels)},), not {self.bits.shape}")

    @cached_property
    def symbols(self) -> NDArray[np.int64]:
        """(G,) QAM symbols of each block; the last of a block is filled up with zeros."""
        return -(-self.bits // bits_per_symbol(self.order))

    @property
    def ofdm_symbols(self) -> NDArray[np.int64]:
        """(G,) OFDM symbols that each block takes, 0 for an empty one; the largest is the latency of the frame."""
        return -(-self.symbols // self.subchannels.shape[1])

    @cached_property
    def slots(self) -> NDArray[np.int64]:
        """(Q,) for each QAM symbol of the payload, its place in `subchannels`, counted row by row."""
        block, number = self._blocks_and_numbers
        width = self.subchannels.shape[1]
        return block * width + number % width

    @cached_property
    def times(self) -> NDArray[np.int64]:
        """(Q,) for each QAM symbol of the payload, its OFDM symbol."""
        return self._blocks_and_numbers[1] // self.subchannels.shape[1]

    @cached_property
    def _blocks_and_numbers(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        ends = np.cumsum(self.symbols)
        block = np.repeat(np.arange(ends.size), self.symbols)
        return block, np.arange(ends[-1]) - (ends - self.symbols)[block]

    def modulate(self, bits: NDArray[np.uint8]) -> NDArray[np.complex128]:
        """(Q,) QAM symbols of a payload of (Σ bits,) values 0 and 1, block after block."""
        bits = checked_bits(bits)
        if bits.size != self.bits.sum():
            raise ValueError(f"bits must be {self.bits.sum()} in number, as the blocks have, not {bits.size}")
        if self._places is not None:
            filled = np.zeros(self.symbols.sum() * bits_per_symbol(self.order), np.uint8)
            filled[self._places] = bits
            bits = filled
        return modulate(bits, self.order)

    def demodulate(self, symbols: NDArray[np.complex128]) -> NDArray[np.uint8]:
        """(Σ bits,) payload of (Q,) equalised QAM symbols, by hard decision."""
        bits = demodulate_hard(symbols, self.order)
        return bits if self._places is None else bits[self._places]

    @cached_property
    def _places(self) -> NDArray[np.int64] | None:
        """(Σ bits,) where the payload's bits lie among those of the symbols; None if no block is filled up."""
        fillings = self.symbols * bits_per_symbol(self.order) - self.bits
        if not fillings.any():
            return None
        return np.arange(self.bits.sum()) + np.repeat(np.cumsum(fillings) - fillings, self.bits)

    def grid(self, values: NDArray[np.complex128], subchannels: int) -> NDArray[np.complex128]:
        """(T, subchannels) what is on each subchannel at each OFDM symbol, of (Q,) values; 0 where it is idle."""
        grid = np.zeros((int(self.ofdm_symbols.max()), subchannels), np.complex128)
        grid[self.times, self.subchannels.flat[self.slots]] = values
        return grid

    def read(self, grid: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """(Q,) values of the payload's QAM symbols, of (T, subchannels)."""
        return grid[self.times, self.subchannels.flat[self.slots]]
