"""Metrics of the channel emulator. Nothing is labelled by device: their number has no bound."""

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

from channel_emulator.plan_messages import REASONS
from semlink.access.symbol_link import ACCESS_REASONS
from semlink.service.admission import refusal_counter
from semlink.source.registry import frame_rules

OUTCOMES = ("answered", "refused", "lost", "failed", "cancelled")


class Metrics:
    """Counters of one emulator, in a registry of their own."""

    def __init__(self) -> None:
        """Every outcome is shown from the start, as 0."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.frames = Counter(
            "semlink_channel_frames",
            "Frames by what became of them: answered by upstream; refused here as malformed, for their plan or by "
            "the access scheme; lost on the air, although coded; failed upstream or on the way there; "
            "cancelled by the device.",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in OUTCOMES:
            self.frames.labels(outcome)
        self.frames_rejected = Counter(
            "semlink_channel_frames_rejected",
            "Frames refused as malformed, by the rule that they break.",
            ["reason"],
            registry=self.registry,
        )
        for reason in frame_rules():
            self.frames_rejected.labels(reason)
        self.calls_refused = refusal_counter("semlink_channel", self.registry)
        self.bits_exposed = Counter(
            "semlink_channel_bits_exposed", "Bits exposed to the channel.", registry=self.registry
        )
        self.bits_flipped = Counter(
            "semlink_channel_bits_flipped", "Bits that arrived inverted.", registry=self.registry
        )
        self.blocks_lost = Counter(
            "semlink_channel_blocks_lost", "Blocks of frames that were lost.", registry=self.registry
        )
        self.plans_refused = Counter(
            "semlink_channel_plans_refused",
            "Frames refused for their plan, by why: missing; stale, made for another state of the channel; or the "
            "rule that it breaks.",
            ["rule"],
            registry=self.registry,
        )
        for rule in REASONS:
            self.plans_refused.labels(rule)
        self.access_refused = Counter(
            "semlink_channel_access_refused",
            "Frames that the access scheme does not take, by why: of another coder, of another interface, or no "
            "networks run here; protection where nothing is coded, or for a rate that no code is for; too long.",
            ["reason"],
            registry=self.registry,
        )
        for reason in ACCESS_REASONS:
            self.access_refused.labels(reason)
        self.air_seconds = Histogram(
            "semlink_channel_air_seconds",
            "Time that one planned frame is on the air.",
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
            registry=self.registry,
        )
        self.impair_seconds = Histogram(
            "semlink_channel_impair_seconds",
            "Time to check and impair one frame.",
            buckets=(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
            registry=self.registry,
        )
        self.upstream_seconds = Histogram(
            "semlink_channel_upstream_seconds",
            "Time from passing a frame on until upstream has answered, whatever it says.",
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
            registry=self.registry,
        )
