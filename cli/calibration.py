"""Calibration from the command line: `semlink calibrate`, for a device and a server that ask one another."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from cli.from_settings import ImageFolder, MostImages, WeightsFolder, explained
from experiments.data import ImageSetError
from semlink.decision.calibration import Calibration, as_json
from semlink.vision.images import ImageError
from semlink.vision.weights import DEVICE_MODEL, SERVER_MODEL, WeightsError

SHOWN = 8
"""Rows of the printed table, of each policy."""


def calibrate(
    data: ImageFolder,
    out: Annotated[Path, typer.Argument(help="File to write, for --calibration.")],
    only: Annotated[
        str | None,
        typer.Option(
            help="Images to fit on: COLUMN=VALUE of the manifest, or label=even; leave some out to measure on.",
            show_default="all",
        ),
    ] = None,
    device_weights: WeightsFolder = None,
    server_model: Annotated[
        str, typer.Option(help="timm name of the server's model, or efficientnet_lite2, a stand-in.")
    ] = SERVER_MODEL,
    server_weights: Annotated[Path | None, typer.Option(help="Folder with its NAME.safetensors.")] = None,
    most_images: MostImages = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the folds.")] = 0,
    processes: Annotated[int, typer.Option(min=0, help="How many work at once; 0: one a core.")] = 0,
    cache: Annotated[Path, typer.Option(help="Keeps stills and answers of the models.")] = Path("runs/cache"),
) -> None:
    """Fit when a picture is worth its bits, for the models of a device and a server, on labelled images.

    Some 500 images do. Both models look at every image as a still of every size; what is known of them already is
    not measured again. Views of one object, where DATA names them, vote together. Ends with what each price of a
    bit leads to, of images that the fit has not seen.
    """
    with explained(ImageSetError, ImageError, WeightsError, ValueError, OSError):
        from experiments import calibrating
        from experiments.data.image_sets import load_image_set
        from experiments.evaluation.looks import Model

        images = load_image_set(data)
        if only is not None:
            images, _ = images.where(only)
        if most_images is not None:
            images = images.at_most(most_images)
        device, server = Model(DEVICE_MODEL, device_weights), Model(server_model, server_weights)
        with Progress(console=Console(stderr=True)) as progress:
            table = calibrating.measure(images, device, server, cache, processes or os.cpu_count() or 1, progress)
            bar = progress.add_task("fit", total=calibrating.STEPS)
            calibration = calibrating.fit(table, device.key, server.key, lambda: progress.advance(bar), seed)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(as_json(calibration), indent=1) + "\n", encoding="utf-8")
    _show(calibration)
    typer.echo(f"{out}: fitted on {len(images.examples)} images")


def _show(calibration: Calibration) -> None:
    """What prices lead to."""
    shown = Table("policy", "price of a bit", "points below the server", "bits a view")
    for name, curve in (("ask", calibration.ask), ("alone", calibration.alone)):
        for point in curve.points[:: max(len(curve.points) // SHOWN, 1)]:
            shown.add_row(name, f"{point.price:.1e}", f"{point.accuracy_loss:.1f}", f"{point.bits:.0f}")
    Console().print(shown)
