"""Policy of a demo: flags of server and devices, why a picture was sent or not, and what that saved."""

from functools import cache
from typing import Any

import numpy as np

from device.encoding import EncoderSettings
from device.policy import PolicySettings
from semlink.decision.asking import ViewState, decide
from semlink.decision.belief import Belief
from semlink.decision.calibration import read_calibration
from semlink.source.iaq.coder import encode
from semlink.source.opinion import LABEL_BITS

NAMES = ("policy", "calibration", "target_accuracy_loss", "budget_bits", "protect_for")
"""Of the settings, in the order of the help."""
TARGETS = ("target_accuracy_loss", "budget_bits")


def policy_flags(told: PolicySettings) -> dict[str, Any]:
    """Settings of the policy that have an effect, by name."""
    return {name: value for name, value in told.effective().items() if name in NAMES}


def server_flags(told: PolicySettings) -> dict[str, Any]:
    """Those of a server that asks."""
    flags = policy_flags(told) if told.policy == "ask" else {}
    return {name: flags[name] for name in ("calibration", *TARGETS) if name in flags}


def device_flags(told: PolicySettings) -> dict[str, Any]:
    """Those of a device, which leaves targets to a server that asks."""
    left = TARGETS if told.policy == "ask" else ()
    return {name: value for name, value in policy_flags(told).items() if name not in left}


def why(view: dict[str, Any], told: PolicySettings) -> str | None:
    """Why a picture of a view was sent or not, in a few words; None where every picture is sent.

    Args:
        view: the device's report.
        told: the policy.
    """
    if told.policy == "all":
        return None
    opinion = view["opinion"]
    sure = f"{opinion[0]['confidence']:.2f}"
    if len(view["layers"]) > 1:
        return f"unsure, {sure}"
    if told.policy == "alone" or not _asked_if_alone(opinion, told):
        return f"sure, {sure}"
    return f"vote settled, {sure}"


def _asked_if_alone(opinion: list[dict[str, Any]], told: PolicySettings) -> bool:
    """Whether the server would ask for a picture of a view if there were no others."""
    calibration = read_calibration(told.calibration)
    price = calibration.ask.price_for(told.target_accuracy_loss, told.budget_bits)
    labels, confidences = ([each[name] for each in opinion] for name in ("label", "confidence"))
    belief = Belief(np.array(labels), np.array(confidences), 1 << LABEL_BITS)
    return bool(decide([ViewState(belief, 0, may_be_asked=True)], calibration, price))


@cache
def default_bits() -> int:
    """Bits of a view that is sent as a device sends it by default; IAQ's budget is met by every picture."""
    picture = np.arange(224 * 224 * 3, dtype=np.uint32).astype(np.uint8).reshape(224, 224, 3)
    return 8 * len(encode(picture, np.ones(196), **EncoderSettings().coding).frame.to_bytes())


def saving(views: list[dict[str, Any]]) -> str:
    """What was on the air for all views, beside what it is by default and beside the pixels."""
    up, down = (sum(view["bits_on_air"][way] for view in views) for way in ("uplink", "downlink"))
    pixels, fixed = len(views) * 8 * 224 * 224 * 3, len(views) * default_bits()
    beside = "" if up == fixed else f", {_percent(up / fixed)} of the {fixed:,} of a demo without --policy"
    return f"On air: {up:,} bits up, {down:,} down{beside}; {_percent(up / pixels)} of the pixels."


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
