"""Fine-tuning a vision transformer on images, without any channel (IAQ, Section V), on CPU or GPU.

The first blocks of a pretrained vision transformer need hardly change, so they may be frozen: their tokens are
then computed once per image and cached, and only the last blocks, the final norm and the head are trained. Patch
dropout shortens the token sequences (Liu et al., PatchDropout, arXiv 2208.07220).

Early stopping: images that are not trained on choose the pass over the others whose weights stay.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import structlog
import torch
from rich.progress import Progress
from timm.models import VisionTransformer
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from experiments.data import ImageSetError
from experiments.data.hold_out import listed
from experiments.data.image_sets import Example, ImageSet
from experiments.evaluation.intervals import accuracy
from experiments.training.checkpoint import device_and_precision, load_checkpoint, save_checkpoint, write_card
from semlink.vision.images import model_pixels, open_image
from semlink.vision.storage import save_small
from semlink.vision.vit import class_names, first_blocks, load_vit, normalise

log = structlog.get_logger(__name__)

READ_BATCH = 16
EPOCHS = 10
"""Most passes over the images where nothing else is said, but as many as `min_steps` takes."""
STOPPING_SHARE = 0.2
"""Of the images of every class that are not held out: these choose the pass whose weights stay."""
WIDEST = 0.1
"""Half the width of the 95 % interval of the accuracy on them above which they are too few to choose by."""
CHECKPOINT_STEPS = 50


@dataclass(frozen=True)
class TrainOptions:
    """How to train; see `semlink train --help`."""

    model: str
    weights: Path | None
    epochs: int | None
    min_steps: int
    batch: int
    learning_rate: float
    frozen_blocks: int
    patch_dropout: float
    distil: bool
    patience: int
    seed: int

    def passes(self, images: int) -> int:
        """Most passes over so many images."""
        return max(EPOCHS, math.ceil(self.min_steps / self.steps(images))) if self.epochs is None else self.epochs

    def steps(self, images: int) -> int:
        """Steps of a pass over so many images."""
        return math.ceil(images / self.batch)


class Score(NamedTuple):
    """How good weights are on the stopping images: by accuracy, and of equal accuracies by the loss."""

    accuracy: float
    negative_loss: float


def train(options: TrainOptions, data: ImageSet, held_out: ImageSet, folder: Path, progress: Progress) -> dict:
    """Fine-tunes a model and writes it and its card into `folder`; resumes from the checkpoint it finds there.

    Cross-entropy and Adam, as the paper does; with `distil` the targets are the pretrained model's own class
    probabilities, averaged over an image and its mirror image, so that classes without images are not forgotten.

    Of the images a share of every class, whole samples, is not trained on: of all passes the weights stay that do
    best on these, by accuracy, and of equal accuracies by the loss. After `min_steps` steps training ends when
    `patience` passes brought no gain.

    Args:
        options: hyperparameters.
        data: images to train on and to stop by.
        held_out: images to measure on, once, at the end.
        folder: gets NAME.safetensors and NAME.json, the card, and NAME.checkpoint while it trains.
        progress: progress bar.

    Returns:
        The card: accuracy with its 95 % interval, options, data, command, versions, machine. `stopped_by` has the
        accuracy on the stopping images with its interval, which is of the passes the best and so no estimate, and
        whether they are `enough` to choose by: its half width is at most WIDEST. It is None without any.

    Raises:
        ImageSetError: classes that would not be trained on, a single class, or images that are missing.
    """
    _check(data, held_out, options)
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"{options.model}.safetensors"
    torch.manual_seed(options.seed)
    device, _ = device_and_precision()
    model = load_vit(options.model, weights=options.weights)
    origin = str(model.origin)
    teacher = load_vit(options.model, weights=options.weights).to(device) if options.distil else None
    if teacher is None:
        model.reset_classifier(len(data.classes))
    else:
        data, held_out = (images.labelled_as(class_names(teacher)) for images in (data, held_out))
    model.to(device)

    stopping = data.stratified(STOPPING_SHARE, f"stopping {options.seed}", least_left=2)
    fit = [example for example in data.examples if example.sample not in stopping]
    stop = [example for example in data.examples if example.sample in stopping]

    fit_tokens = _embed(model, fit, options.frozen_blocks, progress)
    stop_tokens = _embed(model, stop, options.frozen_blocks, progress) if stop else torch.empty(0)
    fit_targets = _labels(fit) if teacher is None else _probabilities(teacher, fit, progress)
    run = (options, data.identity)
    trained = _fit(model, run, (fit_tokens, fit_targets), (stop_tokens, _labels(stop)), out, progress)
    model.load_state_dict(trained)
    stopped_by = _stopped_by(model, stop, stop_tokens, options)

    save_small(out, model.state_dict(), data.classes if teacher is None else tuple(class_names(teacher)))
    stored = load_vit(options.model, weights=out.parent)
    facts = {
        "from": origin,
        "data": data.name,
        "classes": model.num_classes,
        "trained_on": len(fit),
        "stopped_by": stopped_by,
        "held_out": measure(stored, held_out.examples, progress),
    }
    card = write_card(out, options, facts)
    out.with_suffix(".checkpoint").unlink(missing_ok=True)
    return card


def measure(
    model: VisionTransformer, examples: Sequence[Example], progress: Progress, labels: Tensor | None = None
) -> dict[str, Any]:
    """Clean top-1 accuracy of a model on images, with its 95 % interval; by `labels`, or by the images' own."""
    right = predicted(model, examples, progress) == (_labels(examples) if labels is None else labels)
    return accuracy(right.tolist(), [example.sample for example in examples])


def predicted(model: VisionTransformer, examples: Sequence[Example], progress: Progress) -> Tensor:
    """The labels that a model gives images: (B,)."""
    return _map(lambda images: model(images).argmax(1), model, examples, "measuring", progress)


def _embed(model: VisionTransformer, examples: Sequence[Example], blocks: int, progress: Progress) -> Tensor:
    """Tokens of each image and of its mirror image behind the frozen blocks: (B, 2, 1+N, D) float16."""

    _, precision = device_and_precision()

    def embed(images: Tensor) -> Tensor:
        with precision:
            copies = [first_blocks(model, copy, blocks).half() for copy in (images, images.flip(-1))]
        return torch.stack(copies, dim=1)

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
    run: tuple[TrainOptions, str],
    fit: tuple[Tensor, Tensor],
    stop: tuple[Tensor, Tensor],
    out: Path,
    progress: Progress,
) -> dict[str, Tensor]:
    """Trains the last blocks; returns the weights of the best pass, or of the last without images to stop by."""
    options, _ = run
    device, precision = device_and_precision()
    parts = [*model.blocks[options.frozen_blocks :], model.norm, model.head]
    parameters = [weight for part in parts for weight in part.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=options.learning_rate)
    checkpoint = out.with_suffix(".checkpoint")
    passes, steps = options.passes(len(fit[0])), options.steps(len(fit[0]))
    epoch, best, best_state, since_best = 0, (-1.0, 0.0), model.state_dict(), 0
    if saved := load_checkpoint(checkpoint, run):
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        epoch, best, best_state, since_best = (
            saved[name] for name in ("epoch", "best", "best_state", "since_best")
        )
    task = progress.add_task("training", total=passes * steps, completed=epoch * steps)
    while epoch < passes and (epoch * steps < options.min_steps or since_best < options.patience):
        model.train()
        generator = np.random.default_rng((options.seed, epoch))  # so that a resumed run goes on as it would have
        order = generator.permutation(len(fit[0]))
        losses = []
        for start in range(0, len(order), options.batch):
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
            progress.advance(task)
        model.eval()
        score = _score(model, stop, options)
        epoch += 1
        since_best += 1
        if score is None or score > best:
            best = score or best
            best_state, since_best = {key: value.clone() for key, value in model.state_dict().items()}, 0
        progress.update(task, description=f"training, pass {epoch} of {passes} at most")
        if epoch == passes or epoch * steps // CHECKPOINT_STEPS > (epoch - 1) * steps // CHECKPOINT_STEPS:
            right = None if score is None else round(score.accuracy, 4)
            log.info("trained", epoch=epoch, loss=round(float(np.mean(losses)), 4), stopping_accuracy=right)
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "epoch": epoch,
                "best": tuple(best),
                "best_state": best_state,
                "since_best": since_best,
            }
            save_checkpoint(checkpoint, run, state)
    progress.update(task, total=epoch * steps)
    return best_state


def _drop_patches(tokens: Tensor, share: float, generator: np.random.Generator) -> Tensor:
    """(B, 1+N, D) tokens without a random share of the patches, the same places for the whole batch."""
    if share == 0:
        return tokens
    patches = tokens.shape[1] - 1
    kept = 1 + generator.permutation(patches)[: max(1, round(patches * (1 - share)))]
    return tokens[:, np.concatenate([[0], np.sort(kept)])]


def _answers(model: VisionTransformer, tokens: Tensor, options: TrainOptions) -> Tensor:
    """Logits of images, as they are and not mirrored, of which there are tokens: (B, classes)."""
    device = next(model.parameters()).device
    with torch.inference_mode():
        batches = tokens[:, 0].split(options.batch)
        return torch.cat(
            [_trainable(model, batch.float().to(device), options.frozen_blocks).cpu() for batch in batches]
        )


def _score(model: VisionTransformer, stop: tuple[Tensor, Tensor], options: TrainOptions) -> Score | None:
    tokens, labels = stop
    if len(labels) == 0:
        return None
    logits = _answers(model, tokens, options)
    return Score((logits.argmax(1) == labels).float().mean().item(), -cross_entropy(logits, labels).item())


def _stopped_by(
    model: VisionTransformer, stop: list[Example], tokens: Tensor, options: TrainOptions
) -> dict | None:
    """Accuracy of the chosen weights on the stopping images, and whether these are enough to choose by."""
    if not stop:
        return None
    right = _answers(model, tokens, options).argmax(1) == _labels(stop)
    measured = accuracy(right.tolist(), [example.sample for example in stop])
    return measured | {"enough": (measured["high"] - measured["low"]) / 2 <= WIDEST}


def _check(data: ImageSet, held_out: ImageSet, options: TrainOptions) -> None:
    """What would make the result worthless, before anything takes time."""
    for images in (data, held_out):
        images.check_files()
    if options.distil:
        return
    if len(data.classes) < 2:
        raise ImageSetError(f"{data.folder} has one class, {listed(data.classes)}; training needs two or more")
    present = {example.label for example in data.examples}
    if absent := [name for label, name in enumerate(data.classes) if label not in present]:
        raise ImageSetError(
            f"{len(absent)} of {len(data.classes)} classes would have no image to train on: {listed(absent)}. "
            "Hold out a share of every class instead, as --hold-out share=0.2 does, or take more images"
        )


def _labels(examples: Sequence[Example]) -> Tensor:
    return torch.tensor([example.label for example in examples], dtype=torch.int64)
