"""Opinion encoder: what a device takes a view for, and behind it a picture where it is unsure."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from device.capture import Encoded
from device.policy import PolicySettings
from device.settings import DeviceSettings
from device.stills import still
from semlink.decision.alone import rung_to_send
from semlink.decision.belief import Belief
from semlink.decision.calibration import Rung, read_calibration
from semlink.service import tracing
from semlink.source.opinion import LABEL_BITS, opinion_frame
from semlink.source.registry import decode

Look = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""(224, 224, 3) pixels -> (N,) attention and (C,) logits, of one pass through the vision transformer."""


class OpinionEncoder:
    """Turns views into opinions."""

    def __init__(self, settings: PolicySettings, look: Look) -> None:
        """`look` is the device's model.

        Raises:
            CalibrationError: there is no calibration in the file, or none that meets the target.
        """
        self._policy, self._codec, self.look = settings.policy, settings.coding["codec"], look
        self._calibration = read_calibration(settings.calibration)
        self._price = 0.0
        if settings.policy == "alone":
            self._price = self._calibration.alone.price_for(settings.target_accuracy_loss, settings.budget_bits)

    @classmethod
    def of(cls, settings: DeviceSettings) -> Self:
        """The encoder of a device; loads its model.

        Raises:
            CalibrationError: as above.
            WeightsError: no usable weights.
            EngineError: the engine cannot run the model.
        """
        from semlink.vision.engines import load_engine
        from semlink.vision.vit import load_vit, normalise
        from semlink.vision.weights import WeightsError

        model = load_vit(settings.model, weights=settings.weights)
        if model.num_classes > 1 << LABEL_BITS:
            raise WeightsError(
                f"{settings.model} has {model.num_classes} classes, opinions name {1 << LABEL_BITS}"
            )
        engine = load_engine(settings.engine, model, "opinion", threads=settings.threads, batch=1)

        def look(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            attention, logits = engine(normalise(model, pixels[None]))
            return attention[0].numpy(), logits[0].numpy()

        return cls(settings, look)

    def encode(self, pixels: NDArray[np.uint8], frame_id: int) -> Encoded:
        """The frames of a (224, 224, 3) view that are sent unasked; the same bytes whatever the frame id."""
        started = time.perf_counter()
        attention, logits = self.look(pixels)
        looks = [logits]
        if self._calibration.wants_mirror(logits):
            looks.append(self.look(np.ascontiguousarray(pixels[:, ::-1]))[1])
        looked = time.perf_counter()
        opinion = self._calibration.opinion(*looks)
        data, on_wish = opinion_frame(opinion).to_bytes(), self._codec if self._policy == "ask" else ""
        view = Encoded(data, attention, pixels, 1e3 * (looked - started), 0.0, on_wish=on_wish)
        if self._policy == "alone" and (picture := self._picture(view, opinion)):
            view = replace(view, following=(picture,))
        done = time.perf_counter()
        tracing.record("opinion", started, looked)
        tracing.record("encode", looked, done)
        return replace(view, encode_ms=1e3 * (done - looked))

    def _picture(self, view: Encoded, opinion: Belief) -> bytes | None:
        """The frame of the smallest picture in which the device sees what it saw; None where it is sure."""
        made: dict[Rung, Encoded] = {}

        def code(rung: Rung) -> Encoded:
            if rung not in made:
                made[rung] = still(view, self._codec, rung.side, rung.budget_bytes)
            return made[rung]

        def label_seen(rung: Rung) -> int:
            _, logits = self.look(np.clip(np.rint(decode(code(rung).frame)), 0, 255).astype(np.uint8))
            return int(logits.argmax())

        rung = rung_to_send(opinion, self._calibration, self._price, label_seen)
        return code(rung).data if rung else None
