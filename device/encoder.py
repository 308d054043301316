"""The encoder: attention of the device's vision transformer, then importance-aware quantization."""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device.settings import DeviceSettings
from semlink.service import tracing
from semlink.source.iaq import IaqFrame
from semlink.source.iaq import coder as iaq
from semlink.vision.engines import load_engine
from semlink.vision.vit import load_vit, normalise


@dataclass(frozen=True, eq=False)
class Encoded:
    """A view, ready to send.

    Attributes:
        pixels: (H, W, 3) 8-bit view.
        attention: (N,) attention on each patch.
        frame: what goes on the air.
        data: the frame's bytes.
        attention_ms: time in the vision transformer, normalisation included.
        encode_ms: time for allocating, quantizing and packing.
    """

    pixels: NDArray[np.uint8]
    attention: NDArray[np.float32]
    frame: IaqFrame
    data: bytes
    attention_ms: float
    encode_ms: float


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
        frame = iaq.encode(pixels, attention, **self._settings.allocation).frame
        data = frame.to_bytes()
        done = time.perf_counter()
        tracing.tracer.record("attention", started, weighed)
        tracing.tracer.record("encode", weighed, done)
        return Encoded(pixels, attention, frame, data, 1e3 * (weighed - started), 1e3 * (done - weighed))
