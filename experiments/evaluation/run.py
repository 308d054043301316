"""Run: the images, models, seed and precision that all rows of an evaluation share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.classifiers import STAND_IN, weights_of
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
        known: other files whose rows of this run are not measured again; nothing is written to them.
        cache: folder that keeps pixels and attention.
        most_images: at most so many of the images; None for all.
        device_weights: folder to look into first for the device's model, a DeiT-Tiny.
        server_model: timm name of the server's model, or that of the stand-in (`experiments.classifiers`).
        server_weights: folder to look into first for it; not for the stand-in.
        bfloat16: the server's model computes in bfloat16, not float32; not the stand-in.
        seed: of the channel. Cells of one seed meet the same errors image by image, so that they can be paired.
        processes: how many work at once, each on one thread.
        calibration: file of the policies' thresholds and weights; None: the one that comes with the package.
    """

    data: Path
    only: str
    out: Path
    cache: Path
    known: tuple[Path, ...] = ()
    most_images: int | None = None
    device_weights: Path | None = None
    server_model: str = DEVICE_MODEL
    server_weights: Path | None = None
    bfloat16: bool = False
    seed: int = 0
    processes: int = 1
    calibration: Path | None = None

    def __post_init__(self) -> None:
        """Refuses what the stand-in does not have."""
        if self.server_model == STAND_IN and (self.bfloat16 or self.server_weights):
            raise ValueError(f"{STAND_IN} computes in float32 and has no other weights than its own")

    def images(self) -> ImageSet:
        """The images that are measured on.

        Raises:
            ImageSetError: no such images.
        """
        measured, _ = load_image_set(self.data).where(self.only)
        return measured if self.most_images is None else measured.at_most(self.most_images)

    def others(self) -> ImageSet:
        """The images that are not measured on, for tuning.

        Raises:
            ImageSetError: no such images.
        """
        return load_image_set(self.data).where(self.only)[1]

    def labelled(self, images: ImageSet) -> ImageSet:
        """The images with the labels of the server's model, by the names of its classes.

        Raises:
            ImageSetError: the model has other classes, so that no answer could be right.
            WeightsError: no usable weights.
        """
        if self.server_model == STAND_IN:  # of ImageNet-1k's classes, in their order
            return images
        stored = read_weights(find_weights(self.server_model, self.server_weights).path)
        return images if stored.classes is None else images.labelled_as(stored.classes)

    def key(self, images: int, *, served: bool) -> dict[str, Any]:
        """What identifies the run in its rows, as `run`: models by name and weights by the hash of their file.

        Args:
            images: how many are measured on.
            served: a server's model classifies them; plans alone need none.

        Raises:
            WeightsError: no usable weights.
        """
        server = _key(self.server_model, self.server_weights) if served else None
        return {
            "data": self.data.name,
            "only": self.only,
            "images": images,
            "device": _key(DEVICE_MODEL, self.device_weights),
            "server": server and server | {"precision": "bfloat16" if self.bfloat16 else "float32"},
            "seed": self.seed,
        }

    def models(self, *, served: bool) -> dict[str, str | None]:
        """What the models are, in words; a row has it as `models`, but is not found by it."""
        server = _words(self.server_model, self.server_weights) if served else None
        return {"device": _words(DEVICE_MODEL, self.device_weights), "server": server}


def _key(model: str, weights: Path | None) -> dict[str, str]:
    """A model's timm name, and the beginning of the SHA-256 of its weights file."""
    return {"model": model, "weights": weights_of(model, weights).sha256[:12]}


def _words(model: str, weights: Path | None) -> str:
    if model == STAND_IN:
        return f"{STAND_IN}, a stand-in"
    found = find_weights(model, weights)
    return Origin(model, found, read_weights(found.path).kind).name
