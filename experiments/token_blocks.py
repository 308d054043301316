"""Tokens behind every block: how much of a picture they hold, by a linear map from a token to its patch's pixels.

Transformer-aided selection paints patches from tokens (Mortaheb et al., arXiv 2405.01521). The paper takes those
of the last block of a model that was trained without labels. Where DeiT-Tiny's are taken is chosen by this table:
for the tokens behind each block, ridge regression to the 768 pixel values of their patch, fitted on the even
labels' photos, and on the odd ones the squared error and how many the model still recognises in what is painted.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models import VisionTransformer
from torch import Tensor

from experiments.data.image_sets import Example, ImageSet, load_image_set
from experiments.evaluation.intervals import accuracy, percent
from experiments.provenance import described, provenance
from semlink.source.patches import to_image, to_patches
from semlink.vision.images import IMAGE_SIZE, model_pixels, open_image
from semlink.vision.vit import first_blocks, load_vit, normalise
from semlink.vision.weights import DEVICE_MODEL

FITTED, PATCH, BATCH = 192, 16, 16
"""Photos that the maps are fitted on, pixels of a patch's side, and photos computed at once."""
RIDGE = 10.0
"""Added to the diagonal of the normal equations; some 38,000 tokens of unit variance are on it."""


def main(data: Path, out: Path, most_images: int) -> None:
    """Measures every block and writes the table.

    Args:
        data: photos of ImageNet-1k's classes.
        out: folder of the table.
        most_images: so many of the odd labels' photos are measured.
    """
    odd, even = load_image_set(data).where("label=odd")
    model = load_vit(DEVICE_MODEL)
    fit, test = _pixels(even.at_most(FITTED)), _pixels(odd.at_most(most_images))
    examples = odd.at_most(most_images).examples
    lines = [
        "# Tokens behind every block of DeiT-Tiny",
        "",
        f"{len(examples)} photos of the odd labels; the linear maps are fitted on {len(fit)} of the even ones. "
        "Block 0 is the embedding of the patch, before any block. Intervals are of 95 %.",
        "",
        described(provenance()),
        "",
        "| tokens behind block | squared error, pixels in [0, 1] | recognised, % |",
        "| --- | --- | --- |",
        f"| originals | 0 | {_recognised(model, test, examples)} |",
    ]
    for blocks, (known, unknown) in enumerate(zip(_tokens(model, fit), _tokens(model, test), strict=True)):
        painted = _painted(known.float(), unknown.float(), fit)
        error = float(np.square((painted - test) / 255).mean())
        lines.append(f"| {blocks} | {error:.4f} | {_recognised(model, painted, examples)} |")
        print(lines[-1])
    table = out / f"token-blocks-{data.name}.md"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(table)


def linear_map(tokens: Tensor, patches: Tensor) -> Tensor:
    """Ridge regression with an intercept, tokens standardised by the caller: (D + 1, V) from (n, D) and (n, V)."""
    inputs = _with_one(tokens)
    return torch.linalg.solve(inputs.T @ inputs + RIDGE * torch.eye(inputs.shape[1]), inputs.T @ patches)


def _painted(known: Tensor, unknown: Tensor, fit: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Pictures (n, H, W, 3) from tokens (n·N, D), by the linear map of other pictures and their tokens."""
    mean, deviation = known.mean(0), known.std(0)
    values = torch.from_numpy(np.concatenate([to_patches(pixels, PATCH) for pixels in fit])).float()
    found = _with_one((unknown - mean) / deviation) @ linear_map((known - mean) / deviation, values)
    side = IMAGE_SIZE // PATCH
    patches = found.clamp(0, 255).double().numpy().reshape(-1, side * side, values.shape[1])
    return np.stack([to_image(each, side, side, PATCH) for each in patches])


@torch.inference_mode()
def _tokens(model: VisionTransformer, pixels: NDArray[np.uint8]) -> list[Tensor]:
    """(n·N, D) float16 tokens behind 0, 1, ... and all blocks."""
    behind: list[list[Tensor]] = [[] for _ in range(len(model.blocks) + 1)]
    for start in range(0, len(pixels), BATCH):
        with torch.autocast("cpu", torch.bfloat16):
            tokens = first_blocks(model, normalise(model, pixels[start : start + BATCH]), 0)
            for number, block in enumerate([None, *model.blocks]):
                tokens = tokens if block is None else block(tokens)
                behind[number].append(tokens[:, model.num_prefix_tokens :].flatten(0, 1).half())
    return [torch.cat(each) for each in behind]


def _recognised(model: VisionTransformer, painted: NDArray, examples: tuple[Example, ...]) -> str:
    """Top-1 accuracy in percent, with its interval."""
    right: list[bool] = []
    for start in range(0, len(painted), BATCH):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            answers = model(normalise(model, painted[start : start + BATCH])).argmax(1)
        labels = [example.label for example in examples[start : start + BATCH]]
        right += (answers.numpy() == labels).tolist()
    measured = accuracy(right, [example.sample for example in examples])
    return "{:.1f} ({:.1f} to {:.1f})".format(*percent(measured))


def _pixels(data: ImageSet) -> NDArray[np.uint8]:
    return np.stack([model_pixels(open_image(example.path)) for example in data.examples])


def _with_one(tokens: Tensor) -> Tensor:
    return torch.cat([tokens, torch.ones(len(tokens), 1)], dim=1)
