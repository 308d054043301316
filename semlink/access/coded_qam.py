"""LDPC codes over QAM with soft decisions: unequal error protection of a whole frame on channels of symbols.

As over channels of bits, see `semlink.access.protection`, with a bit error rate in place of the SNR: that of hard
decisions in closed form. Code rates are `semlink.access.bicm.code_rate` at the SNR that has this bit error rate.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from semlink.access import protection
from semlink.access.bicm import code_rate
from semlink.access.symbol_link import SymbolLink
from semlink.access.uncoded_qam import modulate_filled
from semlink.channel.base import Arrival, Carried
from semlink.channel.qam import awgn_bit_error_rate, bits_per_symbol, demodulate_soft, rayleigh_bit_error_rate

LOWEST_SNR_DB, HIGHEST_SNR_DB = -50.0, 100.0


def send(frame: Carried, link: SymbolLink, design_ber: float | None) -> Arrival:
    """Sends a frame, coded, however many symbols that takes.

    Args:
        frame: the bits, segment by segment.
        link: the frame's way.
        design_ber: μ that the code is for, of hard decisions; None: that at the link's SNR.
    """
    if design_ber is None:
        design_ber = min(hard_bit_error_rate(link.order, link.snr_db, link.fades), protection.MOST_DESIGN_BER)

    def rate(k: int, *, error: float, ber: float) -> float:
        snr_db = snr_of(link.order, ber, link.fades)
        return code_rate(
            k, error, order=link.order, snr_db=snr_db, fading=link.fades, lowest=protection.LEAST_RATE
        )

    def use(bits: NDArray[np.uint8]) -> NDArray[np.float32]:
        received = link.use(modulate_filled(bits, link.order))
        return demodulate_soft(received.symbols, link.order, link.noise_powers(received))[: bits.size]

    arrival = protection.send(frame, protection.BitLink(design_ber=design_ber, rate=rate, use=use))
    return replace(arrival, channel_uses=-(-(arrival.air_bits or 0) // bits_per_symbol(link.order)))


def hard_bit_error_rate(order: int, snr_db: float, fades: bool) -> float:
    """Mean bit error rate of hard decisions, in closed form.

    >>> round(hard_bit_error_rate(16, 12.0, fades=False), 4)
    0.0281

    Args:
        order: of the QAM, one of 4, 16, 64, 256.
        snr_db: mean E_s/N0 in dB.
        fades: Rayleigh fading that the receiver knows, another for every symbol.
    """
    closed_form = rayleigh_bit_error_rate if fades else awgn_bit_error_rate
    return float(closed_form(order, 10 ** (snr_db / 10)))


@lru_cache(maxsize=256)
def snr_of(order: int, ber: float, fades: bool) -> float:
    """The SNR in dB at which hard decisions have a bit error rate, the inverse of `hard_bit_error_rate`.

    Args:
        order: of the QAM, one of 4, 16, 64, 256.
        ber: μ, within [0, 0.5).
        fades: as there.

    Returns:
        E_s/N0 in dB, within [`LOWEST_SNR_DB`, `HIGHEST_SNR_DB`].
    """
    low, high = LOWEST_SNR_DB, HIGHEST_SNR_DB
    while high - low > 1e-6:
        middle = (low + high) / 2
        if hard_bit_error_rate(order, middle, fades) > ber:
            low = middle
        else:
            high = middle
    return high
