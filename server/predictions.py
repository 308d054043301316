"""What the model says of one view."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Prediction:
    """One class: its label, its name and its softmax probability."""

    label: int
    name: str
    confidence: float


@dataclass(frozen=True)
class Recognition:
    """What one view shows: classes, the likeliest first, and milliseconds spent on finding out.

    `inference_ms` is that of the whole batch, which every image of it waits for.
    """

    predictions: tuple[Prediction, ...]
    decode_ms: float
    queue_ms: float
    inference_ms: float
