"""Vision transformer: `predict` maps a batch of images to their likeliest classes, and has no state or queue.

Where a device has given its opinion of an image, the two are fused.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from semlink.decision.belief import MOST_NAMED, Belief
from semlink.decision.calibration import Rung
from semlink.decision.fusing import fuse
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
        opinion: what the device thinks of it, which the answer is fused with; None: nothing.
        rung: the weights that they are fused by; of an image with an opinion.
    """

    pixels: NDArray
    top_k: int
    opinion: Belief | None = None
    rung: Rung | None = None


@dataclass(frozen=True)
class Prediction:
    """One class and how likely it is."""

    label: Annotated[int, Field(examples=[281], description="index of the class")]
    name: Annotated[str, Field(examples=["tabby"])]
    confidence: Annotated[float, Field(examples=[0.83], description="softmax probability")]


@dataclass(frozen=True)
class BatchResult:
    """What the model says of each image, and the seconds to prepare the batch and to run it.

    Attributes:
        predictions: as many classes as are wanted, the likeliest first; with an opinion, no more than are named.
        prepare_seconds: of the whole batch.
        inference_seconds: of the whole batch.
        named: the classes that a belief names; empty: the predictions.
        classes: how many there are.
    """

    predictions: Sequence[tuple[Prediction, ...]]
    prepare_seconds: float
    inference_seconds: float
    named: Sequence[tuple[Prediction, ...]] = ()
    classes: int = 1000


class Model:
    """A compiled vision transformer.

    Attributes:
        class_names: of all classes, by their labels.
        description: which model it is.
    """

    def __init__(
        self, model: "VisionTransformer", logits: "Callable[[Tensor], Tensor]", class_names: Sequence[str]
    ) -> None:
        """`logits` runs `model` on normalised images: (B, 3, 224, 224) to (B, classes)."""
        self._model, self._logits, self.class_names = model, logits, class_names
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
            logits = self._logits(images)
            most = min(max(MOST_NAMED, *(image.top_k for image in batch)), len(self.class_names))
            confidences, labels = logits.softmax(-1).topk(most)
        done = time.perf_counter()
        whole = [
            predictions_of(fuse(image.opinion, looked.double().numpy(), image.rung), self.class_names)
            if image.rung
            else self._named(likely[: max(image.top_k, MOST_NAMED)], sure)
            for image, looked, likely, sure in zip(
                batch, logits, labels.tolist(), confidences.tolist(), strict=True
            )
        ]
        return BatchResult(
            [each[: image.top_k] for image, each in zip(batch, whole, strict=True)],
            prepare_seconds=prepared - began,
            inference_seconds=done - prepared,
            named=[each[:MOST_NAMED] for each in whole],
            classes=len(self.class_names),
        )

    def _named(self, labels: Sequence[int], confidences: Sequence[float]) -> tuple[Prediction, ...]:
        named = zip(labels, confidences, strict=False)
        return tuple(Prediction(label, self.class_names[label], confidence) for label, confidence in named)

    def warm_up(self, max_batch: int) -> tuple[float, float]:
        """Seconds that one image and a full batch take in the model, after a first image that is not timed."""
        grey = ModelInput(np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.float32), top_k=1)
        _, one, full = (self.predict([grey] * images).inference_seconds for images in (1, 1, max_batch))
        return one, full


def predictions_of(belief: Belief, class_names: Sequence[str]) -> tuple[Prediction, ...]:
    """The classes that a belief names."""
    named = zip(belief.labels.tolist(), belief.probabilities.tolist(), strict=True)
    return tuple(Prediction(label, class_names[label], probability) for label, probability in named)


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
