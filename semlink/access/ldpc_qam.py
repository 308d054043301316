"""Unequal error protection (UEP): an access scheme of LDPC codes and QAM, whose code rates follow from importance.

Both ends compute the same protection from the frame's header, the SNR and the budget, with nothing sent for it:

1. Segments are grouped by importance into J ≤ 16 levels, the most important first.
2. A code block of level j is to fail with probability ε_j = 10^(-4 + 2j/(J-1)): 10⁻⁴ in the first, 10⁻² in the
   last. Its rate R_j is what `semlink.access.bicm.code_rate` allows for ε_j, but no higher than the rate of any
   level behind it, which may have shorter blocks.
3. Levels are sent in this order until the channel uses L = r·H·W·C are spent. Of the level that no longer fits, as
   many segments are sent as do; these and all behind them are lost.

A code block whose parity checks do not hold is known to have failed, and the segments that it carries some of are
lost. A block that holds with wrong bits is rare; they arrive inverted.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semlink.access import belief_propagation
from semlink.access.bicm import code_rate
from semlink.access.ldpc import LONGEST_BLOCK, Ldpc, cut_into_blocks
from semlink.access.symbol_link import SymbolLink
from semlink.access.uncoded_qam import modulate_filled
from semlink.channel.base import Arrival, Carried, payload_values
from semlink.channel.qam import bits_per_symbol, demodulate_soft
from semlink.channel.segments import lost_segments

MOST_LEVELS = 16
FIRST_ERROR, LAST_ERROR = 1e-4, 1e-2
"""Block error rates aimed at: of the most important level, and of the least."""


@dataclass(frozen=True, eq=False)
class Level:
    """Segments that share a code.

    Attributes:
        segments: their numbers, ascending.
        blocks: code blocks that carry them one behind the other, the last filled up with zeros.
        code: of each block.
    """

    segments: NDArray[np.intp]
    blocks: int
    code: Ldpc

    @property
    def coded_bits(self) -> int:
        """Bits on the air."""
        return self.blocks * self.code.n


def importance_levels(importance: NDArray[np.float64]) -> NDArray[np.intp]:
    """(N,) the level of each segment, 0 for the most important; equal importance, equal level.

    >>> importance_levels(np.array([0.5, 1, 0, 0.5]))
    array([1, 0, 2, 1])
    """
    distinct, rank = np.unique(-importance, return_inverse=True)
    levels: NDArray[np.intp] = rank.astype(np.intp)
    return levels if distinct.size <= MOST_LEVELS else levels * MOST_LEVELS // distinct.size


def protection(
    importance: NDArray[np.float64],
    segment_bits: NDArray[np.int64],
    channel_uses: int,
    *,
    order: int,
    snr_db: float,
    fades: bool,
) -> list[Level]:
    """What is sent, the most important level first; see the module's text for the rule.

    Args:
        importance: (N,) of each segment; only its order counts.
        segment_bits: (N,) ≥ 0.
        channel_uses: L, the most symbols that all levels may take together.
        order: of the QAM.
        snr_db: mean E_s/N0 in dB.
        fades: Rayleigh fading that the receiver knows, another for every symbol.

    Returns:
        Levels whose coded bits fill at most L symbols; segments that are in none of them are not sent.
    """
    sent = np.flatnonzero(segment_bits)
    sent = sent[np.argsort(-importance[sent], kind="stable")]
    levels = importance_levels(importance[sent])
    members = [sent[levels == level] for level in np.unique(levels)]
    left = channel_uses * bits_per_symbol(order)
    found = []
    for segments, rate in zip(members, _rates(members, segment_bits, order, snr_db, fades), strict=True):
        fitting = _that_fit(segments, segment_bits, rate, left)
        if fitting.size:
            blocks, k, n = cut_into_blocks(int(segment_bits[fitting].sum()), rate)
            found.append(Level(np.sort(fitting), blocks, Ldpc(k, n)))
            left -= found[-1].coded_bits
        if fitting.size < segments.size:
            break
    return found


def send(frame: Carried, link: SymbolLink) -> Arrival:
    """Sends a payload within the channel uses of the bandwidth ratio.

    Raises:
        ValueError: the payload is of no picture, so that the ratio says nothing.
    """
    if not frame.values:
        raise ValueError("values: the channel bandwidth ratio is of a picture's values, and these bits have none")
    values, segment_bits = payload_values(frame), frame.segment_bits
    levels = protection(
        frame.importance,
        segment_bits,
        link.budget(frame.values),
        order=link.order,
        snr_db=link.snr_db,
        fades=link.fades,
    )
    missing = segment_bits > 0
    if not levels:
        return Arrival(np.empty(0, np.int64), np.flatnonzero(missing), channel_uses=0)
    places = [np.flatnonzero(_chosen(level.segments, segment_bits)) for level in levels]
    information = [_in_blocks(values[place], level) for place, level in zip(places, levels, strict=True)]
    coded = [level.code.encode(each).ravel() for level, each in zip(levels, information, strict=True)]
    symbols = modulate_filled(np.concatenate(coded), link.order)
    received = link.use(symbols)
    ratios = demodulate_soft(received.symbols, link.order, link.noise_powers(received))
    wrong = np.zeros(values.size, bool)
    begin = 0
    for level, sent, place in zip(levels, information, places, strict=True):
        end = begin + level.coded_bits
        decoded = belief_propagation.decode(level.code, ratios[begin:end].reshape(level.blocks, -1))
        begin = end
        failed = lost_segments(segment_bits[level.segments], ~decoded.holds, level.code.k)
        missing[np.delete(level.segments, failed)] = False
        wrong[place] = (decoded.information != sent).ravel()[: place.size]
    wrong &= ~np.repeat(missing, segment_bits)
    return Arrival(np.flatnonzero(wrong), np.flatnonzero(missing), channel_uses=symbols.size)


def _rates(
    members: list[NDArray[np.intp]], segment_bits: NDArray[np.int64], order: int, snr_db: float, fades: bool
) -> list[float]:
    """R_j of each level: never higher than that of one behind it."""
    errors = np.geomspace(FIRST_ERROR, LAST_ERROR, len(members))  # of one level, the first
    rates = []
    for segments, error in zip(members, errors, strict=True):
        longest = min(int(segment_bits[segments].sum()), LONGEST_BLOCK[1])
        rates.append(code_rate(longest, float(error), order=order, snr_db=snr_db, fading=fades))
    return [min(rates[level:]) for level in range(len(rates))]


def _that_fit(
    segments: NDArray[np.intp], segment_bits: NDArray[np.int64], rate: float, left: int
) -> NDArray[np.intp]:
    """The most important segments of a level, as many as so many coded bits carry."""
    ends = np.cumsum(segment_bits[segments])
    count = int(np.searchsorted(ends, left, side="right"))  # coded, they take more
    while count:
        blocks, _, n = cut_into_blocks(int(ends[count - 1]), rate)
        if blocks * n <= left:
            break
        count -= 1
    return segments[:count]


def _chosen(segments: NDArray[np.intp], segment_bits: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(payload bits,) which are of these segments."""
    chosen = np.zeros(segment_bits.size, bool)
    chosen[segments] = True
    return np.repeat(chosen, segment_bits)


def _in_blocks(values: NDArray[np.uint8], level: Level) -> NDArray[np.uint8]:
    """(blocks, k) of a level's bits."""
    blocks = np.zeros(level.blocks * level.code.k, np.uint8)
    blocks[: values.size] = values
    return blocks.reshape(level.blocks, -1)
