"""Comparison of two links: the same picture over the same noise, by default for the same bits on air."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from channel_emulator.impairments import MODELS
from semlink.source.iaq.coder import HEADER_BITS
from semlink.vision.images import IMAGE_SIZE
from studio.link_settings import LinkSettings

MOST_TRIES = 4
"""To meet the bits of the other link."""
LEAST_SHARE = 0.97
"""Of the other's bits, which are met closely enough then."""
LDPC = "ldpc"


@dataclass(frozen=True)
class Side:
    """One of the links.

    Attributes:
        settings: knobs that are otherwise than they are set.
        access: of the channel of bits: none, ldpc; empty: as it is set.
    """

    settings: Mapping[str, Any]
    access: str = ""


_IAQ = {"source": "iaq", "policy": "all", "threshold": None}
_CODEC = {"source": "codec", "policy": "all"}
SIDES = {
    "as set": Side({}),
    "iaq": Side({**_IAQ, "method": "incremental"}),
    "water-filling": Side({**_IAQ, "method": "water-filling"}),
    "fixed": Side({**_IAQ, "method": "fixed"}),
    "top-k": Side({**_IAQ, "method": "top-k"}),
    "iaq behind LDPC": Side({**_IAQ, "method": "incremental"}, LDPC),
    "avif": Side({**_CODEC, "codec": "avif"}, "none"),
    "webp": Side({**_CODEC, "codec": "webp"}, "none"),
    "jpeg": Side({**_CODEC, "codec": "jpeg"}, "none"),
    "avif behind LDPC": Side({**_CODEC, "codec": "avif"}, LDPC),
    "transformer-aided": Side({"source": "transformer-aided", "policy": "all"}),
    "learned": Side({"source": "learned", "policy": "all"}),
}
"""By the names that the page offers."""


class ComparisonError(ValueError):
    """The two links cannot be compared; the message says why."""


def channel_of(side: Side, met: dict[str, Any]) -> dict[str, Any]:
    """The impairment that a side's frames meet, `met` being the one that is set.

    Raises:
        ComparisonError: the channel has no such access.
    """
    if not side.access or "access" not in met:
        if side.access == LDPC:
            raise ComparisonError(f"the channel {met['type']} has no LDPC codes: take bsc, burst or packet-loss")
        return met
    changed = met | {"access": side.access}
    try:
        MODELS[met["type"]](**changed)
    except ValueError:
        if side.access != LDPC:
            return met  # symbols always have an access scheme
        raise ComparisonError(f"the channel {met['type']} codes no bits as they are: take bsc or burst") from None
    return changed


def curve_of(link: LinkSettings, impairment: Mapping[str, Any]) -> str:
    """Name of the link's method in the results of the evaluation, which may have no such method."""
    name = {"iaq": link.method, "codec": link.codec}.get(link.source, link.source)  # type: ignore[attr-defined]
    return f"{name}-{LDPC}" if impairment.get("access") == LDPC else name


def budgeted(link: LinkSettings, bits: float) -> LinkSettings | None:
    """The link with about so many bits in a frame; None for a source coder without a budget.

    Raises:
        ValueError: there is no frame of so few bits.
    """
    if link.source == "iaq":
        return link.changed({"total_bits": max(int(bits), HEADER_BITS)})
    if link.source == "codec":
        return link.changed({"budget_bytes": int(bits) // 8, "side": IMAGE_SIZE})
    return None


async def fit(
    send: Callable[[LinkSettings], Awaitable[dict[str, Any]]], link: LinkSettings, bits: int
) -> dict[str, Any]:
    """What a view becomes over a link whose budget is such that it takes as many bits on the air as the other.

    Args:
        send: a view under such settings, which gives its report.
        link: the settings.
        bits: of the other link, on the air.
    """
    budget = float(bits)
    for _ in range(MOST_TRIES):
        changed = budgeted(link, budget)
        view = await send(changed or link)
        spent = view["bits_on_air"]["uplink"]
        if changed is None or LEAST_SHARE * bits <= spent <= bits or (spent < bits and budget >= bits):
            break
        budget *= bits / spent * (1 if spent > bits else 0.99)
    return view
