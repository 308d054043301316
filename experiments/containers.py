"""Containers of AVIF, WebP and JPEG files: bytes of small pictures with them, and of what is sent without."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.provenance import provenance
from experiments.tables import write_table
from semlink.source.codec.stills import CODECS
from semlink.vision.images import model_pixels, open_image
from semlink.vision.photos import find_photos

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
"""Photographs of scikit-image."""
SIDES = (32, 112, 160, 224)
QUALITY = 30
"""As low as budgets of a hundredth of the pixels' bits ask for."""


def measure() -> list[dict[str, Any]]:
    """Mean bytes of the photos' files, and of these stripped, by codec and side."""
    photos = [Image.fromarray(model_pixels(open_image(path))) for path in find_photos(PHOTOS)]
    rows = []
    for name, codec in CODECS.items():
        for side in SIDES:
            files = [codec.write(photo.resize((side, side)), QUALITY) for photo in photos]
            lengths = float(np.mean([len(file) for file in files]))
            sent = float(np.mean([len(codec.strip(file)) for file in files]))
            rows.append({"codec": name, "side": side, "file_bytes": lengths, "sent_bytes": sent})
    return rows


def main(out: Path) -> None:
    """Measures, and writes containers.json and containers.md."""
    rows, origin = measure(), provenance()
    (out / "containers.json").write_text(json.dumps({"rows": rows} | origin, indent=1) + "\n", encoding="utf-8")
    versions = origin["versions"]
    lines = [
        "# Containers of small pictures",
        "",
        f"Mean bytes of {len(PHOTOS)} photographs ({', '.join(PHOTOS)}) at quality {QUALITY}: the whole file,",
        f"what is sent of it, and the share that is not. Pillow {versions['pillow']}. Written by",
        "`python -m experiments containers`; containers.json beside it has command, versions and machine.",
        "",
        "| codec | side | file | sent | left out |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        left_out = row["file_bytes"] - row["sent_bytes"]
        lines.append(
            f"| {row['codec']} | {row['side']} | {row['file_bytes']:.0f} | {row['sent_bytes']:.0f} | "
            f"{left_out:.0f} ({left_out / row['file_bytes']:.0%}) |"
        )
    write_table(out / "containers.md", lines)
