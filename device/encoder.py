"""Encoder: attention of the device's vision transformer, then importance-aware quantization."""

import time

import numpy as np
from numpy.typing import NDArray

from device.capture import Encoded
from device.settings import DeviceSettings
from semlink.service import tracing
from semlink.source.iaq import coder as iaq
from semlink.vision.engines import load_engine
from semlink.vision.vit import load_vit, normalise


class Encoder:
    """Turns views into frames."""

    def __init__(self, settings: DeviceSettings) -> None:
        """Loads the vision transformer and warms it up.

        Raises:
            WeightsError: no usable weights.
            EngineError: the engine cannot run the model.
        """
        self._settings = settings
        self._model = load_vit(settings.model, weights=settings.weights)
        self._attention = load_engine(settings.engine, self._model, "attention", threads=settings.threads, batch=1)

    def encode(self, pixels: NDArray[np.uint8]) -> Encoded:
        """Weighs the patches of a (224, 224, 3) view and quantizes them accordingly."""
        started = time.perf_counter()
        attention = self._attention(normalise(self._model, pixels[None]))[0].numpy()
        weighed = time.perf_counter()
        data = iaq.encode(pixels, attention, **self._settings.allocation).frame.to_bytes()
        done = time.perf_counter()
        tracing.record("attention", started, weighed)
        tracing.record("encode", weighed, done)
        return Encoded(data, attention, pixels, 1e3 * (weighed - started), 1e3 * (done - weighed))
