"""What is sent: four views of each of some photographs, as frames and as pictures.

python tests/load/workload.py FOLDER makes them, with the device's own camera and encoder; only that needs torch.
"""

import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PHOTOS = ("chelsea", "coffee", "astronaut", "rocket", "motorcycle_left")
VIEWS = 4
MAKING_SECONDS = 600
CONTENTS = "workload.json"


@dataclass(frozen=True)
class View:
    """A photograph from one of four viewpoints: a frame as a device sends it, and a JPEG."""

    photo: str
    viewpoint: int
    frame: bytes
    jpeg: bytes


def views(folder: Path) -> list[View]:
    """All views, those of one photograph together; made first where the folder has none."""
    contents = folder / CONTENTS
    if not contents.exists():
        # In a process of its own: torch and gevent need not meet.
        subprocess.run([sys.executable, __file__, str(folder)], check=True, timeout=MAKING_SECONDS)
    return [
        View(
            entry["photo"],
            entry["viewpoint"],
            frame=(folder / f"{entry['name']}.slf").read_bytes(),
            jpeg=(folder / f"{entry['name']}.jpg").read_bytes(),
        )
        for entry in json.loads(contents.read_text())
    ]


def make(folder: Path) -> None:
    """Writes frames, pictures, and last the list of them."""
    from PIL import Image

    from device.camera import VIEWPOINTS, take_view
    from device.encoder import Encoder
    from device.settings import DeviceSettings
    from semlink.vision.photos import find_photos

    folder.mkdir(parents=True, exist_ok=True)
    encoder = Encoder.of(DeviceSettings(to="127.0.0.1:1", images=list(PHOTOS), object_id="load", threads=1))
    entries = []
    for photo, path in zip(PHOTOS, find_photos(PHOTOS), strict=True):
        for number, viewpoint in enumerate(VIEWPOINTS, start=1):
            name = f"{photo}-{number}"
            pixels = take_view(path, viewpoint)
            jpeg = io.BytesIO()
            Image.fromarray(pixels).save(jpeg, "JPEG", quality=90)
            (folder / f"{name}.slf").write_bytes(encoder.encode(pixels, 0).data)
            (folder / f"{name}.jpg").write_bytes(jpeg.getvalue())
            entries.append({"name": name, "photo": photo, "viewpoint": number})
    (folder / CONTENTS).write_text(json.dumps(entries, indent=2) + "\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
