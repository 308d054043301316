"""LDPC codes of 5G NR over channels of hard decisions, at the best tabulated rate that the channel allows."""

import functools
import json
import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semlink.access import belief_propagation
from semlink.access.coded_qam import hard_bit_error_rate
from semlink.access.hard_decisions import likelihood_ratios
from semlink.access.ldpc import Ldpc
from semlink.channel.awgn import Awgn
from semlink.channel.base import Channel, RawBits
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.channel.none import NoImpairment
from semlink.channel.rayleigh import Rayleigh

TARGET = 1e-3
"""Code block error rate aimed at. A picture is some 5 to 20 blocks: up to 2 pictures in a hundred are damaged."""
RATES = [Fraction(percent, 100) for percent in range(20, 93)]
"""Rates to choose from: 5G has none below 1/5 without repetition, and none above 948/1024."""
TABLE = Path(__file__).with_name("code_rates.json")
"""Rates that `python -m experiments.code_rates` found."""


@dataclass(frozen=True)
class Code:
    """How a file is cut into code blocks of equal size.

    Attributes:
        blocks: how many.
        k: information bits of a block.
        n: bits of a block on the air.
    """

    blocks: int
    k: int
    n: int

    @property
    def file_bytes(self) -> int:
        """Longest file."""
        return self.blocks * self.k // 8

    @property
    def bits(self) -> int:
        """Everything on the air."""
        return self.blocks * self.n


def segment(budget: int, rate: Fraction) -> Code:
    """The fewest blocks that fill a budget at a rate, as 5G allows them.

    Args:
        budget: bits that may go on the air.
        rate: k/n, one of `RATES`; rounding k up makes it a little higher.

    Raises:
        ValueError: too few bits for the shortest block, 12 information bits.
    """
    # Base graph 1 is for rates from 1/3 and up to 8448 bits; base graph 2 for lower ones, chosen up to 3824.
    most = 8448 if rate > Fraction(1, 3) else 3824
    blocks = max(math.ceil(budget * rate / most), 1)
    while (k := math.ceil(budget // blocks * rate)) > most:
        blocks += 1
    if k < 12:
        raise ValueError(f"budget: {budget} bits are too few for a code block")
    return Code(blocks, k, budget // blocks)


class CodeRateError(ValueError):
    """No code rate is tabulated; the message says the command that finds one."""


@functools.cache
def best_code(budget: int, ber: float) -> Code:
    """The code of the highest tabulated rate that is safe for a budget and a bit error rate.

    An entry of the table is for blocks of k bits at a bit error rate. Fewer errors do not harm, and longer blocks
    of the same base graph are decoded at least as well: of the entries of the smallest rate that is not below μ,
    the one with the longest blocks that are no longer than those of the budget.

    Args:
        budget: bits that may go on the air.
        ber: bit error rate μ of the channel, above 0.

    Raises:
        CodeRateError: there is no such entry.
        ValueError: a budget or a bit error rate out of range.
    """
    if not 0 < ber < 1:
        raise ValueError(f"ber must be within (0, 1), not {ber}")
    entries = sorted(_table(), key=lambda entry: (entry["ber"], -entry["k"]))
    for entry in entries:
        if entry["ber"] >= ber:
            code = segment(budget, Fraction(entry["percent"], 100))
            if code.k >= entry["k"]:
                return code
    raise CodeRateError(
        f"no code rate is tabulated for a bit error rate of {ber:.3g} and {budget} bits on the air; this looks "
        f"for one: python -m experiments.code_rates --ber {ber:.3g} --budget {budget}"
    )


def error_rate(channel: Channel) -> float | None:
    """Mean bit error rate of hard decisions over a channel whose errors are independent; None for any other.

    Over QAM (closed forms) some bits of a symbol are safer than others, which the decoder is not told: of the rate
    for the mean of all bits, the table's `checks` say how many blocks were lost.
    """
    match channel:
        case NoImpairment():
            return 0.0
        case BinarySymmetricChannel():
            return channel.ber
        case Awgn() | Rayleigh() if channel.channel_file is None and channel.access == "qam":
            return hard_bit_error_rate(channel.order, channel.snr_db, channel.fades)
        case _:
            return None


def transmit(
    information: NDArray[np.uint8], code: Code, channel: Channel, ber: float, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """Encodes blocks, sends them over a channel of hard decisions and decodes what arrives.

    Args:
        information: (B, k) bits.
        code: how long blocks are.
        channel: one that takes no plans. All blocks cross it as one payload, bit by bit as they are encoded.
        ber: its mean bit error rate μ, in (0, 1), which is all that the decoder is told of the channel.
        generator: the channel's randomness.

    Returns:
        (B, k) bits; of blocks that were not decoded, what came nearest.
    """
    sent = encode(information, code)
    arrived = sent.copy()
    carried = RawBits(np.packbits(sent).tobytes(), sent.size)
    arrived.reshape(-1)[channel.transmit(carried, None, None, generator).flips] ^= 1
    return decode(arrived, code, ber)


def encode(information: NDArray[np.uint8], code: Code) -> NDArray[np.uint8]:
    """(B, n) bits on the air of (B, k) bits."""
    return Ldpc(code.k, code.n).encode(information)


def decode(arrived: NDArray[np.uint8], code: Code, ber: float) -> NDArray[np.uint8]:
    """(B, k) bits of (B, n) hard decisions that are wrong at a rate μ."""
    ratios = likelihood_ratios(arrived, ber)
    return belief_propagation.decode(Ldpc(code.k, code.n), ratios).information


@functools.cache
def _table() -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8"))["rates"]
    return entries
