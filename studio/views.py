"""View report: what a camera says of an answered view, with maps of its patches and images of it."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from device.capture import Capture, Encoded
from device.planning import channel_of
from device.report import answer_report
from device.sent import Layer, Sent
from semlink.channel.ofdm import subchannel_gains
from semlink.frame import Frame
from semlink.source.iaq import IaqFrame
from semlink.source.iaq.distortion import one_error_bound
from semlink.source.iaq.importance import importance_weights
from semlink.source.opinion import OpinionFrame
from semlink.source.registry import decode, read_frame
from semlink.v1 import link_pb2 as pb
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
    if not isinstance(received, OpinionFrame):
        images["sent"], images["arrived"] = png(decode(last.view.frame)), png(decode(received))
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
        "air_ms": last.response.channel.air_ms or None,
        "stages_ms": stages,
        "maps": maps(capture.view, last, received, gamma, design_ber),
    }, images


def radio_report(layer: Layer, state: pb.ChannelState) -> dict[str, Any] | None:
    """The radio view of a planned frame: subchannels, what each is worth, and which block it carries.

    Args:
        layer: as it was sent.
        state: of the channel that it met.

    Returns:
        subcarriers (of all OFDM symbols that are taken as one), streams; gains, singular values, and block, of
        each subchannel in the order f·N_s + r; power and air_ms of each block; patch, the segment that it carries;
        attention on it; t_d_ms, planned_t_d_ms; snr_db; method. None for a frame without a plan.
    """
    if layer.planned is None:
        return None
    plan, channel, frame = layer.planned.plan, layer.response.channel, layer.view.frame
    numerology, matrices = channel_of(state)
    gains = subchannel_gains(matrices, numerology.streams)
    gains = np.tile(gains, (plan.numerology.subcarriers // len(gains), 1))
    patches = np.flatnonzero(frame.segment_bits)
    attention = layer.view.attention
    is_known = attention is not None and attention.size == frame.segment_bits.size
    importance = attention if is_known else frame.importance
    return {
        "subcarriers": plan.numerology.subcarriers,
        "streams": plan.numerology.streams,
        "gains": _numbers(gains.ravel(), 4),
        "block": plan.block_of_subchannel.ravel().tolist(),
        "power": _numbers(plan.power, 5),
        "air_ms": _numbers(channel.block_air_ms, 5),
        "patch": patches.tolist(),
        "attention": _numbers(np.asarray(importance)[patches], 6),
        "t_d_ms": _finite(channel.t_d_ms),
        "planned_t_d_ms": _finite(1e3 * plan.t_d),
        "snr_db": plan.snr_db,
        "method": plan.method,
    }


def _numbers(values: ArrayLike, digits: int) -> list[float | None]:
    return [_finite(round(float(value), digits)) for value in np.asarray(values, np.float64)]


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


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


def maps(view: Encoded, layer: Layer, received: Frame, gamma: float, design_ber: float) -> dict[str, list[float]]:
    """Numbers of the 14 × 14 patches in raster order, those that there are.

    Args:
        view: as it was looked at.
        layer: the last that was sent of it.
        received: its frame as it arrived.
        gamma: shape of the weights (31).
        design_ber: bit error rate μ that the gain of a bit assumes.

    Returns:
        attention: a_i. weight: w_i of equation (31). bits: M_i of IAQ, else bits of the segment. gain: by how much
        one more bit of each value lessens the bound (21) on the squared error, weighed, in squared grey levels.
        flips: bits that arrived inverted. lost: 1 where nothing arrived. subchannels, power, air_ms: of the plan.
    """
    frame = layer.view.frame
    found: dict[str, ArrayLike] = {}
    if view.attention is None:
        return {}
    found["attention"] = view.attention
    found["weight"] = weights = importance_weights(view.attention.astype(np.float64), gamma=gamma)
    if isinstance(frame, IaqFrame):
        bits = frame.bits.astype(np.float64)
        span, values = float(frame.high - frame.low), frame.geometry.values_per_patch
        bounds = [one_error_bound(each, design_ber, value_range=span) for each in (bits, bits + 1)]
        gain = np.where(bits < frame.max_bits, weights * values * (bounds[0] - bounds[1]), 0.0)
        found |= {"bits": bits, "gain": gain}
    elif frame.segment_bits.size == view.attention.size:
        found["bits"] = frame.segment_bits
    if "bits" in found:
        found |= _damage(frame, received, layer.response.channel)
        if layer.planned is not None:
            found |= _spent(layer, frame)
    return {name: np.round(np.asarray(values, np.float64), 6).tolist() for name, values in found.items()}


def _damage(frame: Frame, received: Frame, channel: pb.ChannelReport) -> dict[str, NDArray[Any]]:
    """Inverted bits and losses of each segment."""
    sizes, arrived = frame.segment_bits, received.segment_bits
    lost = np.zeros(sizes.size)
    lost[[number for number in channel.lost_blocks if number < sizes.size]] = 1
    if arrived.size != sizes.size or np.any((arrived != sizes) & (arrived != 0)):
        return {"lost": lost}
    lost[(arrived == 0) & (sizes > 0)] = 1
    kept = np.repeat(arrived == sizes, sizes)
    wrong = _values(frame)[kept] != _values(received)
    return {"flips": np.bincount(np.repeat(np.arange(sizes.size), arrived), wrong, sizes.size), "lost": lost}


def _values(frame: Frame) -> NDArray[np.uint8]:
    return np.unpackbits(np.frombuffer(frame.payload, np.uint8), count=frame.payload_bits)


def _spent(layer: Layer, frame: Frame) -> dict[str, NDArray[Any]]:
    """What the plan gave to each segment: blocks are the segments that have bits, in their order."""
    assert layer.planned is not None
    plan, has_bits = layer.planned.plan, np.flatnonzero(frame.segment_bits)
    blocks, air = plan.block_of_subchannel.ravel(), np.array(layer.response.channel.block_air_ms)

    def spread(values: NDArray[Any]) -> NDArray[np.float64]:
        out = np.zeros(frame.segment_bits.size)
        if values.size == has_bits.size:
            out[has_bits] = np.where(np.isfinite(values), values, 0.0)
        return out

    number = np.bincount(blocks, minlength=has_bits.size)
    return {"subchannels": spread(number), "power": spread(np.asarray(plan.power)), "air_ms": spread(air)}
