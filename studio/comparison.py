"""Comparison of two links: the same picture over the same noise, by default for the same bits on air."""

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from channel_emulator.impairments import MODELS
from semlink.access.coded_qam import hard_bit_error_rate
from semlink.channel.base import Channel, channels
from semlink.channel.over_bits import OverBits
from semlink.channel.over_symbols import OverSymbols
from semlink.channel.packet_loss import PacketLoss
from semlink.channel.plan import MIN_BITS
from semlink.parameters import parameters
from semlink.source.codec.coder import MAX_BUDGET_BYTES, MIN_BUDGET_BYTES
from semlink.source.iaq.coder import HEADER_BITS, WEIGHING
from semlink.source.transformer_aided.coder import GEOMETRY, TOKEN_VALUES
from semlink.source.transformer_aided.quantizer import MAX_BITS
from semlink.vision.images import IMAGE_SIZE
from studio.link_settings import LinkSettings

MOST_TRIES = 5
"""To meet the bits of the other link."""
LEAST_SHARE = 0.97
"""Of the other's bits, which are met closely enough then."""
LDPC, UNCODED = "ldpc", ("none", "qam")
"""Accesses of a channel: codes, or bits as they are, over channels of bits and of symbols."""
VALUES = 3 * IMAGE_SIZE**2
"""Of a picture."""


@dataclass(frozen=True)
class Side:
    """One of the links.

    Attributes:
        settings: knobs that are otherwise than they are set.
        access: of the channel, the first that it has; none: as it is set.
    """

    settings: Mapping[str, Any]
    access: tuple[str, ...] = ()


_IAQ = {"source": "iaq", "policy": "all"}
_CODEC = {"source": "codec", "policy": "all", "side": IMAGE_SIZE}
SIDES = {
    "as set": Side({}),
    "iaq": Side({**_IAQ, "method": "incremental"}),
    "water-filling": Side({**_IAQ, "method": "water-filling"}),
    "fixed": Side({**_IAQ, "method": "fixed"}),
    "top-k": Side({**_IAQ, "method": "top-k"}),
    "iaq behind LDPC": Side({**_IAQ, "method": "incremental"}, (LDPC,)),
    "avif": Side({**_CODEC, "codec": "avif"}, UNCODED),
    "webp": Side({**_CODEC, "codec": "webp"}, UNCODED),
    "jpeg": Side({**_CODEC, "codec": "jpeg"}, UNCODED),
    "avif behind LDPC": Side({**_CODEC, "codec": "avif"}, (LDPC,)),
    "webp behind LDPC": Side({**_CODEC, "codec": "webp"}, (LDPC,)),
    "transformer-aided": Side({"source": "transformer-aided", "policy": "all"}),
    "learned": Side({"source": "learned", "policy": "all"}),
    "ask": Side({"policy": "ask"}),
    "alone": Side({"policy": "alone"}),
}
"""By the names that the page offers."""


class ComparisonError(ValueError):
    """The two links cannot be compared; the message says why."""


@dataclass(frozen=True)
class End:
    """A side as it is sent.

    Attributes:
        name: of the side.
        link: settings.
        impairment: that its frames meet.
    """

    name: str
    link: LinkSettings
    impairment: dict[str, Any]

    @property
    def channel(self) -> Channel:
        """What the impairment is."""
        return MODELS[self.impairment["type"]](**self.impairment).channel

    @property
    def fixed(self) -> str:
        """Why its bits are not for a budget to choose; empty where they are."""
        if self.link.policy != "all":
            who = "server" if self.link.policy == "ask" else "device"
            return f"under the policy {self.link.policy} the {who} chooses the bits, picture by picture"
        if self.link.source == "learned":
            return "learned bits are as many for every picture of a size"
        if self.link.source == "iaq" and self.link.coding["threshold"] is not None:
            return f"under the method {self.link.coding['method']} they follow from the picture"
        return "" if self.link.source in ("iaq", "codec", "transformer-aided") else "its coder has no budget"

    def with_budget(self, bits: float) -> LinkSettings:
        """The link with about so many bits in a frame, or as near to them as its coder comes."""
        if self.link.source == "iaq":
            if self.channel.takes_plan:
                return self.link.changed({"rho": min(max((bits - HEADER_BITS) / (8 * VALUES), MIN_BITS / 8), 1.0)})
            return self.link.changed({"total_bits": max(int(bits), HEADER_BITS)})
        if self.link.source == "codec":
            most = min(max(int(bits) // 8, MIN_BUDGET_BYTES), MAX_BUDGET_BYTES)
            return self.link.changed({"budget_bytes": most})
        tokens = GEOMETRY.patches
        depth = min(max(math.ceil(bits / (tokens * TOKEN_VALUES)), self.link.coding["token_bits"]), MAX_BITS)
        sent = min(int(bits / (TOKEN_VALUES * depth)), tokens)
        return self.link.changed({"token_bits": depth, "ratio": sent / tokens})

    def report(self, view: dict[str, Any]) -> dict[str, Any]:
        """A view over it, with the link's place among the committed curves."""
        channel, ber = self.channel, None
        if isinstance(channel, OverBits):
            ber = None if isinstance(channel, PacketLoss) else channel.own_ber
        elif isinstance(channel, OverSymbols):
            ber = hard_bit_error_rate(channel.order, channel.snr_db, channel.fades)
        return view | {
            "curve": curve_of(self.link, self.impairment),
            "ber": ber,
            "over": channel.name.replace("_", "-"),
            "access": self.impairment.get("access", ""),
        }


Send = Callable[[LinkSettings, dict[str, Any]], Awaitable[dict[str, Any]]]
"""Settings and an impairment -> what a view becomes, as its report says."""


async def compare(
    base: LinkSettings, met: dict[str, Any], names: tuple[str, str], send: Send, *, equal_bits: bool
) -> dict[str, Any]:
    """What a view becomes over two links.

    Args:
        base: the knobs as they are set.
        met: the impairment that is set.
        names: of the left link and the right one, in `SIDES`.
        send: sends the view.
        equal_bits: the right one gets as many bits on the air as the left one; where its bits are fixed, or it
            can't have so many or so few, the left one gets as many as the right.

    Returns:
        left, right: reports. bits: how many bits there are, whether they are equal, and if not, why.

    Raises:
        ComparisonError: a link makes no sense here, or was not answered.
    """
    ends = [end_of(base, met, name) for name in names]
    first = 1 if equal_bits and ends[1].fixed and not ends[0].fixed else 0
    other, fitted = 1 - first, None
    views: list[dict[str, Any]] = [{}, {}]

    views[first] = await send(ends[first].link, ends[first].impairment)
    if equal_bits and not ends[other].fixed:
        fitted = other
        views[other] = await fit(send, ends[other], spent_by(views[first]))
        is_met = are_equal([spent_by(view) for view in views])
        if not is_met and not ends[first].fixed:  # the other's best takes fewer bits, or its least takes more
            fitted = first
            views[first] = await fit(send, ends[first], spent_by(views[other]))
    else:
        views[other] = await send(ends[other].link, ends[other].impairment)
    spent = [spent_by(view) for view in views]
    left, right = (end.report(view) for end, view in zip(ends, views, strict=True))
    return {"left": left, "right": right, "bits": verdict(ends, spent, fitted, wanted=equal_bits)}


def spent_by(view: dict[str, Any]) -> int:
    """Bits on the air of a view."""
    return int(view["bits_on_air"]["uplink"])


def are_equal(spent: list[int]) -> bool:
    """Whether two numbers of bits are within some percent of each other."""
    return min(spent) >= LEAST_SHARE * max(spent)


def end_of(base: LinkSettings, met: dict[str, Any], name: str) -> End:
    """A side as it is sent, `base` and `met` being what is set.

    Raises:
        ComparisonError: it makes no sense beside what is set.
    """
    side = SIDES[name]
    if met["type"] not in MODELS:
        raise ComparisonError(f"the emulator has a channel that is not known here, {met['type']}")
    try:
        impairment = channel_of(side, met)
        is_planned = MODELS[met["type"]](**impairment).channel.takes_plan
        unplanned = {} if is_planned else {"plan": None}  # of the knobs, which have no effect over this channel
        return End(name, base.changed(unplanned | dict(side.settings)), impairment)
    except ComparisonError:
        raise
    except ValueError as error:
        raise ComparisonError(f"{name}: {error}") from None


def channel_of(side: Side, met: dict[str, Any]) -> dict[str, Any]:
    """The impairment that a side's frames meet, `met` being the one that is set.

    Raises:
        ComparisonError: the channel has no such access.
    """
    for access in side.access:
        try:
            MODELS[met["type"]](**met | {"access": access})
        except ValueError:
            continue
        return met | {"access": access}
    if LDPC in side.access:
        coded = ", ".join(name.replace("_", "-") for name in MODELS if LDPC in _accesses(name))
        raise ComparisonError(
            f"the channel {met['type'].replace('_', '-')} has no LDPC codes: take one of {coded}"
        )
    return met


def _accesses(name: str) -> tuple[Any, ...]:
    """Access schemes of a channel."""
    return next((each.choices for each in parameters(channels()[name]) if each.name == "access"), ())


def curve_of(link: LinkSettings, impairment: Mapping[str, Any]) -> str:
    """Name of the link's method in the results of the evaluation; empty where these are of other settings."""
    told = link.coding
    if link.policy != "all":
        return link.policy
    if link.source == "iaq" and told["method"] in WEIGHING and (told["gamma"], told["design_ber"]) != (1, 0):
        return ""
    if link.source == "codec" and told["side"] != IMAGE_SIZE:
        return ""
    name = {"iaq": told.get("method"), "codec": told.get("codec")}.get(link.source, link.source)
    access = impairment.get("access", UNCODED[0])
    if access != LDPC and access not in UNCODED:
        return ""
    return f"{name}-{LDPC}" if access == LDPC else str(name)


async def fit(send: Send, end: End, bits: int) -> dict[str, Any]:
    """What a view becomes over a link whose budget is such that it takes as many bits on the air as the other.

    Args:
        send: sends the view.
        end: the link; its bits are not fixed.
        bits: of the other link, on the air.

    Returns:
        Of the tries the one with the most bits that are no more than the other's; else that with the fewest.
    """
    budget, spent, tried, found = float(bits), 0, set[LinkSettings](), list[dict[str, Any]]()
    for _ in range(MOST_TRIES):
        link = end.with_budget(budget)
        if link in tried:  # its coder comes no nearer
            break
        tried.add(link)
        found.append(await send(link, end.impairment))
        before, spent = spent, spent_by(found[-1])
        if LEAST_SHARE * bits <= spent <= bits or spent == before:
            break
        budget *= bits / spent * (0.995 if spent > bits else 0.999)

    def nearness(view: dict[str, Any]) -> tuple[bool, float]:
        spent = spent_by(view)
        return spent <= bits, spent if spent <= bits else -spent

    return max(found, key=nearness)


def verdict(ends: list[End], spent: list[int], fitted: int | None, *, wanted: bool) -> dict[str, Any]:
    """Whether both links have as many bits on the air, and if not, why, in a sentence for the page.

    Args:
        ends: the links, left and right.
        spent: bits of each.
        fitted: which of them was to meet the other's bits at last; None: neither could.
        wanted: equal bits were.
    """
    apart = f"{spent[0]:,} and {spent[1]:,} bit, {100 * (1 - min(spent) / max(max(spent), 1)):.1f} % apart"
    sides = ("left", "right")
    if are_equal(spent):
        met = f"the {sides[fitted]} link meets the other's" if fitted is not None else "as both are set"
        return {"equal": True, "note": f"equal bits on air, {apart}: {met}"}
    if not wanted:
        return {"equal": False, "note": f"bits on air differ, as was wanted: {apart}"}
    if fitted is None:
        reasons = "; ".join(f"{side}: {end.fixed}" for side, end in zip(sides, ends, strict=True))
        return {"equal": False, "note": f"bits on air differ, {apart}: neither link has a budget ({reasons})"}
    limit = "fewest" if spent[fitted] > spent[1 - fitted] else "most"
    return {
        "equal": False,
        "note": f"bits on air differ, {apart}: these are the {limit} that {ends[fitted].name}, {sides[fitted]}, "
        "has near them",
    }
