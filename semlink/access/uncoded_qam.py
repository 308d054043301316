"""Uncoded QAM: an access scheme of Gray-labelled symbols and hard decisions; every bit is alike."""

import numpy as np
from numpy.typing import NDArray

from semlink.access.symbol_link import SymbolLink
from semlink.channel.base import Arrival, Carried, payload_values
from semlink.channel.qam import bits_per_symbol, demodulate_hard, modulate


def send(frame: Carried, link: SymbolLink) -> Arrival:
    """Sends a payload as it is; it takes as many symbols as its bits do, whatever the channel bandwidth ratio."""
    sent = payload_values(frame)
    symbols = modulate_filled(sent, link.order)
    arrived = demodulate_hard(link.use(symbols).symbols, link.order)[: sent.size]
    return Arrival(np.flatnonzero(arrived != sent), channel_uses=symbols.size)


def modulate_filled(bits: NDArray[np.uint8], order: int) -> NDArray[np.complex128]:
    """QAM symbols of bits, the last of them filled up with zeros that nobody receives."""
    return modulate(np.pad(bits, (0, -bits.size % bits_per_symbol(order))), order)
