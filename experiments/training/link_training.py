"""Self-distillation of a model on images that the link has damaged, without labels.

Fine-tuning the server on damaged images is Section IV-C of the transformer-aided paper (arXiv 2405.01521), with
labels and masked images. Here the model itself is the teacher: it sees a clean crop, the student sees the same
crop after importance-aware quantization and a binary symmetric channel, and its first blocks learn to give every
patch the token that it would have had. The blocks after them are frozen, so that a few hundred photos can't make
the model forget a thousand classes. In the end the weights from before and after are averaged (Wortsman et al.,
Robust fine-tuning of zero-shot models, arXiv 2109.01903), for the same reason.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from timm.models import VisionTransformer
from torch import Tensor
from torch.nn.functional import layer_norm, mse_loss

from experiments.data import ImageSetError
from experiments.data.image_sets import ImageSet
from experiments.evaluation.coders import send_frame
from experiments.training.checkpoint import device_and_precision, write_card
from experiments.training.steps import Steps
from experiments.training.tokens import random_crop
from experiments.training.train import measure, predicted
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.vision.images import open_image
from semlink.vision.storage import save_small
from semlink.vision.vit import class_attention, class_names, first_blocks, load_vit, normalise
from semlink.vision.weights import DEVICE_MODEL

KIND = "link-trained"
LABELLED, AS_BEFORE = "as labelled", "as before it was adapted"
CROPS = 12
"""Crops of each image; the clean models run once on each."""
RHOS = (1 / 16, 1 / 2)
"""The payload's ratio ρ is drawn between these, evenly on a logarithmic scale."""
LARGEST_BER = 0.1
CLEAN_SHARE = 0.1
"""Share of the crops that the student too gets undamaged, so that its accuracy on these stays."""
ERROR_FREE_SHARE = 0.4
"""Share of the damaged crops that are only quantized."""
ADAPTED_SHARE = 0.5
"""Share of the adapted weights in the final ones; the rest are the weights from before."""
CHECKPOINT_STEPS = 100


@dataclass(frozen=True)
class LinkTrainOptions:
    """How to adapt; see `semlink link-train --help`."""

    model: str
    weights: Path | None
    device_weights: Path | None
    blocks: int
    steps: int
    batch: int
    learning_rate: float
    seed: int


def link_train(
    options: LinkTrainOptions, data: ImageSet, held_out: ImageSet, folder: Path, progress: Progress
) -> dict:
    """Adapts a model to damaged images and writes it and its card into `folder`; resumes from its checkpoint.

    What the adapted model is measured by, on undamaged images, are their labels where the model has all classes of
    the images by name, and else the answers of the model before it was adapted.

    Args:
        options: hyperparameters.
        data: images to learn from; their labels are not used.
        held_out: undamaged images to measure on, once, at the end.
        folder: gets NAME.safetensors and NAME.json, the card, and NAME.checkpoint while it trains.
        progress: progress bar.

    Returns:
        The card: what it was made from, accuracy on undamaged images with its 95 % interval, options, data,
        command, versions, machine. `right` says by what an answer is right.

    Raises:
        ImageSetError: images that are missing.
    """
    for images in (data, held_out):
        images.check_files()
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"{options.model}.safetensors"
    torch.manual_seed(options.seed)
    where, _ = device_and_precision()
    teacher = load_vit(options.model, weights=options.weights).to(where)
    student = load_vit(options.model, weights=options.weights).to(where)
    checkpoint = out.with_suffix(".checkpoint")
    _adapt(student, teacher, options, data, checkpoint, progress)
    with torch.no_grad():
        for weight, before in zip(student.parameters(), teacher.parameters(), strict=True):
            weight.lerp_(before, 1 - ADAPTED_SHARE)
    save_small(out, student.state_dict(), tuple(class_names(teacher)), KIND)
    adapted = load_vit(options.model, weights=folder)
    try:
        held_out, right = held_out.labelled_as(class_names(teacher)), LABELLED
        measured = measure(adapted, held_out.examples, progress)
    except ImageSetError:
        right = AS_BEFORE
        before = predicted(teacher, held_out.examples, progress)
        measured = measure(adapted, held_out.examples, progress, before)
    facts = {
        "kind": KIND,
        "from": str(teacher.origin),
        "data": data.name,
        "classes": student.num_classes,
        "trained_on": len(data.examples),
        "right": right,
        "held_out": measured,
    }
    card = write_card(out, options, facts)
    checkpoint.unlink(missing_ok=True)
    return card


def _adapt(
    student: VisionTransformer,
    teacher: VisionTransformer,
    options: LinkTrainOptions,
    data: ImageSet,
    checkpoint: Path,
    progress: Progress,
) -> None:
    where, precision = device_and_precision()
    student.requires_grad_(False)
    run = (options, data.identity)
    adapted = [student.patch_embed, *student.blocks[: options.blocks]]
    parameters = [
        student.pos_embed,
        student.cls_token,
        *(weight for part in adapted for weight in part.parameters()),
    ]
    for weight in parameters:
        weight.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=options.learning_rate)
    steps = Steps(student, optimizer, options.steps, run, checkpoint)
    if steps.step == steps.total:
        return
    pool = _pool(data, teacher, options, progress)
    student.train()
    for step in steps.left("link-training", progress):
        generator = np.random.default_rng((options.seed, step))
        chosen = generator.integers(len(pool.crops), size=options.batch)
        damaged = np.stack([_damaged(pool.crops[index], pool.attention[index], generator) for index in chosen])
        with precision:
            tokens = first_blocks(student, normalise(student, damaged).to(where), options.blocks)
        steps.take(mse_loss(_normed(tokens), _normed(pool.tokens[chosen].to(where))))
        if steps.due(CHECKPOINT_STEPS):
            steps.save()


@dataclass(frozen=True, eq=False)
class _Pool:
    """Crops, and the clean models' attention and tokens of them."""

    crops: NDArray[np.uint8]
    attention: NDArray[np.float32]
    tokens: Tensor


def _pool(
    data: ImageSet,
    teacher: VisionTransformer,
    options: LinkTrainOptions,
    progress: Progress,
) -> _Pool:
    generator = np.random.default_rng(options.seed)
    where, precision = device_and_precision()
    attending = load_vit(DEVICE_MODEL, weights=options.device_weights).to(where)
    crops, attention, tokens = [], [], []
    for example in progress.track(data.examples, description="teacher"):
        photo = open_image(example.path)
        crops.append(np.stack([random_crop(photo, generator) for _ in range(CROPS)]))
        with torch.inference_mode(), precision:
            images = normalise(teacher, crops[-1]).to(where)
            tokens.append(first_blocks(teacher, images, options.blocks).half().cpu())
            attention.append(class_attention(attending, images).float().cpu().numpy())
    return _Pool(np.concatenate(crops), np.concatenate(attention), torch.cat(tokens))


def _normed(tokens: Tensor) -> Tensor:
    """(B, 1+N, D) tokens as the next block normalises them: a few channels are far larger than all others."""
    return layer_norm(tokens.float(), tokens.shape[-1:])


def _damaged(pixels: NDArray[np.uint8], attention: NDArray, generator: np.random.Generator) -> NDArray:
    """A crop as it arrives at the server: (224, 224, 3)."""
    if generator.random() < CLEAN_SHARE:
        return pixels
    rho = float(np.exp(generator.uniform(*np.log(RHOS))))
    ber = 0.0 if generator.random() < ERROR_FREE_SHARE else generator.uniform(0, LARGEST_BER)
    return send_frame(pixels, attention, BinarySymmetricChannel(ber=ber), generator, rho=rho).pixels
