"""LDPC codes of 5G NR over a binary symmetric channel, at the best rate that the channel allows.

Codes and their encoder (3GPP TS 38.212, 5.3.2 and 5.4.2) are sionna's.
"""

import functools
import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.evaluation.belief_propagation import Decoder
from semlink.channel.base import Channel, RawBits
from semlink.channel.bsc import BinarySymmetricChannel

TARGET = 1e-3
"""Code block error rate aimed at. A picture is some 5 to 20 blocks: up to 2 pictures in a hundred are damaged."""
TRIALS = 2000
"""Blocks on which a rate is tried: at the target, two of them fail on average."""
RATES = [Fraction(percent, 100) for percent in range(20, 93)]
"""Rates to choose from: 5G has none below 1/5 without repetition, and none above 948/1024."""
BATCH = 10
SEED = 0
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


@functools.cache
def best_code(budget: int, ber: float) -> Code:
    """The highest rate at which at most `TARGET` of the blocks are lost, tried on random blocks.

    Goes down the ladder of rates from the channel's capacity 1 - H₂(μ). Where even the lowest rate loses more, it
    is the lowest. The same channel gives the same code every time.

    Args:
        budget: bits that may go on the air.
        ber: bit error rate μ of the channel, above 0.

    Raises:
        ValueError: a budget or a bit error rate out of range.
        ModuleNotFoundError: sionna is not installed.
    """
    for rate in reversed(RATES):
        code = segment(budget, rate)
        if Fraction(code.k, code.n) < capacity(ber) and _meets_target(code, ber):
            return code
    return segment(budget, RATES[0])


def capacity(ber: float) -> float:
    """Bits that a use of the binary symmetric channel carries at best, 1 - H₂(μ) (Shannon, 1948)."""
    if not 0 < ber < 1:
        raise ValueError(f"ber must be within (0, 1), not {ber}")
    return 1 + ber * math.log2(ber) + (1 - ber) * math.log2(1 - ber)


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

    Raises:
        ModuleNotFoundError: sionna is not installed.
    """
    encoder, decoder = _codec(code.k, code.n)
    arrived = encoder(torch.from_numpy(information).float()).to(torch.uint8).numpy()
    sent = RawBits(np.packbits(arrived).tobytes(), arrived.size)
    arrived.reshape(-1)[channel.transmit(sent, None, None, generator).flips] ^= 1
    reliability = math.log1p(-ber) - math.log(ber)
    return decoder.decode((1 - 2 * torch.from_numpy(arrived).float()) * reliability).numpy()


def _meets_target(code: Code, ber: float) -> bool:
    generator = np.random.default_rng(SEED)
    failures = 0
    for _ in range(0, TRIALS, BATCH):
        sent = generator.integers(0, 2, (BATCH, code.k), np.uint8)
        failures += (
            (transmit(sent, code, BinarySymmetricChannel(ber=ber), ber, generator) != sent).any(axis=1).sum()
        )
        if failures > TARGET * TRIALS:
            return False
    return True


@functools.lru_cache(maxsize=4)
def _codec(k: int, n: int) -> tuple[Any, Decoder]:
    try:
        from sionna.phy.fec.ldpc import LDPC5GEncoder
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("LDPC codes need sionna: pip install '.[dev]'") from error
    encoder = LDPC5GEncoder(k, n, device="cpu", precision="single")
    return encoder, Decoder(encoder)
