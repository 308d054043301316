"""Learned access on frames: an access scheme whose networks turn the bits of learned frames to symbols and back.

The access node is here: it has the bits and, by the interface that its networks were trained for, their
importance; it has never seen a picture. Frames of other coders, or of another interface, say nothing that it knows
how to weigh, and are refused.
"""

import importlib.util
from typing import get_args

import numpy as np

from semlink.access.learned.engine import CARD, PRETRAINED, AccessError, ChannelKind, LearnedAccess
from semlink.access.symbol_link import AccessRefused, SymbolLink
from semlink.channel.base import Arrival, Carried, payload_values
from semlink.source.learned.frame import LearnedFrame

TILES_AT_ONCE = 64
"""Tiles in one pass of the networks: a picture of 224 × 224 at once, and some 100 MB."""


def missing(channel: str) -> str:
    """Why learned access cannot run over a channel of this name; empty where it can, at first sight."""
    if channel not in get_args(ChannelKind) or not (PRETRAINED / channel / CARD).is_file():
        return f"there are no networks for {channel}; `semlink train-learned-channel` makes them"
    try:
        found = importlib.util.find_spec("openvino")
    except ImportError:
        found = None
    if found is None:
        return "its networks run in OpenVINO: pip install 'semlink[access]'"
    return ""


def send(frame: Carried, link: SymbolLink) -> Arrival:
    """Sends the bits of a learned frame; every tile takes L symbols, whatever levels are present.

    Raises:
        AccessRefused: the frame is of another coder or interface, or the networks cannot be run.
    """
    if not isinstance(frame, LearnedFrame):
        raise AccessRefused("coder", "learned access takes frames of the coder `learned` alone, headers protected")
    try:
        networks = LearnedAccess(link.channel, link.cbr)  # type: ignore[arg-type]  # `missing` has looked
        if frame.interface != networks.interface:
            raise AccessRefused(
                "interface",
                f"the frame has interface {frame.interface.hex()}, and the networks for {link.channel} have "
                f"{networks.interface.hex()}",
            )
        bits = frame.bits
        parts = [slice(first, first + TILES_AT_ONCE) for first in range(0, len(bits), TILES_AT_ONCE)]
        symbols = np.concatenate([networks.map(bits[part], link.snr_db) for part in parts])
        received = link.use(symbols.ravel())
        arrived = received.symbols.reshape(symbols.shape)
        powers = 1.0 if received.powers is None else received.powers.reshape(symbols.shape)
        gains = np.sqrt(np.broadcast_to(powers, symbols.shape))
        decided = np.concatenate([networks.demap(arrived[part], gains[part], link.snr_db) for part in parts])
    except AccessError as error:
        raise AccessRefused("networks", str(error)) from error
    flips = np.flatnonzero(payload_values(frame.with_bits(decided)) != payload_values(frame))
    return Arrival(flips, channel_uses=symbols.size)
