"""Kinds of stills that were tried for a dialogue: sides, budgets, AV1 settings, codecs, crops, refinements.

For every picture: bytes of the frame, and what the device and the servers make of what it decodes to. Of each
answer the likeliest classes are kept, and those that the device's opinion names; others share what is left evenly.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy.special import log_softmax

from semlink.source.codec.frame import HEADER_BYTES
from semlink.source.codec.head import HEAD_BYTES
from semlink.source.codec.rate_control import SIDES
from semlink.source.codec.stills import CODECS, read, scaled
from semlink.vision.engines import EngineName
from semlink.vision.images import IMAGE_SIZE

PATCH = 16
WINDOW_BYTES = 2
"""Bytes that say where a crop lies."""
KEPT = 32
"""Likeliest classes of an answer that are kept."""
NAMED = 8
"""Likeliest classes of the device, of which every answer keeps what it makes of them."""
SAME_BYTES = {(160, 1505): 36, (224, 6020): 55}
"""Quality at which photos take about as many bytes on average as within the budget of a rung."""
VARIED = (160, 1505), (224, 6020)
"""Side and budget of the rungs of which everything else is tried."""
LABELS = "labels.npy"
"""File of the photos' labels."""
KINDS_AT_ONCE = 4
"""Kinds after which what there is so far is written."""
CHUNK = 50
"""Pictures of one task."""


@dataclass(frozen=True)
class Kind:
    """How a still is made.

    Attributes:
        name: of the kind.
        side: longer side of the still, pixels.
        budget_bytes: most bytes of all its frames, headers included.
        codec: avif, webp or jpeg.
        options: of Pillow, in place of the codec's own of the same name.
        window: crop to the smallest square of patches with this share of the attention.
        background: blur what is not attended to, by a Gaussian of so many pixels.
        refines: a first still, whose error this one codes with what is left of the budget.
        quality: of Pillow, in place of the best within the budget.
    """

    name: str
    side: int
    budget_bytes: int
    codec: str = "avif"
    options: tuple[tuple[str, Any], ...] = ()
    window: float | None = None
    background: float | None = None
    refines: "Kind | None" = None
    quality: int | None = None


@dataclass(frozen=True, eq=False)
class Answers:
    """What a classifier makes of pictures, as far as it is kept.

    Attributes:
        labels: (B, `KEPT`) likeliest classes, the likeliest first.
        logs: (B, `KEPT`) natural logarithms of their probabilities.
        named: (B, `NAMED`) the device's likeliest classes.
        named_logs: (B, `NAMED`) of theirs.
        classes: how many there are.
    """

    labels: NDArray[np.int16]
    logs: NDArray[np.float16]
    named: NDArray[np.int16]
    named_logs: NDArray[np.float16]
    classes: int

    @classmethod
    def of(cls, logits: NDArray, named: NDArray[np.int16]) -> "Answers":
        """What is kept of (B, C) logits."""
        logs = log_softmax(logits.astype(np.float64), axis=1)
        labels = np.argsort(-logs, axis=1, kind="stable")[:, :KEPT]
        return cls(
            labels.astype(np.int16),
            np.take_along_axis(logs, labels, axis=1).astype(np.float16),
            named,
            np.take_along_axis(logs, named.astype(np.int64), axis=1).astype(np.float16),
            logs.shape[1],
        )

    def log_probabilities(self) -> NDArray[np.float64]:
        """(B, C) natural logarithms; what is not kept shares what is left evenly."""
        rows = np.arange(len(self.labels))[:, None]
        whole = np.full((len(self.labels), self.classes), np.nan)
        whole[rows, self.named] = self.named_logs
        whole[rows, self.labels] = self.logs
        others = np.isnan(whole)
        left = np.maximum(1 - np.exp(np.where(others, -np.inf, whole)).sum(axis=1), 1e-6)
        filled: NDArray[np.float64] = np.where(others, np.log(left / others.sum(axis=1))[:, None], whole)
        return filled


def made(kind: Kind, pixels: NDArray[np.uint8], attention: NDArray) -> tuple[int, NDArray[np.uint8]]:
    """Bytes of the frames of a picture, and the (224, 224, 3) pixels that a server sees.

    Args:
        kind: how the still is made.
        pixels: (224, 224, 3) of the picture.
        attention: (196,) of the device.
    """
    if kind.refines is not None:
        return _refined(kind, kind.refines, pixels, attention)
    shown = Image.fromarray(pixels)
    extra = 0
    if kind.background is not None:
        shown = _with_blurred_background(shown, attention, kind.background)
    if kind.window is not None:
        shown, extra = shown.crop(_window(attention, kind.window)), WINDOW_BYTES
    size, still = _coded(kind, shown, kind.budget_bytes - extra)
    return size + extra, scaled(still, IMAGE_SIZE, IMAGE_SIZE)


def _coded(kind: Kind, picture: Image.Image, budget_bytes: int) -> tuple[int, NDArray[np.uint8]]:
    """Bytes of one frame, and the still that it decodes to."""
    own = CODECS[kind.codec]
    small, large = (
        tuple((dict(options) | dict(kind.options)).items())
        for options in (own.options, own.large_options or own.options)
    )
    codec = replace(own, options=small, large_options=large)
    if kind.quality is not None:
        scale = kind.side / max(picture.size)
        sizes = round(picture.width * scale), round(picture.height * scale)
        stripped = codec.strip(codec.write(picture.resize(sizes), kind.quality))
        return len(stripped) + HEADER_BYTES - HEAD_BYTES, read(stripped, codec)
    longest = min(kind.side, max(picture.size))
    sides = (longest, *(side for side in SIDES if side < longest))
    most = budget_bytes - HEADER_BYTES + HEAD_BYTES
    stripped = codec.best_within(picture, most, sides)
    return len(stripped) + HEADER_BYTES - HEAD_BYTES, read(stripped, codec)


def _refined(
    kind: Kind, first: Kind, pixels: NDArray[np.uint8], attention: NDArray
) -> tuple[int, NDArray[np.uint8]]:
    """Half the first still's error around mid-grey is a picture of its own."""
    spent, seen = made(first, pixels, attention)
    error = np.clip((pixels.astype(np.int16) - seen) // 2 + 128, 0, 255).astype(np.uint8)
    size, coded = _coded(kind, Image.fromarray(error), kind.budget_bytes - spent)
    correction = 2 * (scaled(coded, IMAGE_SIZE, IMAGE_SIZE).astype(np.int16) - 128)
    return spent + size, np.clip(seen + correction, 0, 255).astype(np.uint8)


def _window(attention: NDArray, share: float) -> tuple[int, int, int, int]:
    """Left, top, right and bottom in pixels of the smallest square of patches with a share of the attention.

    Of equal sizes, the one with most of it.
    """
    grid = math.isqrt(attention.size)
    sums = np.zeros((grid + 1, grid + 1))
    sums[1:, 1:] = attention.reshape(grid, grid).cumsum(axis=0).cumsum(axis=1)
    for side in range(1, grid + 1):
        held = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
        if held.max() >= share * sums[-1, -1] or side == grid:
            top, left = np.unravel_index(held.argmax(), held.shape)
            break
    return PATCH * int(left), PATCH * int(top), PATCH * int(left + side), PATCH * int(top + side)


def _with_blurred_background(picture: Image.Image, attention: NDArray, radius: float) -> Image.Image:
    """Patches with the median's attention or more stay sharp; the others fade to a blurred picture."""
    grid = math.isqrt(attention.size)
    sharp = np.clip(attention / np.median(attention), 0, 1).reshape(grid, grid)
    mask = Image.fromarray((255 * sharp).astype(np.uint8)).resize(picture.size, Image.Resampling.BICUBIC)
    return Image.composite(picture, picture.filter(ImageFilter.GaussianBlur(radius)), mask)


def _varied(**changes: Any) -> Iterator[Kind]:
    """The `VARIED` rungs with something else."""
    what = ", ".join(
        f"{name} {dict(value) if name == 'options' else value}".replace("'", "") for name, value in changes.items()
    )
    for side, budget in VARIED:
        yield Kind(f"{side}, {budget}, {what}", side, budget, **changes)


def kinds() -> list[Kind]:
    """All that is tried, the most telling first."""
    found = [Kind(f"{side}, {budget}", side, budget) for side, budget in (*VARIED, (112, 753), (224, 12040))]
    found += [*_varied(window=0.9), *_varied(window=0.75), *_varied(background=3.0)]
    for codec in ("webp", "jpeg"):
        found += _varied(codec=codec)
    for first_side, first_budget, budget in ((112, 753, 3010), (160, 1505, 6020), (160, 3010, 12040)):
        small = Kind(f"{first_side}, {first_budget}", first_side, first_budget)
        found += [small, Kind(f"224, {budget}", 224, budget)]
        found.append(Kind(f"224, {budget}, refines {small.name}", IMAGE_SIZE, budget, refines=small))
    for (side, budget), quality in SAME_BYTES.items():
        found.append(Kind(f"{side}, {budget}, quality {quality}", side, 1 << 16, quality=quality))
    for chroma in ("4:0:0", "4:4:4"):
        found += _varied(options=(("subsampling", chroma),))
    for speed in (6, 9):
        found += _varied(options=(("speed", speed),))
    for name, value in (("tune", "ssim"), ("tune", "psnr"), ("deltaq-mode", "3")):
        found += _varied(options=(("codec", "aom"), ("advanced", ((name, value),))))
    return list(dict.fromkeys(found))


Found = Iterator[tuple[str, NDArray[np.int32], dict[str, Answers]]]
"""Name of a kind, (B,) bytes, and answers by model."""


def measure(pixels: NDArray[np.uint8], models: Sequence[str], processes: int, tried: Sequence[Kind]) -> Found:
    """Encodes all pictures as every kind and asks the models, the first of which is the device.

    Yields:
        First "clean", the pictures as they are, then each kind.
    """
    import torch

    from experiments.classifiers import load_classifier
    from semlink.vision.vit import class_attention, load_vit, normalise

    engine: EngineName = "torch" if torch.cuda.is_available() else "openvino"
    asked = {name: load_classifier(name, engine=engine) for name in models}
    device, vit = asked[models[0]], load_vit(models[0])
    starts = range(0, len(pixels), CHUNK)
    attention = np.concatenate(
        [class_attention(vit, normalise(vit, pixels[start : start + CHUNK])).numpy() for start in starts]
    )
    named = np.argsort(-device.logits(pixels), axis=1, kind="stable")[:, :NAMED].astype(np.int16)

    def answers(shown: NDArray[np.uint8]) -> dict[str, Answers]:
        return {name: Answers.of(model.logits(shown), named) for name, model in asked.items()}

    yield "clean", np.full(len(pixels), 3 * IMAGE_SIZE**2, np.int32), answers(pixels)
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        parts = [(pixels[start : start + CHUNK], attention[start : start + CHUNK]) for start in starts]
        pending = {kind: [pool.submit(_chunk, kind, *part) for part in parts] for kind in tried}
        for kind, futures in pending.items():
            sizes, shown = zip(*(future.result() for future in futures), strict=True)
            yield kind.name, np.concatenate(sizes), answers(np.concatenate(shown))
            pending[kind] = []


def _chunk(
    kind: Kind, pixels: NDArray[np.uint8], attention: NDArray
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    sizes, shown = zip(*map(partial(made, kind), pixels, attention), strict=True)
    return np.array(sizes, np.int32), np.stack(shown)


def keep(folder: Path, models: Sequence[str], found: Found) -> None:
    """Writes bytes and answers, one file a model: NAME.npz, and sizes.npz; also of what there is so far."""
    sizes: dict[str, NDArray] = {}
    kept: dict[str, dict[str, NDArray]] = {name: {} for name in models}

    def write() -> None:
        for name, arrays in kept.items():
            np.savez_compressed(folder / f"{name}.npz", **arrays)  # type: ignore[arg-type]
        np.savez_compressed(folder / "sizes.npz", **sizes)  # type: ignore[arg-type]

    for kind, bytes_of, answers in found:
        sizes[kind] = bytes_of
        for name, each in answers.items():
            kept[name]["named"] = each.named
            for part in ("labels", "logs", "named_logs"):
                kept[name][f"{kind}|{part}"] = getattr(each, part)
        print(f"{kind}: {bytes_of.mean():.0f} bytes", flush=True)
        if len(sizes) % KINDS_AT_ONCE == 0:
            write()
    write()


def chosen(labels: NDArray[np.int64], share: int) -> NDArray[np.intp]:
    """Indices of photos of every share-th pair of an even and an odd label."""
    return np.flatnonzero(labels // 2 % share == 0)


def main(data: Path, out: Path, processes: int, share: int, models: Sequence[str]) -> None:
    """Measures all kinds on photos of a folder.

    Args:
        data: the folder, of ImageNet-1k's classes.
        out: folder of what `keep` writes, and photos.npy, the labels.
        processes: how many encode at once.
        share: photos of every so many pairs of labels; 1: all.
        models: the device's first.
    """
    from experiments.data.image_sets import load_image_set
    from semlink.vision.images import model_pixels, open_image

    examples = load_image_set(data).examples
    indices = chosen(np.array([each.label for each in examples]), share)
    pixels = np.stack([model_pixels(open_image(examples[index].path)) for index in indices])
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / LABELS, np.array([examples[index].label for index in indices]))
    keep(out, models, measure(pixels, models, processes, kinds()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])
