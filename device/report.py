"""What a device says about an answered view, as one JSON object."""

import math
from pathlib import Path
from typing import Any

from device.capture import Capture
from device.encoder import Encoded
from device.planning import Planned
from device.votes import Standing
from semlink.service.correlation import current_request
from semlink.v1 import link_pb2 as pb


def answer_report(
    request: pb.ClassifyRequest,
    response: pb.ClassifyResponse,
    standing: Standing,
    *,
    capture: Capture,
    view: Encoded,
    planned: Planned | None,
    picture: Path | None,
    round_trip_ms: float,
    spool: dict[str, Any] | None,
) -> dict[str, Any]:
    """The report; `standing` is the vote's after a wait for it, or `response`; `spool` what that tells, if any."""
    frame, top, channel, server = view.frame, response.predictions[0], response.channel, response.timings
    vote = standing.vote if standing.HasField("vote") else None
    return {
        "event": "answer",
        "request_id": current_request(),
        "object_id": request.object_id,
        "device_id": request.device_id,
        "frame_id": request.frame_id,
        "photo": capture.photo,
        "view": capture.viewpoint,
        "picture": str(picture) if picture else None,
        "header_bits": frame.header_bits,
        "payload_bits": frame.payload_bits,
        "rho": frame.rho,
        "true_ratio": frame.true_ratio,
        "impairment": channel.impairment or None,
        "bits_flipped": channel.bits_flipped,
        "transmission": None if planned is None else _transmission(planned, channel),
        "top1": {"label": top.label, "name": top.name, "confidence": top.confidence},
        "timings_ms": {
            "attention": view.attention_ms,
            "encode": view.encode_ms,
            "plan": None if planned is None else planned.plan_ms,
            "channel": channel.channel_ms,
            "server": server.decode_ms + server.queue_ms + server.inference_ms,
            "round_trip": round_trip_ms,
        },
        "model": response.model,
        "repeated": response.repeated,
        "vote": None if vote is None else {
            "label": vote.label, "name": vote.name, "votes": vote.votes, "views": vote.views
        },
        "missing_views": standing.missing_views,
        "vote_awaited": standing is not response,
        "spool": spool,
    }  # fmt: skip


def _transmission(planned: Planned, channel: pb.ChannelReport) -> dict[str, Any]:
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
        "exceeds_coherence": channel.exceeds_coherence,
        "blocks_lost": len(channel.lost_blocks),
        "bits_lost": channel.bits_lost,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
