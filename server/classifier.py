"""The vision transformer of the server, off the event loop."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from semlink.source.iaq.coder import PATCH_SIZE
from semlink.vision.engines import EngineName, load_engine
from semlink.vision.images import IMAGE_SIZE
from server.batching import Batcher, Looked
from server.metrics import Metrics
from server.pending import Pending
from server.predictions import Prediction
from server.refusals import NotReady
from server.settings import ServerSettings

PATCHES = (IMAGE_SIZE // PATCH_SIZE) ** 2

if TYPE_CHECKING:  # torch takes seconds to load: that is part of loading the model
    from timm.models import VisionTransformer
    from torch import Tensor


@dataclass(frozen=True)
class Picture:
    """What the model looks at.

    Attributes:
        pixels: (224, 224, 3) in [0, 255], any real dtype.
        kept: (N,) patches that it knows something of.
        top_k: how many classes are wanted.
    """

    pixels: NDArray
    kept: NDArray[np.bool_]
    top_k: int


class Classifier:
    """A vision transformer that looks at what waits for it in batches, in a thread of its own."""

    def __init__(self, settings: ServerSettings, metrics: Metrics) -> None:
        """Loads nothing yet; see `start`."""
        self._settings = settings
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vit")
        self._batcher: Batcher[Picture] = Batcher(
            self._look,
            self._thread,
            max_batch=settings.max_batch,
            queue_size=settings.queue_size,
            answer_within_seconds=settings.answer_within_seconds,
            metrics=metrics,
        )
        self._model: VisionTransformer | None = None
        self._logits: Callable[[Tensor], Tensor] | None = None
        self._names: list[str] = []
        self.is_loading = False
        self.is_ready = False
        self.description = ""

    async def start(self) -> None:
        """Loads torch and the weights, and answers warm-up images and a batch of them.

        Raises:
            WeightsError: no usable weights.
            EngineError: the engine cannot run the model.
        """
        self.is_loading = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._load)
        self.is_ready = True

    def check_room(self) -> None:
        """Raises NotReady before `start` has finished, and Overloaded where there is no use in waiting."""
        self._check_ready()
        self._batcher.check_room()

    def submit(self, decode: Callable[[], Picture], deadline: float) -> Pending:
        """Has a picture recognised; `decode` makes it, and is called in a thread.

        Raises:
            NotReady, Overloaded: as `check_room` does, or no answer can be expected before `deadline`, by the
                event loop's clock.
        """
        self._check_ready()
        return self._batcher.submit(decode, deadline)

    def _check_ready(self) -> None:
        if not self.is_ready:
            raise NotReady("the model is still loading; try again")

    def _load(self) -> None:
        try:
            from semlink.vision.vit import class_names, load_vit

            settings = self._settings
            self._model = load_vit(settings.model, weights=settings.weights)
            engine: EngineName = "torch" if settings.drop_empty else settings.engine
            self._logits = load_engine(engine, self._model, "logits", threads=settings.threads)
            self._names = class_names(self._model)
            self.description = str(self._model.origin)
            grey = Picture(np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.float32), np.ones(PATCHES, bool), top_k=1)
            self._look([grey])
            one, full = self._look([grey]), self._look([grey] * settings.max_batch)
            self._batcher.speed.start(one.inference_seconds, full.inference_seconds)
        finally:
            self.is_loading = False

    def _look(self, pictures: Sequence[Picture]) -> Looked:
        import torch

        from semlink.vision.vit import logits_of_patches, normalise

        model, logits_of = self._model, self._logits
        assert model is not None
        assert logits_of is not None
        began = time.perf_counter()
        # The one copy on the way is that from the decoder's float64 into the batch.
        pixels = np.stack([picture.pixels for picture in pictures], dtype=np.float32, casting="unsafe")
        images = normalise(model, pixels)
        prepared = time.perf_counter()
        with torch.inference_mode():
            if self._settings.drop_empty:  # each keeps another number of tokens: they make no batch
                logits = torch.cat(
                    [
                        logits_of_patches(model, image[None], picture.kept)
                        for image, picture in zip(images, pictures, strict=True)
                    ]
                )
            else:
                logits = logits_of(images)
            most = min(max(picture.top_k for picture in pictures), len(self._names))
            confidences, labels = logits.softmax(-1).topk(most)
        done = time.perf_counter()
        return Looked(
            [
                tuple(
                    Prediction(label, self._names[label], confidence)
                    for label, confidence in zip(likely[: picture.top_k], sure[: picture.top_k], strict=True)
                )
                for picture, likely, sure in zip(pictures, labels.tolist(), confidences.tolist(), strict=True)
            ],
            prepare_seconds=prepared - began,
            inference_seconds=done - prepared,
        )
