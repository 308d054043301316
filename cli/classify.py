"""Classification from the command line: `semlink classify`, the likeliest classes of frames and pictures."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from cli.frames import decoded, read_at_most
from cli.from_settings import WeightsFolder, explained
from semlink.frame import MAGIC, MAX_FRAME_BYTES, FrameError
from semlink.source.registry import read_frame
from semlink.vision.photos import find_photos
from semlink.vision.weights import SERVER_MODEL, WeightsError

if TYPE_CHECKING:
    from timm.models import VisionTransformer

BATCH = 16


def classify(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Frame files, picture files, folders of pictures, or names of scikit-image's photographs."
        ),
    ],
    model: Annotated[str, typer.Option(help="timm name of the vision transformer.")] = SERVER_MODEL,
    weights: WeightsFolder = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="How many classes of each, the likeliest first.")] = 5,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document a line, one for each input.")
    ] = False,
) -> None:
    """Say what frames and pictures show: the likeliest classes with their confidences, as a server does.

    A frame is decoded first, so "semlink classify sent.slk arrived.slk" shows what a channel did to the answer.
    """
    with explained(WeightsError, FrameError, ValueError, OSError):
        paths = [path for each in inputs for path in _paths(each)]
        pixels = [pixels_of(path, weights) for path in paths]
        answers = predicted(_load(model, weights), pixels, top)
    if as_json:
        for path, predictions in zip(paths, answers, strict=True):
            typer.echo(json.dumps({"input": str(path), "predictions": predictions}, ensure_ascii=False))
        return
    table = Table(title=f"{model}, the likeliest classes")
    table.add_column("input", overflow="fold")
    for head in ("confidence", "label"):
        table.add_column(head, justify="right")
    table.add_column("class")
    for path, predictions in zip(paths, answers, strict=True):
        for number, each in enumerate(predictions):
            name = str(path) if number == 0 else ""
            table.add_row(name, f"{each['confidence']:.3f}", str(each["label"]), each["name"])
        table.add_section()
    Console().print(table)


def pixels_of(path: Path, weights: Path | None) -> NDArray[Any]:
    """(224, 224, 3) pixels within 0..255 of a frame file or of a picture file.

    Raises:
        OSError: the file cannot be read.
        FrameError: a frame that breaks a rule.
        WeightsError: the models of the frame's coder are missing.
        ValueError: a picture that cannot be used, or a frame of an image of another size.
    """
    from semlink.vision.images import IMAGE_SIZE, MAX_IMAGE_BYTES, ImageError, model_pixels, open_image

    data = read_at_most(path, MAX_IMAGE_BYTES + 1)
    if not data.startswith(MAGIC):
        try:
            return model_pixels(open_image(data))
        except ImageError as error:
            raise ValueError(f"{path}: {error}") from None
    frame = read_frame(data, most_bytes=MAX_FRAME_BYTES)
    if frame.shape != (IMAGE_SIZE, IMAGE_SIZE, 3):
        raise ValueError(
            f"{path}: the model takes {IMAGE_SIZE} x {IMAGE_SIZE} pixels in colour, not {frame.shape}"
        )
    return decoded(frame, weights)


def predicted(model: "VisionTransformer", pixels: list[NDArray[Any]], top: int) -> list[list[dict[str, Any]]]:
    """The `top` likeliest classes of each image: `label`, `name` and `confidence`, its softmax probability."""
    import torch

    from semlink.vision.vit import class_names, normalise

    names = class_names(model)
    found = []
    for start in range(0, len(pixels), BATCH):
        batch = np.stack(pixels[start : start + BATCH], dtype=np.float32, casting="unsafe")
        with torch.inference_mode():
            confidences, labels = model(normalise(model, batch)).softmax(-1).topk(min(top, len(names)))
        for sure, likely in zip(confidences.tolist(), labels.tolist(), strict=True):
            found.append(
                [
                    {"label": label, "name": names[label], "confidence": confidence}
                    for label, confidence in zip(likely, sure, strict=True)
                ]
            )
    return found


def _load(model: str, weights: Path | None) -> "VisionTransformer":
    from semlink.vision.vit import load_vit

    return load_vit(model, weights=weights)


def _paths(source: str) -> list[Path]:
    """A file as it is, whatever it holds; else what pictures are found by."""
    return [Path(source)] if Path(source).is_file() else find_photos([source])
