"""Vision transformer: `predict` maps a batch of images to their likeliest classes, and has no state or queue."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from semlink.vision.engines import load_engine
from semlink.vision.images import IMAGE_SIZE
from server.settings import ServerSettings

if TYPE_CHECKING:  # torch takes seconds to load: that is part of loading the model
    from timm.models import VisionTransformer
    from torch import Tensor


@dataclass(frozen=True)
class ModelInput:
    """One image of a batch.

    Attributes:
        pixels: (224, 224, 3) in [0, 255], any real dtype.
        top_k: how many classes are wanted.
    """

    pixels: NDArray
    top_k: int


@dataclass(frozen=True)
class Prediction:
    """One class and how likely it is."""

    label: Annotated[int, Field(examples=[281], description="index of the class")]
    name: Annotated[str, Field(examples=["tabby"])]
    confidence: Annotated[float, Field(examples=[0.83], description="softmax probability")]


@dataclass(frozen=True)
class BatchResult:
    """The classes of each image, the likeliest first, and the seconds to prepare the batch and to run it."""

    predictions: Sequence[tuple[Prediction, ...]]
    prepare_seconds: float
    inference_seconds: float


class Model:
    """A compiled vision transformer."""

    def __init__(
        self, model: "VisionTransformer", logits: "Callable[[Tensor], Tensor]", class_names: Sequence[str]
    ) -> None:
        """`logits` runs `model` on normalised images: (B, 3, 224, 224) to (B, classes)."""
        self._model, self._logits, self._names = model, logits, class_names
        self.description = str(model.origin)

    def predict(self, batch: Sequence[ModelInput]) -> BatchResult:
        """Classifies the images of a batch, each independently of the others."""
        import torch

        from semlink.vision.vit import normalise

        began = time.perf_counter()
        # The one copy on the way is that from the decoder's float64 into the batch.
        pixels = np.stack([image.pixels for image in batch], dtype=np.float32, casting="unsafe")
        images = normalise(self._model, pixels)
        prepared = time.perf_counter()
        with torch.inference_mode():
            most = min(max(image.top_k for image in batch), len(self._names))
            confidences, labels = self._logits(images).softmax(-1).topk(most)
        done = time.perf_counter()
        predictions = [
            tuple(
                Prediction(label, self._names[label], confidence)
                for label, confidence in zip(likely[: image.top_k], sure[: image.top_k], strict=True)
            )
            for image, likely, sure in zip(batch, labels.tolist(), confidences.tolist(), strict=True)
        ]
        return BatchResult(predictions, prepare_seconds=prepared - began, inference_seconds=done - prepared)

    def warm_up(self, max_batch: int) -> tuple[float, float]:
        """Seconds that one image and a full batch take in the model, after a first image that is not timed."""
        grey = ModelInput(np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.float32), top_k=1)
        _, one, full = (self.predict([grey] * images).inference_seconds for images in (1, 1, max_batch))
        return one, full


def load_model(settings: ServerSettings) -> Model:
    """Loads torch and the weights, and compiles the model.

    Raises:
        WeightsError: no usable weights.
        EngineError: the engine cannot run the model.
    """
    from semlink.vision.vit import class_names, load_vit

    model = load_vit(settings.model, weights=settings.weights)
    logits = load_engine(settings.engine, model, "logits", threads=settings.threads)
    return Model(model, logits, class_names(model))
