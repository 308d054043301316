"""Evaluation from the command line: `semlink evaluate`, and `semlink unpack` for its images."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from cli.from_settings import ImageFolder, MostImages, WeightsFolder, explained
from experiments.data import ImageSetError
from experiments.data.image_sets import HOLD_OUT
from semlink.vision.weights import SERVER_MODEL, WeightsError

METHODS = ["incremental"]
RATIOS = [0.125, 0.25]
GAMMAS = [1.0]
BIT_ERROR_RATES = [0.0]


def evaluate(
    data: ImageFolder,
    out: Annotated[Path, typer.Argument(help="JSON lines file; what it holds already is not measured again.")],
    only: Annotated[
        str,
        typer.Option(
            help="Images to measure on: COLUMN=VALUE of the manifest, label=odd, or share=0.2, those that "
            '"semlink train" holds out where nothing else is said.'
        ),
    ] = HOLD_OUT,
    method: Annotated[
        list[str],
        typer.Option(
            help="Allocation methods, and codecs to compare with: jpeg, webp, avif; behind an LDPC code at the "
            "best rate for the channel: jpeg-ldpc, webp-ldpc, avif-ldpc (these need the extra `dev`). The "
            "undamaged images are always measured too; clean: these alone."
        ),
    ] = METHODS,
    rho: Annotated[list[float], typer.Option(help="Compression ratios of the payload.")] = RATIOS,
    gamma: Annotated[list[float], typer.Option(help="Shapes of the weight function (31).")] = GAMMAS,
    ber: Annotated[list[float], typer.Option(help="Bit error rates of the channel.")] = BIT_ERROR_RATES,
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
    from experiments.evaluation.measurement import measure_grid
    from experiments.evaluation.run import Run

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
    with explained(WeightsError, ValueError, ModuleNotFoundError):
        measure_grid(run, method, rho, gamma, ber, modified=modified)


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
    from experiments.data.unpack import unpack

    with explained(ImageSetError, OSError), Progress(console=Console(stderr=True)) as progress:
        count = unpack(source, folder, progress)
    typer.echo(f"{folder}: {count} images, manifest.csv")
