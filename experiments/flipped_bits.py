"""Flipped bits of stills: how many of each codec one bit costs the whole picture, with zeros appended or not."""

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np

from experiments.provenance import provenance
from experiments.tables import write_table
from semlink.source.codec import encode, stills
from semlink.source.codec.frame import CodecFrame
from semlink.vision.images import model_pixels, open_image
from semlink.vision.photos import find_photos

PHOTO = "chelsea"
"""A photograph of scikit-image."""
BUDGET_BYTES, TRIALS = 6_000, 200


def lost(frame: CodecFrame, padding: int, seed: int) -> int:
    """Of `TRIALS` copies with one bit of the payload flipped each, how many can't be decoded.

    Args:
        frame: the still.
        padding: zeros that are appended before it is decoded.
        seed: of the bits that are flipped.
    """
    generator, codec, failed = np.random.default_rng(seed), stills.CODECS[frame.codec], 0
    for bit in generator.integers(frame.payload_bits, size=TRIALS):
        payload = np.unpackbits(np.frombuffer(frame.payload, np.uint8))
        payload[bit] ^= 1
        damaged = frame.with_payload(np.packbits(payload).tobytes())
        try:
            stills.read(damaged.stripped, codec, padding)
        except ValueError:
            failed += 1
    return failed


def main(out: Path, seed: int) -> None:
    """Measures, and writes flipped-bits.json and flipped-bits.md."""
    (photo,) = find_photos([PHOTO])
    pixels, rows = model_pixels(open_image(photo)), list[dict[str, Any]]()
    for codec in get_args(stills.CodecName):
        frame = encode(pixels, codec=codec, side=224, budget_bytes=BUDGET_BYTES).frame
        counts = [lost(frame, padding, seed) for padding in (0, stills.PADDING_BYTES)]
        rows.append(
            {"codec": codec, "bytes": len(frame.payload), "lost": counts[0], "lost_with_padding": counts[1]}
        )
    origin = {"seed": seed, "trials": TRIALS, "photo": PHOTO} | provenance()
    (out / "flipped-bits.json").write_text(json.dumps({"rows": rows} | origin, indent=1) + "\n", encoding="utf-8")
    lines = [
        "# One flipped bit in a still",
        "",
        f"Of {TRIALS} copies of a still of {PHOTO}, one bit of the payload flipped in each, how many could not be",
        f"decoded: as they arrived, and with {stills.PADDING_BYTES} zeros appended.",
        f"Pillow {origin['versions']['pillow']}.",
        "Written by `python -m experiments flipped-bits`; flipped-bits.json beside it has command, versions and",
        "machine.",
        "",
        "| codec | payload's bytes | lost | lost with zeros appended |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {' | '.join(map(str, row.values()))} |" for row in rows]
    write_table(out / "flipped-bits.md", lines)
