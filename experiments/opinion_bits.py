"""Opinion's bits: what a device's five likeliest classes lose when 14 bits tell their probabilities.

For photos of the odd labels, DeiT-Tiny's probabilities at the temperature that fits the even ones best, spoken in
several ways. The loss is the expected logarithm of the true over the told probability, of the five classes and of
all others together (Kullback-Leibler divergence): so much worse would whoever is told predict the picture's class.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from experiments.data.image_sets import ImageSet, load_image_set
from experiments.provenance import described, provenance
from experiments.tables import write_table
from semlink.decision.belief import Belief
from semlink.source.opinion import CODE_BITS, MOST_CLASSES, opinion_frame
from semlink.vision.engines import load_engine
from semlink.vision.images import model_pixels, open_image
from semlink.vision.vit import load_vit, normalise
from semlink.vision.weights import DEVICE_MODEL

WAYS = ((5, 4, 2, 2, 1), (6, 4, 2, 1, 1), (5, 3, 2, 2, 2), (6, 3, 2, 2, 1), (4, 4, 2, 2, 2))
"""Bits of the five codes."""


def main(data: Path, out: Path, most_images: int) -> None:
    """Measures every way and writes opinion-bits-SET.md.

    Args:
        data: photos of ImageNet-1k's classes.
        out: folder of the table.
        most_images: at most so many of either half of the photos.
    """
    odd, even = load_image_set(data).where("label=odd")
    fitted, labels = _logits(even.at_most(most_images))
    surprise = minimize_scalar(lambda value: _surprise(fitted / value, labels), bounds=(0.1, 10), method="bounded")
    temperature = float(surprise.x)
    logits, labels = _logits(odd.at_most(most_images))
    probabilities = softmax(logits / temperature, axis=1)
    named = np.sort(probabilities, axis=1)[:, : -MOST_CLASSES - 1 : -1]
    frames = [opinion_frame(Belief.of(each)).belief(each.size).probabilities for each in probabilities]
    chosen = np.mean(losses(named, np.stack(frames)))
    lines = [
        "# What an opinion's 14 bits of probability lose",
        "",
        f"{len(logits)} photos of {data.name}, of the odd labels; DeiT-Tiny at the temperature {temperature:.3f}, "
        f"fitted on {len(fitted)} of the even ones. Its cross-entropy with all 1000 probabilities is "
        f"{_surprise(logits / temperature, labels):.3f} nats. The frames that are sent lose {chosen:.4f} nats.",
        "",
        described(provenance()),
        "",
        "| bits of the five | steps of the first | lost, mean nats | largest |",
        "| --- | --- | --- | --- |",
    ]
    for bits in WAYS:
        for steps, fine in (("even", False), ("finer towards 1", True)):
            lost = losses(named, np.stack([told(each, bits, fine) for each in named]))
            sent = " (sent)" if bits == CODE_BITS and fine else ""
            lines.append(f"| {', '.join(map(str, bits))}{sent} | {steps} | {lost.mean():.4f} | {lost.max():.3f} |")
    write_table(out / f"opinion-bits-{data.name}.md", lines)


def told(probabilities: NDArray[np.float64], bits: tuple[int, ...], fine: bool) -> NDArray[np.float64]:
    """(5,) probabilities as they are told with other bits than `semlink.source.opinion` has.

    Args:
        probabilities: (5,) descending.
        bits: of each one's code.
        fine: the first one's steps are those of the frame; or else even.
    """
    said = np.zeros(0)
    for place, (probability, width) in enumerate(zip(probabilities, bits, strict=True)):
        most = min([*said[-1:], 1 - said.sum()])
        fraction = min(probability / most, 1.0)
        bent = fine and place == 0
        even = 1 - np.sqrt(1 - fraction) if bent else fraction
        middle = (min(np.floor(even * 2**width), 2**width - 1) + 0.5) / 2**width
        said = np.append(said, most * (1 - (1 - middle) ** 2 if bent else middle))
    return said


def losses(true: NDArray[np.float64], said: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) divergences in nats of (n, 5) probabilities and their rest, true and said."""
    both = (np.concatenate([each, 1 - each.sum(1, keepdims=True)], axis=1) for each in (true, said))
    one, other = (np.maximum(each, 1e-12) for each in both)
    return np.sum(one * np.log(one / other), axis=1)


def _surprise(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Mean cross-entropy in nats."""
    return -float(log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def _logits(data: ImageSet) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(n, C) logits of DeiT-Tiny and (n,) labels."""
    model = load_vit(DEVICE_MODEL)
    engine = load_engine("openvino", model, "logits", threads=1, batch=1)

    def rows() -> Iterator[NDArray[np.float32]]:
        for example in data.examples:
            pixels = model_pixels(open_image(example.path))
            yield engine(normalise(model, pixels[None])).numpy()[0].copy()

    return np.stack(list(rows())).astype(np.float64), np.array([example.label for example in data.examples])
