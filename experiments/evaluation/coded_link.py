"""Coded modulation: 5G LDPC code blocks as QAM symbols over noise and fading, decoded by soft decisions.

One block takes all channel uses of a picture of 32 x 32: 128, 192, 384 or 768 complex symbols (`CHANNEL_USES`).
Bits are interleaved as in 3GPP TS 38.212, 5.4.2.2, so that the information bits get the safer places of a symbol;
the receiver knows SNR and fading and computes exact log-likelihood ratios. There is no CRC: a block is lost where
the parity checks do not hold, or where they hold for other bits than were sent, which a CRC would have to find.

`BEST_CODES`, the order of the QAM and the code rate for each channel, SNR and CBR, is measured by
`python -m experiments.coded_modulation`. Bounds beside it: Shannon's capacity of the same channel uses.
"""

import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from semlink.access.belief_propagation import decode
from semlink.access.ldpc import Ldpc
from semlink.channel.qam import bits_per_symbol, complex_normal, demodulate_soft, modulate

Kind = Literal["awgn", "rayleigh"]
KINDS: tuple[Kind, ...] = ("awgn", "rayleigh")
CHANNEL_USES = {"1/24": 128, "1/16": 192, "1/8": 384, "1/4": 768}
"""Complex symbols of a picture by channel bandwidth ratio (CBR), symbols over the 3072 values of the picture."""
SNRS_DB = (5.0, 8.0, 10.0, 13.0, 15.0, 18.0, 20.0)
"""Of the figures: the SNRs that the learned access scheme is trained for."""
BEST_CODES = Path(__file__).with_name("coded_modulation.json")
DECODED_AT_ONCE = 50


class CodedModulationError(ValueError):
    """No code is tabulated; the message says the command that finds one."""


@dataclass(frozen=True)
class Air:
    """What the channel does to pictures: y = h·x + n, the same whatever is sent.

    Attributes:
        gain: (B, L) complex coefficients h, which the receiver knows; ones over AWGN.
        noise: (B, L) complex n of variance 10^(-SNR/10).
        snr_db: mean SNR at |h| = 1.
    """

    gain: NDArray[np.complex128]
    noise: NDArray[np.complex128]
    snr_db: float

    def of(self, pictures: slice | NDArray[np.int64]) -> "Air":
        """What it does to some of the pictures."""
        return Air(self.gain[pictures], self.noise[pictures], self.snr_db)

    def equalised(self, symbols: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """(B, L) of (B, L) symbols: what is received, divided by the coefficients."""
        return symbols + self.noise / self.gain


def air(kind: Kind, snr_db: float, count: int, uses: int, seed: int) -> Air:
    """Draws of the channel for so many pictures; the first of them are the same for any larger number.

    Args:
        kind: of the channel; over "rayleigh" every symbol has a coefficient CN(0, 1) of its own.
        snr_db: mean SNR, in dB.
        count: B, pictures.
        uses: L, symbols of each.
        seed: whatever is compared takes the same one.
    """
    gain, noise = np.ones((count, uses), complex), np.empty((count, uses), complex)
    for number in range(count):
        generator = np.random.default_rng((seed, number, KINDS.index(kind), round(10 * snr_db), uses))
        if kind == "rayleigh":
            gain[number] = complex_normal(uses, generator)
        noise[number] = complex_normal(uses, generator) * 10 ** (-snr_db / 20)
    return Air(gain, noise, snr_db)


def capacity_bits(kind: Kind, snr_db: float, uses: int) -> int:
    """Most bits that channel uses carry with an ideal code of any length (Shannon): floor(L·C).

    C is log2(1 + SNR) over AWGN, and its mean over the exponential |h|² over Rayleigh fading that the receiver
    knows, e^(1/SNR)·E1(1/SNR)/ln 2 (Goldsmith and Varaiya, IEEE Transactions on Information Theory 43(6), 1997).

    >>> capacity_bits("awgn", 10, 128), capacity_bits("rayleigh", 10, 128)
    (442, 372)
    """
    snr = 10 ** (snr_db / 10)
    if kind == "awgn":
        return math.floor(uses * math.log2(1 + snr))
    from scipy.special import exp1

    return math.floor(uses * math.exp(1 / snr) * float(exp1(1 / snr)) / math.log(2))


def arrives(information: NDArray[np.uint8], code: Ldpc, order: int, met: Air) -> NDArray[np.bool_]:
    """Whether blocks arrive as they were sent.

    Args:
        information: (B, k) bits.
        code: of k information bits and L·log2(order) bits on the air.
        order: of the QAM.
        met: the channel of each block.

    Returns:
        (B,) booleans.

    Raises:
        ValueError: the code has another number of bits than the symbols.
    """
    width, (count, uses) = bits_per_symbol(order), met.noise.shape
    if code.n != uses * width:
        raise ValueError(f"code: {code.n} bits are not {uses} symbols of {width} bits")
    arrived = np.empty(count, bool)
    for start in range(0, count, DECODED_AT_ONCE):
        here = slice(start, start + DECODED_AT_ONCE)
        sent = information[here]
        interleaved = code.encode(sent).reshape(-1, width, uses).transpose(0, 2, 1)
        symbols = modulate(np.ascontiguousarray(interleaved).ravel(), order).reshape(-1, uses)
        part = met.of(here)
        noise_power = 10 ** (-met.snr_db / 10) / np.abs(part.gain) ** 2
        ratios = demodulate_soft(part.equalised(symbols).ravel(), order, noise_power.ravel())
        deinterleaved = ratios.reshape(-1, uses, width).transpose(0, 2, 1).reshape(-1, code.n)
        decoded = decode(code, deinterleaved)
        arrived[here] = decoded.holds & (decoded.information == sent).all(axis=1)
    return arrived


def best_code(kind: Kind, snr_db: float, cbr: str) -> tuple[Ldpc, int]:
    """The tabulated code, and the order of its QAM.

    Raises:
        CodedModulationError: there is none.
    """
    for entry in _table():
        if (entry["channel"], entry["snr_db"], entry["cbr"]) == (kind, snr_db, cbr):
            return Ldpc(entry["k"], entry["n"]), entry["order"]
    raise CodedModulationError(
        f"no code is tabulated for {kind}, {snr_db:g} dB and CBR {cbr}; python -m experiments.coded_modulation "
        "finds those that are missing"
    )


@functools.cache
def _table() -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(BEST_CODES.read_text(encoding="utf-8"))["codes"]
    return entries
