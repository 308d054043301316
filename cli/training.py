"""Training from the command line: `semlink train` and `semlink link-train`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from cli.from_settings import ImageFolder, MostImages, WeightsFolder, explained
from experiments.data import ImageSetError
from experiments.data.image_sets import HOLD_OUT, load_image_set
from semlink.vision.images import ImageError
from semlink.vision.weights import DEVICE_MODEL, WeightsError

ModelFolder = Annotated[Path, typer.Argument(help="Folder for NAME.safetensors, its card and its checkpoint.")]
ModelName = Annotated[str, typer.Option(help="timm name of the vision transformer.")]
HoldOut = Annotated[
    str,
    typer.Option(
        help="Measured on, never trained on: share=0.2, always the same fifth of every class, whole objects "
        "where the images have a column object; or COLUMN=VALUE of the manifest."
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]


def train(
    data: ImageFolder,
    out: ModelFolder,
    model: ModelName = DEVICE_MODEL,
    hold_out: HoldOut = HOLD_OUT,
    epochs: Annotated[int, typer.Option(min=0, help="Most passes over the images.")] = 10,
    patience: Annotated[int, typer.Option(min=1, help="Stop after so many passes without gain.")] = 3,
    batch: Annotated[int, typer.Option(min=1, help="Images a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Adam's step size.")] = 1e-4,
    frozen_blocks: Annotated[
        int, typer.Option(min=0, max=12, help="Blocks left as they are, and computed once per image.")
    ] = 8,
    patch_dropout: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of patches a step leaves out.")
    ] = 0.0,
    distil: Annotated[
        bool, typer.Option(help="Keep the classes of the pretrained model; learn from its own probabilities.")
    ] = False,
    most_images: MostImages = None,
    seed: Seed = 0,
    weights: WeightsFolder = None,
) -> None:
    """Fine-tune a device's or server's model on labelled images, without any channel.

    Goes on from its checkpoint when it was interrupted. Uses a GPU where there is one.
    """
    from experiments.training.train import TrainOptions, train

    options = TrainOptions(
        model, weights, epochs, batch, learning_rate, frozen_blocks, patch_dropout, distil, patience, seed
    )
    _train(train, options, data, hold_out, most_images, out)


def link_train(
    data: ImageFolder,
    out: ModelFolder,
    model: ModelName = DEVICE_MODEL,
    hold_out: HoldOut = HOLD_OUT,
    blocks: Annotated[
        int, typer.Option(min=1, max=12, help="So many first blocks adapt; the others stay as they are.")
    ] = 6,
    steps: Annotated[int, typer.Option(min=0, help="Steps of the optimizer.")] = 800,
    batch: Annotated[int, typer.Option(min=1, help="Crops a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="AdamW's largest step size.")] = 3e-4,
    most_images: MostImages = None,
    seed: Seed = 0,
    weights: WeightsFolder = None,
    device_weights: Annotated[
        Path | None, typer.Option(help="Folder with the device's model, whose attention allocates the bits.")
    ] = None,
) -> None:
    """Adapt a server's model to what the link does to images, by self-distillation; labels are not used.

    The model becomes "link-trained", a kind of its own: every answer says so. Goes on from its checkpoint when it
    was interrupted. Uses a GPU where there is one. Measure it on damaged images with
    "semlink evaluate --server-weights".
    """
    from experiments.training.link_training import LinkTrainOptions, link_train

    options = LinkTrainOptions(model, weights, device_weights, blocks, steps, batch, learning_rate, seed)
    _train(link_train, options, data, hold_out, most_images, out)


def _train(
    training: Callable[..., dict[str, Any]],
    options: Any,
    data: Path,
    hold_out: str,
    most_images: int | None,
    out: Path,
) -> None:
    """Trains on all images but those held out; prints the accuracy on these, undamaged."""
    with explained(ImageSetError, ImageError, WeightsError):
        held_out, rest = load_image_set(data).where(hold_out)
        if most_images is not None:
            rest = rest.at_most(most_images)
        with Progress(console=Console(stderr=True)) as progress:
            measured = training(options, rest, held_out, out, progress)["held_out"]
    typer.echo(
        f"{out}/{options.model}.safetensors: {measured['accuracy']:.1%} of {measured['images']} undamaged images "
        f"right (95 % interval {measured['low']:.1%} to {measured['high']:.1%})"
    )
