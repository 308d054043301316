"""Fine-tuning a vision transformer on images, without any channel (IAQ, Section V), on CPU or GPU.

The first blocks of a pretrained vision transformer need hardly change, so they may be frozen: their tokens are
then computed once per image and cached, and only the last blocks, the final norm and the head are trained. Patch
dropout shortens the token sequences (Liu et al., PatchDropout, arXiv 2208.07220).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
import torch
from rich.progress import Progress
from timm.models import VisionTransformer
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from experiments.data.image_sets import Example, ImageSet
from experiments.evaluation.intervals import accuracy
from experiments.training.checkpoint import device_and_precision, load_checkpoint, save_checkpoint, write_card
from semlink.vision.images import model_pixels, open_image
from semlink.vision.storage import save_small
from semlink.vision.vit import class_names, first_blocks, load_vit, normalise

log = structlog.get_logger(__name__)

READ_BATCH = 16


@dataclass(frozen=True)
class TrainOptions:
    """How to train; see `semlink train --help`."""

    model: str
    weights: Path | None
    epochs: int
    batch: int
    learning_rate: float
    frozen_blocks: int
    patch_dropout: float
    distil: bool
    patience: int
    seed: int


def train(options: TrainOptions, data: ImageSet, held_out: ImageSet, folder: Path, progress: Progress) -> dict:
    """Fine-tunes a model and writes it and its card into `folder`; resumes from the checkpoint it finds there.

    Cross-entropy and Adam, as the paper does; with `distil` the targets are the pretrained model's own class
    probabilities, averaged over an image and its mirror image, so that classes without images are not forgotten.

    Args:
        options: hyperparameters.
        data: images to train on; every tenth sample of them decides when to stop.
        held_out: images to measure on, once, at the end.
        folder: gets NAME.safetensors and NAME.json, the card, and NAME.checkpoint while it trains.
        progress: progress bar.

    Returns:
        The card: accuracy with its 95 % interval, options, data, command, versions, machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"{options.model}.safetensors"
    torch.manual_seed(options.seed)
    device, _ = device_and_precision()
    model = load_vit(options.model, weights=options.weights)
    origin = str(model.origin)
    teacher = load_vit(options.model, weights=options.weights).to(device) if options.distil else None
    if teacher is None:
        model.reset_classifier(len(data.classes))
    model.to(device)

    samples = sorted({example.sample for example in data.examples})
    np.random.default_rng(options.seed).shuffle(samples)
    stopping_samples = set(samples[::10])
    fit = [example for example in data.examples if example.sample not in stopping_samples]
    stop = [example for example in data.examples if example.sample in stopping_samples]

    fit_tokens = _embed(model, fit, options.frozen_blocks, progress)
    stop_tokens = _embed(model, stop, options.frozen_blocks, progress)
    fit_targets = _labels(fit) if teacher is None else _probabilities(teacher, fit, progress)
    trained = _fit(model, options, (fit_tokens, fit_targets), (stop_tokens, _labels(stop)), out, progress)
    model.load_state_dict(trained)

    save_small(out, model.state_dict(), data.classes if teacher is None else tuple(class_names(teacher)))
    stored = load_vit(options.model, weights=out.parent)
    facts = {
        "from": origin,
        "data": data.name,
        "classes": model.num_classes,
        "trained_on": len(fit),
        "stopped_by": len(stop),
        "held_out": measure(stored, held_out.examples, progress),
    }
    card = write_card(out, options, facts)
    out.with_suffix(".checkpoint").unlink(missing_ok=True)
    return card


def measure(model: VisionTransformer, examples: Sequence[Example], progress: Progress) -> dict:
    """Clean top-1 accuracy of a model on images, with its 95 % interval over samples."""
    predicted = _map(lambda images: model(images).argmax(1), model, examples, "measuring", progress)
    return accuracy((predicted == _labels(examples)).tolist(), [example.sample for example in examples])


def _embed(model: VisionTransformer, examples: Sequence[Example], blocks: int, progress: Progress) -> Tensor:
    """Tokens of each image and of its mirror image behind the frozen blocks: (B, 2, 1+N, D) float16."""

    def embed(images: Tensor) -> Tensor:
        return torch.stack([first_blocks(model, copy, blocks).half() for copy in (images, images.flip(-1))], dim=1)

    return _map(embed, model, examples, "frozen blocks", progress)


def _probabilities(teacher: VisionTransformer, examples: Sequence[Example], progress: Progress) -> Tensor:
    """Class probabilities of a teacher, averaged over each image and its mirror image: (B, classes)."""

    def predict(images: Tensor) -> Tensor:
        return (teacher(images).softmax(-1) + teacher(images.flip(-1)).softmax(-1)) / 2

    return _map(predict, teacher, examples, "teacher", progress)


def _map(
    function: Callable[[Tensor], Tensor],
    model: VisionTransformer,
    examples: Sequence[Example],
    description: str,
    progress: Progress,
) -> Tensor:
    """A function of all images, in batches on the model's device, without gradients; the result is on the CPU."""
    results = []
    device = next(model.parameters()).device
    with torch.inference_mode():
        for start in progress.track(range(0, len(examples), READ_BATCH), description=description):
            batch = examples[start : start + READ_BATCH]
            pixels = np.stack([model_pixels(open_image(example.path)) for example in batch])
            results.append(function(normalise(model, pixels).to(device)).cpu())
    return torch.cat(results)


def _trainable(model: VisionTransformer, tokens: Tensor, blocks: int) -> Tensor:
    for block in model.blocks[blocks:]:
        tokens = block(tokens)
    return model.forward_head(model.norm(tokens))


def _fit(
    model: VisionTransformer,
    options: TrainOptions,
    fit: tuple[Tensor, Tensor],
    stop: tuple[Tensor, Tensor],
    out: Path,
    progress: Progress,
) -> dict[str, Tensor]:
    """Trains the last blocks; returns the weights of the best epoch."""
    device, precision = device_and_precision()
    parts = [*model.blocks[options.frozen_blocks :], model.norm, model.head]
    parameters = [weight for part in parts for weight in part.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=options.learning_rate)
    checkpoint = out.with_suffix(".checkpoint")
    epoch, best, best_state, since_best = 0, -1.0, model.state_dict(), 0
    if saved := load_checkpoint(checkpoint, options):
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        epoch, best, best_state, since_best = (
            saved[name] for name in ("epoch", "best", "best_state", "since_best")
        )
    while epoch < options.epochs and since_best < options.patience:
        model.train()
        generator = np.random.default_rng((options.seed, epoch))  # so that a resumed run goes on as it would have
        order = generator.permutation(len(fit[0]))
        losses = []
        starts = range(0, len(order), options.batch)
        for start in progress.track(starts, description=f"epoch {epoch + 1} of {options.epochs}"):
            chosen = torch.from_numpy(order[start : start + options.batch])
            copy = torch.from_numpy(generator.integers(fit[0].shape[1], size=len(chosen)))
            tokens = _drop_patches(fit[0][chosen, copy].float(), options.patch_dropout, generator).to(device)
            with precision:
                logits = _trainable(model, tokens, options.frozen_blocks).float()
            targets = fit[1][chosen].to(device)
            loss = (
                kl_div(logits.log_softmax(-1), targets, reduction="batchmean")
                if options.distil
                else cross_entropy(logits, targets)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        model.eval()
        score = _score(model, stop, options)
        epoch += 1
        since_best += 1
        if score > best:
            best, best_state, since_best = (
                score,
                {key: value.clone() for key, value in model.state_dict().items()},
                0,
            )
        log.info("epoch", epoch=epoch, loss=round(float(np.mean(losses)), 4), stopping_accuracy=round(score, 4))
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "epoch": epoch,
            "best": best,
            "best_state": best_state,
            "since_best": since_best,
        }
        save_checkpoint(checkpoint, options, state)
    return best_state


def _drop_patches(tokens: Tensor, share: float, generator: np.random.Generator) -> Tensor:
    """(B, 1+N, D) tokens without a random share of the patches, the same places for the whole batch."""
    if share == 0:
        return tokens
    patches = tokens.shape[1] - 1
    kept = 1 + generator.permutation(patches)[: max(1, round(patches * (1 - share)))]
    return tokens[:, np.concatenate([[0], np.sort(kept)])]


def _score(model: VisionTransformer, stop: tuple[Tensor, Tensor], options: TrainOptions) -> float:
    device = next(model.parameters()).device
    correct = 0
    with torch.inference_mode():
        for tokens, labels in zip(stop[0].split(options.batch), stop[1].split(options.batch), strict=True):
            logits = _trainable(model, tokens[:, 0].float().to(device), options.frozen_blocks)
            correct += int((logits.argmax(1).cpu() == labels).sum())
    return correct / len(stop[1])


def _labels(examples: Sequence[Example]) -> Tensor:
    return torch.tensor([example.label for example in examples])
