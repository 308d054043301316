"""Encoder: a source coder, and before it the vision transformer where it takes attention or tokens."""

import time
from copy import copy
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from device.capture import Encoded
from device.encoding import EncoderSettings
from device.settings import DeviceSettings
from semlink.service import tracing
from semlink.source.registry import Seen
from semlink.vision.engines import EngineName, load_engine
from semlink.vision.weights import DEVICE_MODEL


class Encoder:
    """Turns views into frames."""

    def __init__(
        self,
        settings: EncoderSettings,
        *,
        device_id: str,
        model: str = DEVICE_MODEL,
        weights: Path | None = None,
        engine: EngineName = "openvino",
        threads: int = 0,
    ) -> None:
        """Loads the models and warms the vision transformer up, if the source coder takes anything of it.

        Args:
            settings: the source coder, and its settings.
            device_id: whose views they are.
            model: timm name of the vision transformer.
            weights: folder to look into first for models.
            engine: what runs the vision transformer.
            threads: CPU threads of the models; 0: the engine's choice.

        Raises:
            WeightsError: no usable weights.
            EngineError: the engine cannot run the model.
        """
        self._settings, self._coder, self._device_id = settings, settings.coder, device_id
        self._loading: dict[str, Any] = {
            "device_id": device_id, "model": model, "weights": weights, "engine": engine, "threads": threads
        }  # fmt: skip
        self._coder.prepare(weights)
        if self._coder.takes != "pixels":
            from semlink.vision.vit import load_vit

            self._model = load_vit(model, weights=weights)
            self._engine: Any = load_engine(engine, self._model, self._coder.takes, threads=threads, batch=1)
        elif threads:
            import torch

            torch.set_num_threads(threads)

    @classmethod
    def of(cls, settings: DeviceSettings) -> Self:
        """The encoder of a device."""
        return cls(
            settings,
            device_id=settings.device_id,
            model=settings.model,
            weights=settings.weights,
            engine=settings.engine,
            threads=settings.threads,
        )

    def with_settings(self, settings: EncoderSettings) -> Self:
        """The same for other settings; models are loaded only where the source coder is another one.

        Raises:
            WeightsError: no usable weights.
            EngineError: the engine cannot run the model.
        """
        if settings.coder is not self._coder:
            return type(self)(settings, **self._loading)
        other = copy(self)
        other._settings = settings
        return other

    def encode(self, pixels: NDArray[np.uint8], frame_id: int) -> Encoded:
        """The frame of a (224, 224, 3) view; the same bytes whenever a view is encoded under the same id."""
        started = time.perf_counter()
        seen = self.look(pixels)
        looked = time.perf_counter()
        if seen is not None:
            tracing.record("attention", started, looked)
        return replace(self.code(pixels, seen, frame_id), attention_ms=1e3 * (looked - started))

    def look(self, pixels: NDArray[np.uint8]) -> Seen | NDArray[np.float32] | None:
        """What the source coder takes of a view."""
        if self._coder.takes == "pixels":
            return None
        from semlink.vision.vit import normalise

        answer = self._engine(normalise(self._model, pixels[None]))
        if self._coder.takes == "attention":
            attention: NDArray[np.float32] = answer[0].numpy()
            return attention
        tokens, attention = answer
        return Seen(tokens[0].numpy(), attention[0].numpy())

    def code(self, pixels: NDArray[np.uint8], seen: Seen | NDArray[np.float32] | None, frame_id: int) -> Encoded:
        """The frame of a view that was looked at; see `encode`."""
        started = time.perf_counter()
        data = self._coder.encode(pixels, seen, **self._coding(frame_id)).frame.to_bytes()
        done = time.perf_counter()
        tracing.record("encode", started, done)
        attention = seen.attention if isinstance(seen, Seen) else seen
        return Encoded(data, attention, pixels, 0.0, 1e3 * (done - started))

    def _coding(self, frame_id: int) -> dict[str, Any]:
        """The coder's settings; seeds are those of this frame of this device."""
        settings = self._settings.coding
        for each in self._coder.settings:
            if each.is_seed:
                settings[each.name] = frame_seed(settings[each.name], self._device_id, frame_id)
        return settings


def frame_seed(seed: int, device_id: str, frame_id: int) -> int:
    """Seed of one frame's randomness: another for each device and frame, the same when a frame is encoded anew.

    >>> frame_seed(0, "device-1", 7) == frame_seed(0, "device-1", 7) != frame_seed(0, "device-2", 7)
    True
    """
    digest = int.from_bytes(sha256(device_id.encode()).digest())
    return int(np.random.SeedSequence([seed, digest, frame_id]).generate_state(1, np.uint64)[0] >> np.uint64(1))
