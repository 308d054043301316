"""Report: what a device says about an answered view, as one JSON object."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device.capture import Capture, Encoded
from device.planning import PlannedView
from device.votes import VoteAnswer
from semlink.source.registry import coder_of
from semlink.v1 import link_pb2 as pb


@dataclass(frozen=True, eq=False)
class Sent:
    """A view that was answered.

    Attributes:
        view: as it was sent at last.
        planned: the same with its plan, if it had one.
        response: the server's.
        round_trip_ms: time until then.
    """

    view: Encoded
    planned: PlannedView | None
    response: pb.ClassifyResponse
    round_trip_ms: float


def answer_report(
    capture: Capture, sent: Sent, answer: VoteAnswer, picture: Path | None, spool: dict[str, Any] | None
) -> dict[str, Any]:
    """The report.

    Args:
        capture: a view.
        sent: as it was sent and answered.
        answer: the answer that came last, after a wait for the vote; `sent.response` if there was no wait.
        picture: where the view was drawn, if it was.
        spool: state of the spool, if there is one.
    """
    view, planned, response = sent.view, sent.planned, sent.response
    frame, top, channel, server = view.frame, response.predictions[0], response.channel, response.timings
    vote = answer.vote if answer.HasField("vote") else None
    return {
        "event": "answer",
        "request_id": capture.request_id,
        **capture.ids,
        "photo": capture.photo,
        "view": capture.viewpoint,
        "picture": str(picture) if picture else None,
        "source": coder_of(frame).flag,
        "header_bits": frame.header_bits,
        "payload_bits": frame.payload_bits,
        "rho": frame.rho,
        "true_ratio": frame.true_ratio,
        "impairment": channel.impairment or None,
        "bits_flipped": channel.bits_flipped,
        "segments_lost": len(channel.lost_blocks),
        "channel_uses": channel.channel_uses or None,
        "transmission": None if planned is None else _transmission(planned, channel),
        "top1": {"label": top.label, "name": top.name, "confidence": top.confidence},
        "timings_ms": {
            "attention": None if view.attention is None else view.attention_ms,
            "encode": view.encode_ms,
            "plan": None if planned is None else planned.plan_ms,
            "channel": channel.channel_ms,
            "server": server.decode_ms + server.queue_ms + server.inference_ms,
            "round_trip": sent.round_trip_ms,
        },
        "model": response.model,
        "repeated": response.repeated,
        "vote": None if vote is None else {
            "label": vote.label, "name": vote.name, "votes": vote.votes, "views": vote.views
        },
        "missing_views": answer.missing_views,
        "vote_awaited": answer is not response,
        "spool": spool,
    }  # fmt: skip


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
