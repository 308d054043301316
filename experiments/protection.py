"""Protection: what frames cost behind LDPC codes by importance, and what arrives where the air is worse."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.provenance import provenance
from experiments.tables import write_table
from semlink.access.hard_decisions import capacity
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.channel.segments import WholeFrame
from semlink.source.codec.frame import CodecFrame
from semlink.source.codec.head import Head

DESIGNS = 0.01, 0.05, 0.1
"""Bit error rates that codes are designed for."""
EXCESSES = 1.0, 1.2, 2.0
"""True bit error rates, as multiples of these."""
PAYLOADS = 0, 100, 400, 1500, 3000
"""Bytes of payloads; without one, a frame is a header of 18 bytes."""
TRIALS, WORSE_TRIALS, HEADER_TRIALS = 40, 10, 200
"""Frames that are sent: over the air that was told, over worse ones, and of headers alone."""


class Met(NamedTuple):
    """What became of frames of one size over one channel."""

    payload_bytes: int
    design_ber: float
    ber: float
    trials: int
    bits: int
    """Of a frame, header included."""
    air_bits: int
    headers_lost: int
    whole: int
    """Frames that arrived without a loss."""
    kept: float
    """Mean share of the payload before the first loss."""

    @property
    def of_capacity(self) -> float:
        """Bits of the frame over those that as many uses of the channel could carry at best."""
        return self.bits / (self.air_bits * capacity(self.design_ber))


def sent(payload_bytes: int, design_ber: float, excess: float, seed: int) -> Met:
    """Sends frames of random bits, whose segments matter as those of a still do."""
    generator = np.random.default_rng([seed, payload_bytes, round(1e6 * design_ber), round(1e6 * excess)])
    channel = BinarySymmetricChannel(ber=design_ber * excess, access="ldpc", design_ber=design_ber)
    trials = HEADER_TRIALS if not payload_bytes else TRIALS if excess == 1 else WORSE_TRIALS
    lost = whole = air_bits = bits = 0
    kept = 0.0
    for _ in range(trials):
        frame = WholeFrame(CodecFrame("avif", 224, 224, Head(160, 160, 1 << 6), generator.bytes(payload_bytes)))
        arrival = channel.transmit(frame, None, None, generator)
        arrived = frame.arrived(arrival)
        air_bits, bits = arrival.air_bits or 0, frame.payload_bits
        lost += 0 in arrival.lost
        whole += arrival.lost.size == 0
        kept += len(arrived.payload) / max(payload_bytes, 1) if arrived else 0
    return Met(payload_bytes, design_ber, channel.ber, trials, bits, air_bits, lost, whole, kept / trials)


def main(out: Path, seed: int) -> None:
    """Measures, and writes protection.json and protection.md."""
    found = [sent(size, ber, excess, seed) for ber in DESIGNS for excess in EXCESSES for size in PAYLOADS]
    origin = {"seed": seed} | provenance()
    rows: list[dict[str, Any]] = [each._asdict() | {"of_capacity": each.of_capacity} for each in found]
    (out / "protection.json").write_text(json.dumps({"rows": rows} | origin, indent=1) + "\n", encoding="utf-8")
    lines = [
        "# Protection, measured",
        "",
        f"Frames with payloads of random bytes over a binary symmetric channel: {TRIALS} where it is as told,",
        f"{WORSE_TRIALS} where it is worse, {HEADER_TRIALS} without a payload, which are headers alone. Air bits:",
        "of one frame, everything counted. Of capacity: the frame's bits over those that as many uses of the",
        "channel could carry. Then the mean share of the payload that arrives before the first loss, by the true",
        "bit error rate as a multiple of the one designed for; of frames without a payload, of the headers.",
        "Written by `python -m experiments protection`; protection.json beside it has command, versions and",
        "machine.",
        "",
        "| designed for μ | payload's bytes | air bits | per bit | of capacity | "
        + " | ".join(f"{excess:g} μ" for excess in EXCESSES)
        + " | headers lost |",
        "| --- " * (6 + len(EXCESSES)) + "|",
    ]
    for ber in DESIGNS:
        for size in PAYLOADS:
            here = [each for each in found if (each.design_ber, each.payload_bytes) == (ber, size)]
            first = here[0]
            shares = [each.kept if size else 1 - each.headers_lost / each.trials for each in here]
            lines.append(
                f"| {ber:g} | {size} | {first.air_bits:,} | {first.air_bits / first.bits:.2f} | "
                f"{first.of_capacity:.2f} | {' | '.join(f'{share:.3f}' for share in shares)} | "
                f"{sum(each.headers_lost for each in here)} of {sum(each.trials for each in here)} |"
            )
    write_table(out / "protection.md", lines)
