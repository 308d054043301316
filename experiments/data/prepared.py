"""Pixels and attention of an image set, computed once and cached on disk."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from timm.models import VisionTransformer

from experiments.data.image_sets import Example
from semlink.source.iaq.coder import PATCH_SIZE
from semlink.source.patches import to_patches
from semlink.vision.images import IMAGE_SIZE, model_pixels, open_image
from semlink.vision.vit import class_attention, load_vit, normalise, tokens_and_attention
from semlink.vision.weights import find_weights

BATCH = 16
TOKENS = "tokens.npy"


@dataclass(frozen=True, eq=False)
class Prepared:
    """Arrays of an image set, read from disk as they are needed.

    Attributes:
        pixels: (B, 224, 224, 3) 8-bit pixels.
        attention: (B, 196) attention of the device's model.
        cover: (B, 196) share of each patch that the object covers; NaN where there is no mask.
        tokens: (B, 196, D) tokens of the device's model, see `semlink.vision.vit.tokens_and_attention`; None where
            they were not asked for.
    """

    pixels: NDArray[np.uint8]
    attention: NDArray[np.float32]
    cover: NDArray[np.float32]
    tokens: NDArray[np.float32] | None = None


def prepare(
    examples: tuple[Example, ...],
    model: str,
    weights: Path | None,
    cache: Path,
    progress: Progress,
    *,
    tokens: bool = False,
) -> Path:
    """Computes what is not in the cache yet; returns the folder to `open_prepared`.

    Tokens, which take 150 kB an image, are kept only where they were asked for. The folder's name covers the
    images (paths, sizes, times) and the device's weights (contents).
    """
    found = find_weights(model, weights)
    identity = hashlib.sha256(found.path.read_bytes())
    for example in examples:
        status = example.path.stat()
        identity.update(json.dumps([str(example.path), status.st_size, status.st_mtime_ns]).encode())
    folder = cache / identity.hexdigest()[:24]
    known = (folder / "cover.npy").is_file()  # written last
    if known and (not tokens or (folder / TOKENS).is_file()):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    vit = load_vit(model, weights=weights)
    if not known:
        _prepare_attention(vit, examples, folder, progress)
    if tokens:
        _prepare_tokens(vit, folder, progress)
    return folder


def _prepare_attention(
    vit: VisionTransformer, examples: tuple[Example, ...], folder: Path, progress: Progress
) -> None:
    pixels = np.lib.format.open_memmap(
        folder / "pixels.npy", "w+", np.uint8, (len(examples), IMAGE_SIZE, IMAGE_SIZE, 3)
    )
    attention, cover = [], []
    for start in progress.track(range(0, len(examples), BATCH), description="attention"):
        batch = examples[start : start + BATCH]
        pixels[start : start + BATCH] = [model_pixels(open_image(example.path)) for example in batch]
        with torch.inference_mode():
            attention.append(class_attention(vit, normalise(vit, pixels[start : start + BATCH])).numpy())
        cover += [_cover(example) for example in batch]
    pixels.flush()
    np.save(folder / "attention.npy", np.concatenate(attention))
    np.save(folder / "cover.npy", np.stack(cover))


def _prepare_tokens(vit: VisionTransformer, folder: Path, progress: Progress) -> None:
    pixels, unfinished = open_prepared(folder).pixels, folder / f"unfinished-{TOKENS}"
    shape = len(pixels), vit.patch_embed.num_patches, vit.embed_dim
    kept = np.lib.format.open_memmap(unfinished, "w+", np.float32, shape)
    for start in progress.track(range(0, len(pixels), BATCH), description="tokens"):
        batch = slice(start, start + BATCH)
        kept[batch] = tokens_and_attention(vit, normalise(vit, np.array(pixels[batch])))[0].numpy()
    kept.flush()
    unfinished.rename(folder / TOKENS)


def open_prepared(folder: Path) -> Prepared:
    """The arrays of a folder that `prepare` made, mapped into memory."""
    pixels, attention, cover = (
        np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("pixels", "attention", "cover")
    )
    tokens = np.load(folder / TOKENS, mmap_mode="r") if (folder / TOKENS).is_file() else None
    return Prepared(pixels, attention, cover, tokens)


def _cover(example: Example) -> NDArray[np.float32]:
    side = IMAGE_SIZE // PATCH_SIZE
    if example.mask is None:
        return np.full(side * side, np.nan, np.float32)
    mask = model_pixels(open_image(example.mask))[:, :, :1] > 127
    return to_patches(mask, PATCH_SIZE).mean(axis=1, dtype=np.float32)
