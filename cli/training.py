"""Training from the command line: `semlink train`, `link-train`, `train-decoder` and `train-received`."""

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
DecoderFolder = Annotated[Path, typer.Argument(help="Folder for the decoder, its card and its checkpoint.")]
ModelName = Annotated[str, typer.Option(help="timm name of the vision transformer.")]
HoldOut = Annotated[
    str,
    typer.Option(
        help="Measured on, never trained on: share=0.2, always the same fifth of every class, whole objects "
        "where the images have a column object; or COLUMN=VALUE of the manifest."
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
StepCount = Annotated[int, typer.Option(min=1, help="Steps of the optimizer.")]
Passed = Annotated[int, typer.Option(min=1, help="Pictures in all passes together.")]
Batch = Annotated[int, typer.Option(min=1, help="Pictures a step.")]
AdamRate = Annotated[float, typer.Option(help="Adam's largest step size.")]
Alpha = Annotated[float, typer.Option(min=0, max=1, help="Share of the selected patches that attention chooses.")]


def train(
    data: ImageFolder,
    out: ModelFolder,
    model: ModelName = DEVICE_MODEL,
    hold_out: HoldOut = HOLD_OUT,
    epochs: Annotated[
        int | None,
        typer.Option(min=0, help="Most passes over the images.  [default: 10, or as many as --min-steps takes]"),
    ] = None,
    min_steps: Annotated[
        int, typer.Option(min=0, help="Steps before which a lack of gain does not end the training.")
    ] = 100,
    patience: Annotated[
        int, typer.Option(min=1, help="Stop after so many passes without gain on the images to stop by.")
    ] = 3,
    batch: Annotated[int, typer.Option(min=1, help="Images a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Adam's step size.")] = 1e-3,
    frozen_blocks: Annotated[
        int, typer.Option(min=0, max=12, help="Blocks left as they are, and computed once per image.")
    ] = 11,
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

    DATA has one folder a class, or a manifest.csv: a line an image, with the columns path and class, and where it
    is known label, object, group, device, mask, and any others. A fifth of every class is held out for the final
    report, and a fifth of the rest chooses the best pass: by accuracy, and of equal ones by the loss. Both are
    whole objects where the manifest names them, or where all pictures lie in subfolders of their class.

    Goes on from its checkpoint when it was interrupted. Uses a GPU where there is one.
    """
    from experiments.training.train import WIDEST, TrainOptions, train

    options = TrainOptions(
        model=model,
        weights=weights,
        epochs=epochs,
        min_steps=min_steps,
        batch=batch,
        learning_rate=learning_rate,
        frozen_blocks=frozen_blocks,
        patch_dropout=patch_dropout,
        distil=distil,
        patience=patience,
        seed=seed,
    )
    card = _train(train, options, data, hold_out, most_images, out)
    stopped_by = card["stopped_by"]
    if stopped_by is None:
        typer.echo("No image was left to choose the best pass by: these are the weights after the last.", err=True)
    elif not stopped_by["enough"]:
        low, high = stopped_by["low"], stopped_by["high"]
        typer.echo(
            f"The {_counted(stopped_by)} that chose the best pass are too few to choose by: the 95 % interval of "
            f"their accuracy, {low:.1%} to {high:.1%}, is wider than {2 * WIDEST:.0%}; more pictures help.",
            err=True,
        )


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


def train_decoder(
    data: ImageFolder,
    out: DecoderFolder,
    hold_out: HoldOut = HOLD_OUT,
    start: Annotated[
        Path | None, typer.Option(help="Folder of a token decoder to start from, instead of random weights.")
    ] = None,
    alpha: Alpha = 0.85,
    crops: Annotated[int, typer.Option(min=1, help="Views of each picture: its middle, and random crops.")] = 1,
    steps: StepCount = 2000,
    batch: Batch = 32,
    learning_rate: AdamRate = 5e-4,
    most_images: MostImages = None,
    seed: Seed = 0,
    weights: WeightsFolder = None,
) -> None:
    """Train the decoder of transformer-aided selection for a device's model, which stays as it is.

    The server paints pictures with it from the tokens of the patches that a device sends; labels are not used.
    OUT gets token_decoder.safetensors, its card, and scales.npz with the scales of the quantizer. It goes on from
    its checkpoint when it was interrupted, and keeps the tokens of all pictures in OUT/tokens, 225 kB a view; this
    folder can be removed afterwards. Uses a GPU where there is one.
    """
    from experiments.training.decoder_training import DecoderOptions, train_decoder

    options = DecoderOptions(DEVICE_MODEL, weights, start, alpha, crops, steps, batch, learning_rate, seed)
    card = train_on_rest(train_decoder, options, data, hold_out, most_images, out)
    errors = card["held_out"]["masked_mse"]["by_rate"]
    typer.echo(
        f"{out}/token_decoder.safetensors: masked mean squared error on {card['held_out']['pictures']} pictures, "
        "held out: " + ", ".join(f"{error:.4f} at r = {rate}" for rate, error in errors.items())
    )


def train_received(
    data: ImageFolder,
    out: ModelFolder,
    model: ModelName = DEVICE_MODEL,
    hold_out: HoldOut = HOLD_OUT,
    decoder: Annotated[
        Path | None, typer.Option(help="Folder of the token decoder.", show_default="the package's own")
    ] = None,
    beta: Annotated[
        float, typer.Option(min=0, max=1, help="Weight β of the originals; received pictures get 1 - β.")
    ] = 0.3,
    alpha: Alpha = 0.85,
    frozen_blocks: Annotated[int, typer.Option(min=0, max=12, help="Blocks left as they are.")] = 6,
    steps: StepCount = 200,
    batch: Annotated[int, typer.Option(min=1, help="Pictures a step, each as original and as received.")] = 16,
    learning_rate: AdamRate = 1e-4,
    most_images: MostImages = None,
    seed: Seed = 0,
    weights: WeightsFolder = None,
) -> None:
    """Fine-tune a classifier on the pictures that transformer-aided selection leaves of labelled images.

    The model knows the classes already, as one of `semlink train` does. Goes on from its checkpoint when it was
    interrupted, and keeps the tokens of all pictures in OUT/tokens, 225 kB each; this folder can be removed
    afterwards. Uses a GPU where there is one.
    """
    from experiments.training.received_training import ReceivedOptions, train_received

    options = ReceivedOptions(
        model, weights, decoder, beta, alpha, frozen_blocks, steps, batch, learning_rate, seed
    )
    received = _train(train_received, options, data, hold_out, most_images, out)["held_out_received"]
    typer.echo(
        f"as received at r = {received['rate']}: {received['accuracy']:.1%} of {_counted(received)} right "
        f"(95 % interval {received['low']:.1%} to {received['high']:.1%})"
    )


def _train(
    training: Callable[..., dict[str, Any]],
    options: Any,
    data: Path,
    hold_out: str,
    most_images: int | None,
    out: Path,
) -> dict[str, Any]:
    """Trains on all images but those held out; prints the accuracy on these, undamaged; returns the card."""
    card = train_on_rest(training, options, data, hold_out, most_images, out)
    measured, right = card["held_out"], card.get("right", "right")
    typer.echo(
        f"{out}/{options.model}.safetensors: {measured['accuracy']:.1%} of {_counted(measured)}, held out and "
        f"undamaged, {right} (95 % interval {measured['low']:.1%} to {measured['high']:.1%})"
    )
    return card


def train_on_rest(
    training: Callable[..., dict[str, Any]],
    options: Any,
    data: Path,
    hold_out: str,
    most_images: int | None,
    out: Path,
) -> dict[str, Any]:
    """Trains on all images but those held out; returns the card."""
    with explained(ImageSetError, ImageError, WeightsError):
        held_out, rest = load_image_set(data).where(hold_out)
        if most_images is not None:
            rest = rest.at_most(most_images)
        with Progress(console=Console(stderr=True)) as progress:
            return training(options, rest, held_out, out, progress)


def _counted(measured: dict[str, Any]) -> str:
    """Of how many images an accuracy is, and of how many objects where these are fewer."""
    images, samples = measured["images"], measured["samples"]
    return f"{images} images" + (f" of {samples} objects" if samples < images else "")
