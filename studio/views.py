"""View report: what a camera says of an answered view, with maps of its patches and images of it."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from device.capture import Capture
from device.report import answer_report
from device.sent import Layer, Sent
from semlink.frame import Frame
from semlink.source.iaq import IaqFrame
from semlink.source.opinion import OpinionFrame
from semlink.source.registry import decode, read_frame
from semlink.v1 import link_pb2 as pb
from studio.maps import maps
from studio.rounds import digest_of


def view_report(
    capture: Capture, sent: Sent, gamma: float, design_ber: float
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What a view became, as JSON, and PNG files by what they show: "picture", "sent", "arrived".

    Args:
        capture: a view.
        sent: as it was sent and answered; at least one layer is.
        gamma: shape of the weights (31).
        design_ber: bit error rate μ that the gain of a bit assumes.
    """
    last, report = sent.layers[-1], answer_report(capture, sent, None, None)
    received = read_frame(last.response.received_frame)
    images = {"picture": png(capture.view.pixels)}
    arrived = None if isinstance(received, OpinionFrame) else decode(received)
    if arrived is not None:
        images["sent"], images["arrived"] = png(decode(last.view.frame)), png(arrived)
    timings, servers = report["timings_ms"], [layer.response.timings for layer in sent.layers]
    stages = {
        "attention": timings["attention"] or 0.0,
        "encode": timings["encode"],
        "plan": timings["plan"] or 0.0,
        "channel": timings["channel"],
        "decode": sum(each.decode_ms for each in servers),
        "queue": sum(each.queue_ms for each in servers),
        "inference": sum(each.inference_ms for each in servers),
    }
    stages["network"] = max(timings["round_trip"] - timings["channel"] - timings["server"], 0.0)
    return report | {
        "received": digest_of(b"".join(layer.response.received_frame for layer in sent.layers)),
        "predictions": _predictions(last.response.predictions),
        "first_predictions": _predictions(sent.layers[0].response.predictions),
        "opinion_bits": sum(8 * len(each.view.data) for each in sent.layers if _is_opinion(each)),
        "air_ms": sum(layer.response.channel.air_ms for layer in sent.layers) or None,
        "stages_ms": stages,
        "maps": maps(capture.view, last, received, arrived, gamma, design_ber),
        "quantizer": _quantizer(last.view.frame),
    }, images


def _quantizer(frame: Frame) -> dict[str, int] | None:
    """What a patch's arithmetic needs beside its maps: u_min, u_max, and values of a patch; None: not IAQ's."""
    if not isinstance(frame, IaqFrame):
        return None
    return {"low": frame.low, "high": frame.high, "values": frame.geometry.values_per_patch}


def _is_opinion(layer: Layer) -> bool:
    return isinstance(layer.view.frame, OpinionFrame)


def _predictions(found: Sequence[pb.Prediction]) -> list[dict[str, Any]]:
    return [{"label": each.label, "name": each.name, "confidence": each.confidence} for each in found]


def png(pixels: ArrayLike) -> bytes:
    """(H, W, 3) values within 0..255 as a PNG file, quickly."""
    out = BytesIO()
    image = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()
