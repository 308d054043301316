"""Training the convolutional classifier of CIFAR-10, by which received pictures are judged; on clean pictures.

python -m experiments.training.small_classifier DATA

Stochastic gradient descent with Nesterov's momentum, one cycle of the learning rate (Smith and Topin,
arXiv 1708.07120), mirrored and shifted pictures, smoothed labels. The number of passes is fixed beforehand, so no
picture chooses anything: the test pictures are looked at once, at the end.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import structlog
import torch
import typer
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy

from experiments.data.image_sets import Example, load_image_set
from experiments.evaluation.intervals import wilson
from experiments.evaluation.small_classifier import SIDE, WEIGHTS, SmallClassifier, classify, load_classifier
from experiments.training.checkpoint import device_and_precision, load_checkpoint, save_checkpoint, write_card
from semlink.vision.storage import save_small

log = structlog.get_logger(__name__)

SHIFT = 3
"""Most pixels by which a picture is moved, down and across; its edge is mirrored outwards."""
RISE = 0.25
"""Share of the steps in which the learning rate rises."""


@dataclass(frozen=True)
class ClassifierOptions:
    """How the classifier is trained."""

    passes: int = 9
    batch: int = 256
    learning_rate: float = 0.3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    smoothing: float = 0.1
    seed: int = 0
    model: str = "small_classifier"

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step: up in a straight line, and down again to 0."""
        peak = RISE * steps
        return self.learning_rate * min(step / peak, (steps - step) / (steps - peak))


def pixels_of(examples: tuple[Example, ...], side: int = SIDE) -> NDArray[np.uint8]:
    """(B, side, side, 3) 8-bit pixels of images; larger ones are scaled down, by averages of areas."""
    pixels = np.empty((len(examples), side, side, 3), np.uint8)
    for number, example in enumerate(examples):
        with Image.open(example.path) as image:
            picture = image.convert("RGB")
            if picture.size != (side, side):
                picture = picture.resize((side, side), Image.Resampling.BOX)
            pixels[number] = np.asarray(picture)
    return pixels


def augmented(pixels: Tensor, generator: np.random.Generator) -> Tensor:
    """(B, H, W, 3) pictures, each mirrored or not and moved by up to `SHIFT` pixels, as (B, 3, H, W) in [0, 1]."""
    count, side = len(pixels), pixels.shape[1]
    moves = torch.from_numpy(generator.integers(-SHIFT, SHIFT + 1, (2, count, 1)))
    places = torch.arange(side) + moves  # (2, B, side)
    places = places.abs()
    places = torch.where(places >= side, 2 * side - 2 - places, places)
    mirrored = torch.from_numpy(generator.random(count) < 0.5)
    places[1] = torch.where(mirrored[:, None], side - 1 - places[1], places[1])
    rows, columns = places[0][:, :, None], places[1][:, None, :]
    moved = pixels[torch.arange(count)[:, None, None], rows, columns]
    return moved.permute(0, 3, 1, 2).float() / 255


def fit(
    options: ClassifierOptions,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    classes: int,
    checkpoint: Path,
) -> SmallClassifier:
    """Trains a classifier; it resumes behind the last whole pass that `checkpoint` has of the same options.

    Args:
        options: how.
        pixels: (B, 32, 32, 3) 8-bit pixels.
        labels: (B,) of them.
        classes: how many there are.
        checkpoint: file, replaced after every pass.
    """
    torch.manual_seed(options.seed)
    device, precision = device_and_precision()
    model = SmallClassifier(classes).to(memory_format=torch.channels_last).to(device)
    optimizer = torch.optim.SGD(
        model.parameters(), options.learning_rate, options.momentum, 0, options.weight_decay, nesterov=True
    )
    images, targets, first = torch.from_numpy(pixels), torch.from_numpy(labels), 0
    run = (options, len(labels))
    if saved := load_checkpoint(checkpoint, run):
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["passes"]
    steps = math.ceil(len(labels) / options.batch)
    for number in range(first, options.passes):
        generator = np.random.default_rng((options.seed, number))
        order = torch.from_numpy(generator.permutation(len(labels)))
        losses = []
        model.train()
        for step in range(steps):
            chosen = order[step * options.batch : (step + 1) * options.batch]
            for group in optimizer.param_groups:
                group["lr"] = options.rate(number * steps + step + 1, options.passes * steps + 1)
            with precision:
                logits = model(augmented(images[chosen], generator).to(device)).float()
            loss = cross_entropy(logits, targets[chosen].to(device), label_smoothing=options.smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        log.info("trained", passes=number + 1, of=options.passes, loss=round(float(np.mean(losses)), 4))
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "passes": number + 1}
        save_checkpoint(checkpoint, run, state)
    return model.cpu().eval()


def main(
    data: Annotated[Path, typer.Argument(help="Folder of CIFAR-10.", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Option(help="The weights file; card and checkpoint go beside it.")] = WEIGHTS,
    passes: Annotated[int, typer.Option(min=1, help="Over the training pictures.")] = ClassifierOptions.passes,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order and shifts.")] = 0,
) -> None:
    """Trains the classifier on split=train and measures it on split=test; some 15 minutes on one core."""
    torch.set_num_threads(1)
    options = ClassifierOptions(passes=passes, seed=seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    test, train = load_image_set(data).where("split=test")
    labels = np.array([example.label for example in train.examples])
    checkpoint = out.with_suffix(".checkpoint")
    model = fit(options, pixels_of(train.examples), labels, len(train.classes), checkpoint)
    save_small(out, model.state_dict(), train.classes)
    right = classify(load_classifier(out), pixels_of(test.examples)) == [
        example.label for example in test.examples
    ]
    low, high = wilson(int(right.sum()), len(right))
    held_out = {"accuracy": float(right.mean()), "low": low, "high": high, "images": len(right)}
    facts = {
        "data": data.name,
        "pictures": "JPEG copies of CIFAR-10, so not bit for bit those of the set",
        "classes": len(train.classes),
        "trained_on": len(train.examples),
        "held_out": held_out,
    }
    write_card(out, options, facts)
    checkpoint.unlink(missing_ok=True)
    print(out, held_out)


if __name__ == "__main__":
    typer.run(main)
