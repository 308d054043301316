"""Unequal error protection (UEP) of a whole frame: the access scheme `ldpc`, LDPC codes with a CRC in every block.

Both ends compute the same protection from the frame's header and the bit error rate μ that the code is designed
for, with nothing sent for it:

1. The header comes first, in blocks of its own. It is coded for a bit error rate of 2μ: who has been told half of
   the true rate still gets it through.
2. The payload's segments are grouped by importance into J ≤ `MOST_LEVELS` levels of about as many bits each, the
   most important first; a level has `LEVEL_BITS` or more, since short blocks need more parity.
3. A block of level j is to fail with probability ε_j, from `FIRST_ERROR` to `LAST_ERROR`, its rate no higher than
   that of any level behind it. Rates below 5G's lowest repeat bits (TS 38.212, Section 5.4.2.1).
4. All bits are interleaved, so that a burst of errors meets every block a little.

A block whose parity checks or CRC do not hold is known to be lost, and with it the segments that it carries some
of.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from semlink.access import belief_propagation
from semlink.access.crc import attach_crc, crc_bits, crc_holds
from semlink.access.ldpc import LONGEST_BLOCK, LONGEST_OF_LOW_RATE, LOWEST_RATE, SHORTEST_BLOCK, Ldpc
from semlink.access.symbol_link import AccessRefused
from semlink.channel.base import Arrival, Carried, payload_values
from semlink.channel.segments import WholeFrame, lost_segments
from semlink.parameters import Notation

MOST_DESIGN_BER = 0.2
"""Highest bit error rate that codes are designed for."""
HEADER_MARGIN, LEAST_HEADER_BER, MOST_HEADER_BER = 2.0, 0.01, 0.25
"""The header is coded for so many times μ, but within these bit error rates."""
HEADER_ERROR = 1e-5
"""Block error rate aimed at for the header, at its own bit error rate."""
FIRST_ERROR, LAST_ERROR = 1e-3, 1e-2
"""Block error rates aimed at: of the payload's most important level, and of its least."""
MOST_LEVELS, LEVEL_BITS = 8, 5000
"""Levels of a payload at most, and the fewest bits of each in the mean where there are several."""
MOST_AIR_BITS = 2_000_000
"""Bits on the air of one frame at most: decoding is slow, and what strangers send is bounded."""
BLOCKS_AT_ONCE = 64
"""Blocks that are decoded together: the messages between bits and checks of long ones take some 50 MB."""
LEAST_RATE = 0.05
"""Lowest rate, every bit of the mother code four times."""
CODE_RATE = Notation(
    "μ",
    equation="R = k/n, k = n I - √(n V) Q^-1(ε)\n"
    "I = (1 - 0.11 μ^0.28) (1 + μ log_2 μ + (1 - μ) log_2(1 - μ))\n"
    "V = 2 μ (1 - μ) (log_2((1 - μ)/μ))^2",
    source="Polyanskiy, Poor and Verdú (2010): a block of k bits on n of the air fails with probability ε; 0.11, "
    "0.28 and 2 were fitted to 5G's codes. Over QAM, I and V are those of its bits at the SNR that has this μ",
)
"""Of the bit error rate that codes are designed for; see `hard_decisions.code_rate` and `bicm.code_rate`."""


class Rate(Protocol):
    """Code rates that a channel allows."""

    def __call__(self, k: int, *, error: float, ber: float) -> float:
        """Of a block of k bits that may fail with probability `error` at a bit error rate `ber`."""


@dataclass(frozen=True, kw_only=True)
class BitLink:
    """One frame's way over a channel of bits.

    Attributes:
        design_ber: μ that the code is for, within [0, `MOST_DESIGN_BER`].
        rate: code rates that the channel allows.
        use: (n,) bits on the air, uint8 -> (n,) what arrives, as log P(0)/P(1), 0 where nothing is known. All
            randomness of the channel is in it.
        interleaves: whether bits are interleaved; not where packets are lost as a whole.
    """

    design_ber: float
    rate: Rate
    use: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    interleaves: bool = True


@dataclass(frozen=True, eq=False)
class Level:
    """Segments that share a code.

    Attributes:
        segments: their numbers, ascending.
        blocks: code blocks that carry them one behind the other, the last filled up with zeros.
        information: bits of a block, without its CRC.
        length: bits of a block on the air.
    """

    segments: NDArray[np.intp]
    blocks: int
    information: int
    length: int

    @cached_property
    def code(self) -> Ldpc:
        """Of a block with its CRC."""
        k = self.information + crc_bits(self.information)
        return Ldpc(k, min(self.length, _mother(k)))

    @property
    def rate(self) -> float:
        """Bits of a block with its CRC over those on the air."""
        return self.code.k / self.length

    @property
    def air_bits(self) -> int:
        """Bits on the air."""
        return self.blocks * self.length

    def encode(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(air_bits,) of the segments' bits."""
        information = np.zeros((self.blocks, self.information), np.uint8)
        information.reshape(-1)[: values.size] = values
        coded = self.code.encode(attach_crc(information))
        return coded[:, np.arange(self.length) % self.code.n].ravel()

    def decode(self, ratios: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """(blocks·information,) bits of (air_bits,) ratios, and (blocks,) which are taken as right."""
        n = self.code.n
        repeated = np.zeros((self.blocks, -(-self.length // n) * n), np.float32)
        repeated[:, : self.length] = ratios.reshape(self.blocks, self.length)
        sums = repeated.reshape(self.blocks, -1, n).sum(axis=1)
        information, right = np.empty((self.blocks, self.information), np.uint8), np.empty(self.blocks, bool)
        for begin in range(0, self.blocks, BLOCKS_AT_ONCE):
            batch = slice(begin, begin + BLOCKS_AT_ONCE)
            decoded = belief_propagation.decode(self.code, sums[batch])
            information[batch] = decoded.information[:, : self.information]
            right[batch] = decoded.holds & crc_holds(decoded.information, self.information)
        return information.ravel(), right


def protection(frame: Carried, design_ber: float, rate: Rate) -> list[Level]:
    """How a frame is coded, the most important level first; see the module's text for the rule.

    Args:
        frame: a `WholeFrame`, whose header has a level of its own, or bits that are all of a payload.
        design_ber: μ within [0, `MOST_DESIGN_BER`].
        rate: code rates that the channel allows.

    Raises:
        ValueError: μ is out of its range.
    """
    if not 0 <= design_ber <= MOST_DESIGN_BER:
        raise ValueError(f"design_ber must be within [0, {MOST_DESIGN_BER}], not {design_ber}")
    segment_bits = frame.segment_bits
    found = []
    sent = np.flatnonzero(segment_bits)
    if isinstance(frame, WholeFrame):
        ber = min(max(HEADER_MARGIN * design_ber, LEAST_HEADER_BER), MOST_HEADER_BER)
        found.append(_level(sent[:1], segment_bits, partial(rate, error=HEADER_ERROR, ber=ber)))
        sent = sent[1:]
    members = levels(sent, frame.importance, segment_bits)
    errors = np.geomspace(FIRST_ERROR, LAST_ERROR, len(members))  # of one level, the first
    payload: list[Level] = []
    for segments, error in reversed(list(zip(members, map(float, errors), strict=True))):
        highest = payload[-1].rate if payload else 1.0
        payload.append(_level(segments, segment_bits, partial(rate, error=error, ber=design_ber), highest))
    return found + payload[::-1]


def levels(
    segments: NDArray[np.intp], importance: NDArray[np.float64], segment_bits: NDArray[np.int64]
) -> list[NDArray[np.intp]]:
    """Segments, the most important level first; those of equal importance are in one level.

    >>> bits = np.array([4000, 4000, 4000, 4000])
    >>> levels(np.arange(4), np.array([0.5, 1, 0, 0.5]), bits)
    [array([1]), array([0, 3]), array([2])]
    """
    if not segments.size:
        return []
    distinct, rank = np.unique(-importance[segments], return_inverse=True)
    bits = np.bincount(rank, segment_bits[segments], distinct.size)
    number = min(max(int(bits.sum()) // LEVEL_BITS, 1), MOST_LEVELS)
    middle = np.cumsum(bits) - bits / 2
    level = np.minimum(middle * number / bits.sum(), number - 1).astype(np.intp)[rank]
    return [segments[level == each] for each in np.unique(level)]


def send(frame: Carried, link: BitLink) -> Arrival:
    """Sends a frame, coded.

    Raises:
        AccessRefused: it takes more than `MOST_AIR_BITS` ("length").
    """
    values, segment_bits = payload_values(frame), frame.segment_bits
    coded = protection(frame, link.design_ber, link.rate)
    if (air_bits := sum(level.air_bits for level in coded)) > MOST_AIR_BITS:
        raise AccessRefused(
            "length", f"coded, the frame has {air_bits:,} bits; at most {MOST_AIR_BITS:,} are sent"
        )
    places = [np.flatnonzero(_chosen(level.segments, segment_bits)) for level in coded]
    sent = [level.encode(values[place]) for level, place in zip(coded, places, strict=True)]
    bits = np.concatenate([np.empty(0, np.uint8), *sent])
    order = _interleaver(bits.size) if link.interleaves else np.arange(bits.size)
    ratios = np.empty(bits.size, np.float32)
    ratios[order] = link.use(bits[order])
    wrong, missing = np.zeros(values.size, bool), segment_bits > 0
    begin = read = errors = 0
    for level, place, air in zip(coded, places, sent, strict=True):
        received = ratios[begin : begin + level.air_bits]
        begin += level.air_bits
        decoded, right = level.decode(received)
        failed = lost_segments(segment_bits[level.segments], ~right, level.information)
        missing[np.delete(level.segments, failed)] = False
        wrong[place] = decoded[: place.size] != values[place]
        known = (received != 0) & np.repeat(right, level.length)
        read += int(known.sum())
        errors += int(((received < 0) != air)[known].sum())
    wrong &= ~np.repeat(missing, segment_bits)
    return Arrival(
        np.flatnonzero(wrong),
        np.flatnonzero(missing),
        air_bits=bits.size,
        design_ber=link.design_ber,
        measured_ber=errors / read if read else None,
    )


def revised_design(told: float, measured: float, air_bits: int) -> float:
    """The bit error rate to design for, after a frame has been received under another.

    What was told stands unless the measured rate exceeds it by two standard deviations of such a measurement; then
    it is the measured one and two standard deviations more. A dialogue knows so from its opinion on that the air
    is worse than told.

    >>> revised_design(0.05, 0.06, 500), round(revised_design(0.05, 0.1, 500), 3)
    (0.05, 0.127)

    Args:
        told: μ that the frame was coded for.
        measured: `Arrival.measured_ber` of it.
        air_bits: bits on the air, of which it was measured.

    Returns:
        μ within [`told`, `MOST_DESIGN_BER`].
    """
    if not measured > told + 2 * math.sqrt(told * (1 - told) / max(air_bits, 1)):
        return told  # also where somebody says that it is no number
    measured = min(measured, 0.5)
    return min(measured + 2 * math.sqrt(measured * (1 - measured) / max(air_bits, 1)), MOST_DESIGN_BER)


def _level(
    segments: NDArray[np.intp], segment_bits: NDArray[np.int64], rate: Callable[[int], float], highest: float = 1.0
) -> Level:
    """The fewest blocks of equal size that carry segments, at the rate that they may have, `highest` at most.

    Long blocks have no low rates: where these are wanted, blocks are short.
    """
    bits = int(segment_bits[segments].sum())
    for longest in (LONGEST_BLOCK[1], LONGEST_OF_LOW_RATE):
        blocks = -(-bits // (longest - crc_bits(longest)))
        information = max(-(-bits // blocks), SHORTEST_BLOCK)
        k = information + crc_bits(information)
        length = math.ceil(k / max(min(rate(k), highest), LEAST_RATE))
        if length <= _mother(k):
            break
    return Level(segments, blocks, information, length)


def _mother(k: int) -> int:
    """Bits that the code of k bits has without repetition."""
    return round(k / LOWEST_RATE[2 if k <= LONGEST_OF_LOW_RATE else 1])


def _interleaver(bits: int) -> NDArray[np.intp]:
    """(bits,) block interleaver, about as many rows as columns: written by rows, read by columns."""
    side = math.isqrt(max(bits - 1, 0)) + 1
    order = np.arange(side * side).reshape(side, side).T.ravel()
    return order[order < bits]


def _chosen(segments: NDArray[np.intp], segment_bits: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(payload bits,) which are of these segments."""
    chosen = np.zeros(segment_bits.size, bool)
    chosen[segments] = True
    return np.repeat(chosen, segment_bits)
