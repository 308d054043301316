"""The vision transformer of the server, off the event loop."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models import VisionTransformer

from semlink.vit import IMAGE_SIZE, class_names, load_vit, normalise
from server.refusals import NotReady


@dataclass(frozen=True)
class Prediction:
    """One class: its label, its name and its softmax probability."""

    label: int
    name: str
    confidence: float


@dataclass(frozen=True)
class Recognition:
    """What one view shows: classes, the likeliest first, and milliseconds spent on finding out."""

    predictions: tuple[Prediction, ...]
    decode_ms: float
    queue_ms: float
    inference_ms: float


class Classifier:
    """A vision transformer that answers one image at a time, in a thread of its own."""

    def __init__(self, model: str, weights: Path | None, threads: int) -> None:
        """Loads nothing yet; see `start`."""
        self._name, self._weights, self._threads = model, weights, threads
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vit")
        self._model: VisionTransformer | None = None
        self._names: list[str] = []
        self.description = ""

    async def start(self) -> None:
        """Loads the weights and answers a warm-up image.

        Raises:
            WeightsError: no usable weights.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._load)

    async def classify(self, pixels: Callable[[], NDArray], top_k: int) -> Recognition:
        """Recognises the (224, 224, 3) image that `pixels` makes; it is called in the model's thread.

        Raises:
            NotReady: `start` has not finished.
        """
        model, asked = self._model, time.perf_counter()
        if model is None:
            raise NotReady("the model is still loading; try again")
        work = partial(self._classify, model, pixels, top_k, asked)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _load(self) -> None:
        if self._threads:
            torch.set_num_threads(self._threads)
        model = load_vit(self._name, weights=self._weights)
        self._names = class_names(model)
        self.description = str(model.origin)
        with torch.inference_mode():
            model(normalise(model, np.zeros((1, IMAGE_SIZE, IMAGE_SIZE, 3))))
        self._model = model

    def _classify(
        self, model: VisionTransformer, pixels: Callable[[], NDArray], top_k: int, asked: float
    ) -> Recognition:
        started = time.perf_counter()
        image = normalise(model, pixels()[None])
        decoded = time.perf_counter()
        with torch.inference_mode():
            confidences, labels = model(image)[0].softmax(-1).topk(min(top_k, len(self._names)))
        done = time.perf_counter()
        predictions = tuple(
            Prediction(label, self._names[label], confidence)
            for label, confidence in zip(labels.tolist(), confidences.tolist(), strict=True)
        )
        return Recognition(
            predictions,
            decode_ms=1e3 * (decoded - started),
            queue_ms=1e3 * (started - asked),
            inference_ms=1e3 * (done - decoded),
        )
