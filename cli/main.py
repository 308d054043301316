"""The `semlink` command."""

import os
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cli.demo_command import demo_command
from cli.options import Allocation, WeightsFolder, fail, takes_allocation
from cli.plan_command import plan_command
from semlink.service.logs import configure_logs
from semlink.service.settings import ProcessSettings, read_settings
from semlink.source.iaq.allocation.methods import Method
from semlink.vision.weights import DEVICE_MODEL, SERVER_MODEL

app = typer.Typer(
    help="A semantic image link: cameras send the patches that matter, a server still knows what it sees.",
    no_args_is_help=True,
    add_completion=False,
)

LISTS = {"demo": ("--images",), "evaluate": ("--method", "--rho", "--gamma", "--ber")}
"""Flags that take several values, by command; evaluate's arguments come before them."""

ImageFolder = Annotated[Path, typer.Argument(help="Folder with a manifest.csv, or with one folder a class.")]
ModelFolder = Annotated[Path, typer.Argument(help="Folder for NAME.safetensors, its card and its checkpoint.")]
ModelName = Annotated[str, typer.Option(help="timm name of the vision transformer.")]
HoldOut = Annotated[
    str, typer.Option(help="Measured on, never trained on: COLUMN=VALUE of the manifest, or label=odd.")
]
TrainingSeed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
MostImages = Annotated[
    int | None, typer.Option(min=1, help="Take at most so many images, evenly from all classes and objects.")
]


app.command(name="demo")(demo_command)


@app.command()
@takes_allocation
def encode(
    *,
    photo: Annotated[str, typer.Argument(help="A picture file, or the name of one of scikit-image's.")],
    frame: Annotated[Path, typer.Argument(help="The frame file to write.")],
    allocation: Allocation,
    weights: WeightsFolder = None,
) -> None:
    """Encode a photo into a frame, as a device does."""
    from semlink.source.iaq import coder as iaq
    from semlink.vision.images import ImageError, model_pixels, open_image
    from semlink.vision.photos import PhotosError, find_photos
    from semlink.vision.vit import class_attention, load_vit, normalise
    from semlink.vision.weights import WeightsError

    try:
        pixels = model_pixels(open_image(find_photos([photo])[0]))
        model = load_vit(DEVICE_MODEL, weights=weights)
        attention = class_attention(model, normalise(model, pixels[None]))[0].numpy()
        encoded = iaq.encode(pixels, attention, **asdict(allocation)).frame
        frame.parent.mkdir(parents=True, exist_ok=True)
        frame.write_bytes(encoded.to_bytes())
    except (PhotosError, ImageError, WeightsError, ValueError, OSError) as error:
        fail(error)
    typer.echo(
        f"{frame}: {encoded.header_bits} header bits, {encoded.payload_bits} payload bits, "
        f"ρ = {encoded.rho:.4f}, true ratio {encoded.true_ratio:.4f}"
    )


@app.command()
def decode(
    frame: Annotated[Path, typer.Argument(help="A frame file.")],
    picture: Annotated[Path, typer.Argument(help="The PNG to write.")],
) -> None:
    """Decode a frame into a picture, as the server sees it."""
    import numpy as np
    from PIL import Image

    from semlink.frame import FrameError
    from semlink.source.registry import decode as decode_frame
    from semlink.source.registry import read_frame

    try:
        pixels = decode_frame(read_frame(frame.read_bytes()))
        values = np.rint(pixels).astype(np.uint8)
        picture.parent.mkdir(parents=True, exist_ok=True)
        # A grey picture has no third axis for Pillow.
        Image.fromarray(values[..., 0] if values.shape[2] == 1 else values).save(picture, format="PNG")
    except (FrameError, OSError) as error:
        fail(error)
    typer.echo(f"{picture}: {pixels.shape[1]} x {pixels.shape[0]} pixels")


@app.command()
def train(
    data: ImageFolder,
    out: ModelFolder,
    model: ModelName = DEVICE_MODEL,
    hold_out: HoldOut = "fold=0",
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
    seed: TrainingSeed = 0,
    weights: WeightsFolder = None,
) -> None:
    """Fine-tune a device's or server's model on labelled images, without any channel.

    Goes on from its checkpoint when it was interrupted. Uses a GPU where there is one.
    """
    from experiments.training.train import TrainOptions, train

    options = TrainOptions(
        model, weights, epochs, batch, learning_rate, frozen_blocks, patch_dropout, distil, patience, seed
    )
    measured = _trained(train, options, data, hold_out, most_images, out)
    typer.echo(
        f"{out}/{model}.safetensors: {measured['accuracy']:.1%} of {measured['images']} images right "
        f"(95 % interval {measured['low']:.1%} to {measured['high']:.1%})"
    )


@app.command()
def link_train(
    data: ImageFolder,
    out: ModelFolder,
    model: ModelName = DEVICE_MODEL,
    hold_out: HoldOut = "fold=0",
    blocks: Annotated[
        int, typer.Option(min=1, max=12, help="So many first blocks adapt; the others stay as they are.")
    ] = 6,
    steps: Annotated[int, typer.Option(min=0, help="Steps of the optimizer.")] = 800,
    batch: Annotated[int, typer.Option(min=1, help="Crops a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="AdamW's largest step size.")] = 3e-4,
    most_images: MostImages = None,
    seed: TrainingSeed = 0,
    weights: WeightsFolder = None,
    device_weights: Annotated[
        Path | None, typer.Option(help="Folder with the device's model, whose attention allocates the bits.")
    ] = None,
) -> None:
    """Adapt a server's model to what the link does to images, by self-distillation; labels are not looked at.

    The model becomes "link-trained", a kind of its own: every answer says so. Goes on from its checkpoint when it
    was interrupted. Uses a GPU where there is one.
    """
    from experiments.training.link_training import LinkTrainOptions, link_train

    options = LinkTrainOptions(model, weights, device_weights, blocks, steps, batch, learning_rate, seed)
    measured = _trained(link_train, options, data, hold_out, most_images, out)
    typer.echo(
        f"{out}/{model}.safetensors: {measured['accuracy']:.1%} of {measured['images']} undamaged images right; "
        f"measure damaged ones with semlink evaluate --server-weights {out}"
    )


def _trained(
    training: Callable[..., dict[str, Any]],
    options: Any,
    data: Path,
    hold_out: str,
    most_images: int | None,
    out: Path,
) -> dict[str, Any]:
    """Trains on all images but those held out; returns the accuracy on these."""
    from rich.progress import Progress

    from experiments.data.image_sets import ImageSetError, load_image_set
    from semlink.vision.images import ImageError
    from semlink.vision.weights import WeightsError

    try:
        held_out, kept = load_image_set(data).where(hold_out)
        if most_images is not None:
            kept = kept.at_most(most_images)
        with Progress(console=Console(stderr=True)) as progress:
            return training(options, kept, held_out, out, progress)["held_out"]
    except (ImageSetError, ImageError, WeightsError) as error:
        fail(error)


@app.command()
def evaluate(
    data: ImageFolder,
    out: Annotated[Path, typer.Argument(help="JSON lines file; what it holds already is not measured again.")],
    only: Annotated[str, typer.Option(help="Images to measure on: COLUMN=VALUE of the manifest, or label=odd.")],
    method: Annotated[
        list[str],
        typer.Option(
            help="Allocation methods, and codecs to compare with: jpeg, webp, avif; behind an LDPC code at the "
            "best rate for the channel: jpeg-ldpc, webp-ldpc, avif-ldpc (these need the extra `dev`). The "
            "undamaged images are always measured too; clean: these alone."
        ),
    ] = [Method.INCREMENTAL],  # noqa: B006 - read, never changed
    rho: Annotated[list[float], typer.Option(help="Compression ratios of the payload.")] = [0.125, 0.25],  # noqa: B006
    gamma: Annotated[list[float], typer.Option(help="Shapes of the weight function (31).")] = [1.0],  # noqa: B006
    ber: Annotated[list[float], typer.Option(help="Bit error rates of the channel.")] = [0.0],  # noqa: B006
    modified: Annotated[
        bool, typer.Option(help="Measure the methods that allow for bit errors too, told the channel's.")
    ] = False,
    device_weights: WeightsFolder = None,
    server_model: Annotated[str, typer.Option(help="timm name of the server's model.")] = SERVER_MODEL,
    server_weights: Annotated[Path | None, typer.Option(help="Folder with its NAME.safetensors.")] = None,
    bfloat16: Annotated[
        bool, typer.Option(help="Compute the server's model in bfloat16: half the time where the CPU has it.")
    ] = False,
    most_images: MostImages = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the channel.")] = 0,
    processes: Annotated[int, typer.Option(min=0, help="How many work at once; 0: one a core.")] = 0,
    cache: Annotated[Path, typer.Option(help="Keeps pixels and attention.")] = Path("runs/cache"),
) -> None:
    """Measure the accuracy of the link over a set of images: every combination of methods, rates and channels.

    Appends one JSON row for each to OUT. The thresholds of the methods that have one are tuned to each ρ on images
    that are not measured on. Interrupted, it goes on where it was.
    """
    from experiments.data.image_sets import ImageSetError
    from experiments.evaluation.measurement import measure_grid
    from experiments.evaluation.run import Run
    from semlink.vision.images import ImageError
    from semlink.vision.weights import WeightsError

    run = Run(
        data=data,
        only=only,
        out=out,
        cache=cache,
        most_images=most_images,
        device_weights=device_weights,
        server_model=server_model,
        server_weights=server_weights,
        bfloat16=bfloat16,
        seed=seed,
        processes=processes or os.cpu_count() or 1,
    )
    try:
        measure_grid(run, method, rho, gamma, ber, modified=modified)
    except (ImageSetError, ImageError, WeightsError, ValueError, ModuleNotFoundError) as error:
        fail(error)


@app.command()
def unpack(
    source: Annotated[
        Path,
        typer.Argument(
            help="cifar-100-binary or cifar-10-batches-bin; or a folder with manifest.csv and a tar archive."
        ),
    ],
    folder: Annotated[Path, typer.Argument(help="Folder to fill, for `semlink train` and `semlink evaluate`.")],
) -> None:
    """Make a folder of images and a manifest.csv of CIFAR's binary release, or of an archive with a manifest."""
    from rich.progress import Progress

    from experiments.data.image_sets import ImageSetError
    from experiments.data.unpack import unpack

    try:
        with Progress(console=Console(stderr=True)) as progress:
            count = unpack(source, folder, progress)
    except (ImageSetError, OSError) as error:
        fail(error)
    typer.echo(f"{folder}: {count} images, manifest.csv")


app.command(name="plan")(plan_command)


def repeat_flags(arguments: Sequence[str], flags: Collection[str]) -> list[str]:
    """Turns `--images a b`, as people write it, into `--images a --images b`, as parsers want it.

    Args:
        arguments: the command line.
        flags: the flags that take several values.
    """
    repeated: list[str] = []
    flag = ""
    for argument in arguments:
        if argument.startswith("-"):
            flag = argument.partition("=")[0]
        if flag not in flags or argument.startswith(f"{flag}="):
            repeated.append(argument)
        elif argument != flag:
            repeated += [flag, argument]
    return repeated


def main() -> None:
    """The console command; its logs go to standard error, as the processes' do."""
    configure_logs(read_settings(ProcessSettings, "semlink", []), "semlink")
    app(repeat_flags(sys.argv[1:], LISTS.get(sys.argv[1] if sys.argv[1:] else "", ())))
