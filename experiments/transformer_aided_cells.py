"""Cells of the transformer-aided study: the same pictures sent in one way, and what classifiers say of them.

Every way crosses an error-free channel, as in Mortaheb et al. (arXiv 2405.01521, Section IV). Bits on air are
those of a frame or file, header and mask included.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from timm.models import VisionTransformer

from experiments.data.image_sets import Example, ImageSet
from experiments.evaluation.coders import send_frame, send_picture
from experiments.evaluation.intervals import accuracy, difference
from experiments.evaluation.rows import append_row, from_hex, rows_of, to_hex
from experiments.provenance import provenance
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.source.registry import Seen
from semlink.source.transformer_aided import coder
from semlink.source.transformer_aided.frame import TokenFrame
from semlink.source.transformer_aided.quantizer import Scales, dequantize
from semlink.vision.images import model_pixels, open_image
from semlink.vision.token_decoder import SCALES_NAME, decoded_pixels, load_decoder, scales_digest
from semlink.vision.vit import class_names, load_vit, normalise, tokens_and_attention
from semlink.vision.weights import DEVICE_MODEL

TOKENS, ORIGINAL = "transformer-aided", "original"
BASELINES = ("incremental", "top-k", "avif")
"""Ways that get as many bits as tokens need at the same rate r."""
BATCH = 16


@dataclass(frozen=True)
class Cell:
    """A way to send pictures.

    Attributes:
        way: TOKENS, ORIGINAL, or one of BASELINES, at most at the bits on air of TOKENS with the same settings.
        rate: r, the share of patches whose tokens are sent.
        alpha: share of them that goes by attention.
        token_bits: bits b of a token's value; None: the decoder gets the tokens as they are, which no frame holds.
        fill: what is painted where nothing was sent: grey, black, or what the decoder makes of it ("decoder").
    """

    way: str
    rate: float = 1.0
    alpha: float = 1.0
    token_bits: int | None = 4
    fill: str = "grey"


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures and what the device's vision transformer sees in them.

    Attributes:
        name: what they are.
        examples: their files and classes.
        pixels: (n, 224, 224, 3) uint8.
        seen: tokens and attention of each.
        classifiers: models by what they were trained on.
        decoder: folder of the token decoder, which the coder has loaded.
    """

    name: str
    examples: tuple[Example, ...]
    pixels: NDArray[np.uint8]
    seen: tuple[Seen, ...]
    classifiers: Mapping[str, VisionTransformer]
    decoder: Path

    def judged_by(self, classifier: str) -> "Pictures":
        """The same pictures, and one of the classifiers."""
        return replace(self, classifiers={classifier: self.classifiers[classifier]})

    @property
    def samples(self) -> list[str]:
        """What each picture shows; pictures of one sample are not independent."""
        return [example.sample for example in self.examples]


def seen_pictures(data: ImageSet, weights: Path, classifiers: Mapping[str, Path]) -> Pictures:
    """Reads pictures and runs the device's model on them, in float32; loads the coder.

    Args:
        data: the pictures.
        weights: folder of the device's model, with the folder token-decoder in it.
        classifiers: folders of the server's models, of the size of the device's.

    Raises:
        ImageSetError: pictures are missing, or the models have other classes.
        WeightsError: models are missing.
    """
    data.check_files()
    encoder = load_vit(DEVICE_MODEL, weights=weights)
    coder.load(weights)
    models = {name: load_vit(DEVICE_MODEL, weights=folder) for name, folder in classifiers.items()}
    data = data.labelled_as(class_names(models[next(iter(models))]))
    pixels = np.stack([model_pixels(open_image(example.path)) for example in data.examples])
    seen = []
    for start in track(range(0, len(pixels), BATCH), description="device's model"):
        tokens, attention = tokens_and_attention(encoder, normalise(encoder, pixels[start : start + BATCH]))
        seen += [Seen(*pair) for pair in zip(tokens.numpy(), attention.numpy(), strict=True)]
    return Pictures(data.name, data.examples, pixels, tuple(seen), models, weights / coder.FOLDER)


def measure(cells: Sequence[Cell], pictures: Pictures, seed: int, out: Path) -> dict[Cell, dict[str, Any]]:
    """Rows of cells: those that `out` has of the same pictures, models and seed; new ones are appended to it."""
    of = {"data": pictures.name, "images": len(pictures.examples), "seed": seed, "models": _models(pictures)}
    rows = {Cell(**row["cell"]): row for row in rows_of(out) if row["of"] == of}
    for cell in cells:
        if cell not in rows:
            row = {"cell": asdict(cell), "of": of, **_measured(cell, pictures, seed), **provenance()}
            append_row(out, row)
            rows[cell] = row
    return {cell: rows[cell] for cell in cells}


def gain(
    first: Mapping[str, Any], second: Mapping[str, Any], classifiers: tuple[str, str], pictures: Pictures
) -> dict[str, float | int]:
    """By how much more often the first row's classifier is right than the second's, paired; see `difference`."""
    ours, theirs = (
        from_hex(row["by"][name]["correct"], len(pictures.examples))
        for row, name in zip((first, second), classifiers, strict=True)
    )
    return difference(ours, theirs, pictures.samples)


def _measured(cell: Cell, pictures: Pictures, seed: int) -> dict[str, Any]:
    """Accuracy of each classifier, bits on air, and the masked mean squared error, pixels in [0, 1]."""
    send = _sender(cell, pictures)
    correct: dict[str, list[bool]] = {name: [] for name in pictures.classifiers}
    bits, errors = [], []
    labels = np.array([example.label for example in pictures.examples])
    for start in track(range(0, len(labels), BATCH), description=" ".join(map(str, asdict(cell).values()))):
        numbers = range(start, min(start + BATCH, len(labels)))
        arrived = [send(number, seed) for number in numbers]
        bits += [sent for _, sent, _ in arrived]
        for number, (pixels, _, mask) in zip(numbers, arrived, strict=True):
            squares = np.square(pixels - pictures.pixels[number].astype(np.float64)).mean(axis=2) / 255**2
            errors.append(squares[_enlarged(mask)].mean() if mask.any() else 0.0)
        painted = np.stack([pixels for pixels, _, _ in arrived])
        for name, model in pictures.classifiers.items():
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                answers = model(normalise(model, painted)).argmax(1).numpy()
            correct[name] += (answers == labels[list(numbers)]).tolist()
    return {
        "bits": float(np.mean(bits)),
        "masked_mse": float(np.mean(errors)),
        "masked_mse_half_width": float(1.96 * np.std(errors) / np.sqrt(len(errors))),
        "by": {
            name: accuracy(right, pictures.samples) | {"correct": to_hex(right)} for name, right in correct.items()
        },
    }


Sent = tuple[NDArray[np.float64], int, NDArray[np.bool_]]
"""Pixels as they arrive, bits on air, and the mask of patches that were sent."""


def _sender(cell: Cell, pictures: Pictures) -> Callable[[int, int], Sent]:
    everything = np.ones(coder.GEOMETRY.patches, bool)
    if cell.way == ORIGINAL:
        return lambda number, seed: (pictures.pixels[number].astype(np.float64), 0, everything)
    if cell.way == TOKENS:
        return token_sender(cell, pictures)
    error_free = BinarySymmetricChannel(ber=0.0)

    def baseline(number: int, seed: int) -> Sent:
        image, generator = pictures.pixels[number], np.random.default_rng((seed, number))
        frame = _frame(cell, pictures, number, seed)
        budget = frame.header_bits + 8 * len(frame.payload)
        if cell.way == "avif":
            received = send_picture(image, cell.way, budget, error_free, generator)
        else:
            attention = pictures.seen[number].attention
            received = send_frame(image, attention, error_free, generator, method=cell.way, total_bits=budget)
        return received.pixels.astype(np.float64), received.bits, everything

    return baseline


def token_sender(cell: Cell, pictures: Pictures) -> Callable[[int, int], Sent]:
    """A function of a picture's number and the seed: what arrives of it as tokens."""
    if cell.token_bits is not None and cell.fill == "grey":

        def over_the_wire(number: int, seed: int) -> Sent:
            frame = _frame(cell, pictures, number, seed)
            return coder.decode(frame), frame.header_bits + 8 * len(frame.payload), frame.sent

        return over_the_wire
    decoder, scales = load_decoder(pictures.decoder), Scales.read(pictures.decoder / SCALES_NAME)

    def variant(number: int, seed: int) -> Sent:
        frame = _frame(replace(cell, token_bits=cell.token_bits or 8), pictures, number, seed)
        tokens = pictures.seen[number].tokens.copy()
        if cell.token_bits is not None:
            tokens[frame.sent] = dequantize(frame.codes, scales, frame.bits)
        pixels = decoded_pixels(decoder, tokens[None], frame.sent[None])[0].astype(np.float64)
        if cell.fill != "decoder":
            pixels[~_enlarged(frame.sent)] = {"grey": 127.5, "black": 0.0}[cell.fill]
        return pixels, frame.header_bits + 8 * len(frame.payload), frame.sent

    return variant


def _frame(cell: Cell, pictures: Pictures, number: int, seed: int) -> TokenFrame:
    coded = coder.encode(
        pictures.pixels[number],
        pictures.seen[number],
        ratio=cell.rate,
        alpha=cell.alpha,
        token_bits=cell.token_bits or 8,
        selection_seed=seed * len(pictures.examples) + number,
    )
    return coded.frame


def _enlarged(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(H, W) pixels of the patches in a mask."""
    geometry = coder.GEOMETRY
    grid = mask.reshape(geometry.rows, geometry.columns)
    return grid.repeat(geometry.patch_size, axis=0).repeat(geometry.patch_size, axis=1)


def _models(pictures: Pictures) -> dict[str, str]:
    """First digits of what the models are, so that rows of others are not taken for theirs."""
    digests = {name: model.origin.weights.sha256[:8] for name, model in pictures.classifiers.items()}
    return digests | {"decoder": scales_digest(pictures.decoder)[:8]}
