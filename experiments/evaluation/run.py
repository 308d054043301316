"""One run: the images, models, seed and precision that a row of results is of, each named once."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.data.image_sets import ImageSet, load_image_set
from semlink.vision.storage import read_weights
from semlink.vision.vit import Origin
from semlink.vision.weights import DEVICE_MODEL, find_weights


@dataclass(frozen=True, kw_only=True)
class Run:
    """What all cells of a run share, whatever their kind; see `semlink evaluate --help`.

    Attributes:
        data: folder of an image set.
        only: the images to measure on, as `ImageSet.where` takes it.
        out: JSON lines file of the rows.
        cache: folder that keeps pixels and attention.
        most_images: at most so many of the images; None for all.
        device_weights: folder to look into first for the device's model, a DeiT-Tiny.
        server_model: timm name of the server's model.
        server_weights: folder to look into first for it.
        bfloat16: the server's model computes in bfloat16, not float32.
        seed: of the channel. Cells of one seed meet the same errors image by image, so that they can be paired.
        processes: how many work at once, each on one thread.
    """

    data: Path
    only: str
    out: Path
    cache: Path
    most_images: int | None = None
    device_weights: Path | None = None
    server_model: str = DEVICE_MODEL
    server_weights: Path | None = None
    bfloat16: bool = False
    seed: int = 0
    processes: int = 1

    def images(self) -> ImageSet:
        """The images that are measured on.

        Raises:
            ImageSetError: no such images.
        """
        measured, _ = load_image_set(self.data).where(self.only)
        return measured if self.most_images is None else measured.at_most(self.most_images)

    def described(self, images: int, *, served: bool) -> dict[str, Any]:
        """What each of its rows says of it as `run`, and rows of any other run say otherwise.

        Args:
            images: how many are measured on.
            served: a server looks at them; the rows of plans alone have none.

        Raises:
            WeightsError: no usable weights.
        """
        server = _identity(self.server_model, self.server_weights) if served else None
        return {
            "data": self.data.name,
            "only": self.only,
            "images": images,
            "device": _identity(DEVICE_MODEL, self.device_weights),
            "server": server and server + ", bfloat16" * self.bfloat16,
            "seed": self.seed,
        }


def _identity(model: str, weights: Path | None) -> str:
    """A model and its weights, in words and by the beginning of their SHA-256."""
    found = find_weights(model, weights)
    origin = Origin(model, found, read_weights(found.path).kind)
    return f"{origin}, SHA-256 {hashlib.sha256(found.path.read_bytes()).hexdigest()[:12]}"
