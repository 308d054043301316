"""Layout of a payload's blocks: subchannels and OFDM symbols (IA-QSMPA, Sections II and III-A).

A payload is a row of blocks, one a patch. Block i owns N_s·F/G subchannels, rounded down or up, fills them with
its own bits OFDM symbol after OFDM symbol until all are sent, and leaves them idle then.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from semlink.channel.blocks import check_even
from semlink.channel.qam import bits_per_symbol, checked_bits, demodulate_hard, modulate


@dataclass(frozen=True, eq=False)
class BlockLayout:
    """Which block each subchannel carries, and how much of it there is.

    Raises:
        ValueError: a field is not of the form below.
    """

    block_of_subchannel: NDArray[np.int64]
    """(F, N_s) blocks 0..G - 1, each as often as the others or once more, as `map_subcarriers` gives them."""
    bits: NDArray[np.int64]
    """(G,) bits of each block, ≥ 0, in the order in which the payload has them."""
    order: int
    """Number of points of the QAM, the same on all subchannels: one of 4, 16, 64, 256."""

    def __post_init__(self) -> None:
        """Refuses fields of another form."""
        bits_per_symbol(self.order)
        bits = np.asarray(self.bits)
        if bits.ndim != 1 or bits.size == 0 or bits.dtype.kind not in "iu" or bits.min() < 0:
            raise ValueError("bits must be a vector of integers, at least 0")
        blocks = np.asarray(self.block_of_subchannel)
        if blocks.ndim != 2:
            raise ValueError(f"block_of_subchannel must have shape (F, N_s), not {blocks.shape}")
        check_even(blocks, bits.size)
        object.__setattr__(self, "bits", bits.astype(np.int64))
        object.__setattr__(self, "block_of_subchannel", blocks.astype(np.int64))

    @cached_property
    def symbols(self) -> NDArray[np.int64]:
        """(G,) QAM symbols of each block; the last of a block is filled up with zeros."""
        return -(-self.bits // bits_per_symbol(self.order))

    @property
    def ofdm_symbols(self) -> NDArray[np.int64]:
        """(G,) OFDM symbols that each block takes, 0 for an empty one; the largest is the latency of the frame."""
        return -(-self.symbols // self._widths)

    @cached_property
    def subchannels(self) -> NDArray[np.int64]:
        """(Q,) for each QAM symbol of the payload the subchannel f·N_s + r that carries it.

        A block fills its subchannels in ascending order, then goes on with the next OFDM symbol.
        """
        block, number = self._block_and_number
        by_block = np.argsort(self.block_of_subchannel, axis=None, kind="stable")
        first = np.cumsum(self._widths) - self._widths
        return np.asarray(by_block[first[block] + number % self._widths[block]], np.int64)

    @cached_property
    def times(self) -> NDArray[np.int64]:
        """(Q,) for each QAM symbol of the payload the OFDM symbol that carries it."""
        block, number = self._block_and_number
        return np.asarray(number // self._widths[block], np.int64)

    def modulate(self, bits: NDArray[np.uint8]) -> NDArray[np.complex128]:
        """(Q,) QAM symbols of a payload of (Σ self.bits,) values 0 and 1, block after block."""
        bits = checked_bits(bits)
        if bits.size != self.bits.sum():
            raise ValueError(f"bits must be {self.bits.sum()} in number, as the blocks have, not {bits.size}")
        if self._places is not None:
            filled = np.zeros(self.symbols.sum() * bits_per_symbol(self.order), np.uint8)
            filled[self._places] = bits
            bits = filled
        return modulate(bits, self.order)

    def demodulate(self, symbols: NDArray[np.complex128]) -> NDArray[np.uint8]:
        """(Σ self.bits,) payload of (Q,) equalised QAM symbols, by hard decision."""
        bits = demodulate_hard(symbols, self.order)
        return bits if self._places is None else bits[self._places]

    def to_grid(self, values: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """(T, F, N_s) of (Q,) values, one a QAM symbol: what is on the air when and where; 0 where it is idle."""
        grid = np.zeros((int(self.ofdm_symbols.max()), *self.block_of_subchannel.shape), np.complex128)
        grid.reshape(len(grid), self.block_of_subchannel.size)[self.times, self.subchannels] = values
        return grid

    def from_grid(self, grid: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """(Q,) values of the payload's QAM symbols, of (T, F, N_s)."""
        return grid.reshape(len(grid), self.block_of_subchannel.size)[self.times, self.subchannels]

    @cached_property
    def _widths(self) -> NDArray[np.int64]:
        """(G,) subchannels of each block."""
        return np.bincount(self.block_of_subchannel.ravel(), minlength=self.bits.size)

    @cached_property
    def _block_and_number(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(Q,) the block of each QAM symbol, and which of the block's it is."""
        ends = np.cumsum(self.symbols)
        block = np.repeat(np.arange(ends.size), self.symbols)
        return block, np.arange(ends[-1]) - (ends - self.symbols)[block]

    @cached_property
    def _places(self) -> NDArray[np.int64] | None:
        """(Σ bits,) where the payload's bits lie among those of the symbols; None if no symbol is filled up."""
        fillings = self.symbols * bits_per_symbol(self.order) - self.bits
        if not fillings.any():
            return None
        before = np.cumsum(fillings) - fillings
        return np.asarray(np.arange(self.bits.sum()) + np.repeat(before, self.bits), np.int64)
