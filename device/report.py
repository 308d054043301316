"""Report: what a device says about an answered view, as one JSON object."""

import math
from pathlib import Path
from typing import Any

from device.capture import Capture
from device.planning import PlannedView
from device.sent import Layer, Sent
from semlink.frame import Frame
from semlink.source.opinion import LABEL_BITS, OpinionFrame
from semlink.source.registry import coder_of
from semlink.v1 import link_pb2 as pb


def answer_report(
    capture: Capture, sent: Sent, picture: Path | None, spool: dict[str, Any] | None
) -> dict[str, Any]:
    """The report.

    Args:
        capture: a view.
        sent: as it was sent and answered.
        picture: where the view was drawn, if it was.
        spool: state of the spool, if there is one.
    """
    last = sent.layers[-1]
    frames, channels = (
        [layer.view.frame for layer in sent.layers],
        [layer.response.channel for layer in sent.layers],
    )
    servers = [layer.response.timings for layer in sent.layers]
    top, planned, values = last.response.predictions[0], last.planned, frames[0].values
    first = sent.layers[0].view
    return {
        "event": "answer",
        "request_id": capture.request_id,
        **capture.ids,
        "photo": capture.photo,
        "view": capture.viewpoint,
        "picture": str(picture) if picture else None,
        "source": _source(frames[-1]),
        "header_bits": sum(frame.header_bits for frame in frames),
        "payload_bits": sum(frame.payload_bits for frame in frames),
        "rho": sum(frame.payload_bits for frame in frames) / (8 * values),
        "true_ratio": sum(8 * len(layer.view.data) for layer in sent.layers) / (8 * values),
        "bits_on_air": {"uplink": sent.uplink_bits, "downlink": sent.downlink_bits},
        "opinion": _opinion(frames[0]),
        "layers": [_layer(layer) for layer in sent.layers],
        "impairment": channels[-1].impairment or None,
        "bits_flipped": sum(channel.bits_flipped for channel in channels),
        "segments_lost": sum(len(channel.lost_blocks) for channel in channels),
        "channel_uses": sum(channel.channel_uses for channel in channels) or None,
        "transmission": None if planned is None else _transmission(planned, last.response.channel),
        "top1": {"label": top.label, "name": top.name, "confidence": top.confidence},
        "timings_ms": {
            "attention": None if first.attention is None else first.attention_ms,
            "encode": sum(layer.view.encode_ms for layer in sent.layers),
            "plan": None if planned is None else sum(each.planned.plan_ms for each in sent.layers if each.planned),
            "channel": sum(channel.channel_ms for channel in channels),
            "server": sum(each.decode_ms + each.queue_ms + each.inference_ms for each in servers),
            "round_trip": sum(layer.round_trip_ms for layer in sent.layers),
        },
        "model": last.response.model,
        "repeated": sent.layers[0].response.repeated,
        "vote": _vote(sent.answer.vote) if sent.has_vote else None,
        "missing_views": sent.answer.missing_views,
        "vote_awaited": isinstance(sent.answer, pb.WaitVoteResponse),
        "spool": spool,
    }


def _source(frame: Frame) -> str:
    return "opinion" if isinstance(frame, OpinionFrame) else coder_of(frame).flag


def _opinion(frame: Frame) -> list[dict[str, Any]] | None:
    """Classes and probabilities that a device named first, if it did, as its frame has them."""
    if not isinstance(frame, OpinionFrame):
        return None
    said = frame.belief(1 << LABEL_BITS)
    named = zip(said.labels.tolist(), said.probabilities.tolist(), strict=True)
    return [{"label": label, "confidence": confidence} for label, confidence in named]


def _layer(layer: Layer) -> dict[str, Any]:
    """A frame, what it was sent for, and what its answer takes the view for."""
    top = layer.response.predictions[0]
    return {
        "layer": layer.number,
        "source": _source(layer.view.frame),
        "bits": 8 * len(layer.view.data),
        "wish": None if layer.wish is None else {"side": layer.wish.side, "most_bytes": layer.wish.most_bytes},
        "top1": {"label": top.label, "name": top.name, "confidence": top.confidence},
    }


def _vote(vote: pb.Vote) -> dict[str, Any]:
    fused = vote.fused if vote.HasField("fused") else None
    return {
        "label": vote.label,
        "name": vote.name,
        "votes": vote.votes,
        "views": vote.views,
        "fused": fused and {"label": fused.label, "name": fused.name, "confidence": fused.confidence},
    }


def _transmission(planned: PlannedView, channel: pb.ChannelReport) -> dict[str, Any]:
    """What the plan foresaw, and what the channel made of it. An infinite latency is None."""
    plan = planned.plan
    return {
        "plan": plan.method,
        "snr_db": plan.snr_db,
        "streams": plan.numerology.streams,
        "target_bler": plan.block_error_rate,
        "power": channel.power,
        "planned_t_d_ms": _finite(1e3 * plan.t_d),
        "t_d_ms": _finite(channel.t_d_ms),
        "air_ms": channel.air_ms,
        "coherence_ms": 1e3 * plan.coherence_seconds,
        "exceeds_coherence": channel.exceeds_coherence,
        "blocks_lost": len(channel.lost_blocks),
        "bits_lost": channel.bits_lost,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
