"""Accuracy against a rate or a channel, as lines with 95 % intervals: what the figures share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import matplotlib as mpl
import matplotlib.pyplot as plt
import typer
from matplotlib.axes import Axes

from experiments.evaluation.intervals import percent
from experiments.evaluation.measurement import measure_grid
from experiments.evaluation.rows import settings_of
from experiments.evaluation.run import Run
from semlink.vision.weights import DEVICE_MODEL, PRETRAINED, SERVER_MODEL

mpl.use("Agg")
mpl.rcParams["figure.constrained_layout.use"] = True

RESULTS = Path(__file__).parent / "results"
ALLOCATIONS = (
    "incremental",
    "water-filling",
    "fixed",
    "top-k",
    "attention-threshold",
    "attention-sum-threshold",
)
CODECS = ("jpeg", "webp", "avif")

VIEWS = {"four_view": "vote of four views", "single": "one view"}
"""Accuracies of a row, in words."""

Series = tuple[str, Callable[[dict], bool], str]
"""A line: its name, which cells are on it, and matplotlib's format."""


@dataclass(frozen=True)
class Study:
    """How an image set is measured.

    Attributes:
        only: the images that no model has been trained on.
        rhos: ratios ρ of the figures.
        weights: folder of the models for its classes; None for those of ImageNet-1k.
        most_images: of a large set, as many as take minutes.
        bfloat16: the server computes in bfloat16; DeiT-Small always does.
    """

    only: str
    rhos: tuple[float, ...]
    weights: Path | None = None
    most_images: int | None = None
    bfloat16: bool = True


STUDIES = {
    "imagenet-sample-1000": Study("label=odd", (1 / 16, 1 / 8, 1 / 4, 1 / 2), bfloat16=False),
    "eth80": Study("fold=0", (1 / 32, 1 / 16, 1 / 8, 1 / 4), PRETRAINED / "eth80", most_images=320),
    "cifar10": Study("split=test", (1 / 16, 1 / 8, 1 / 4), Path("runs/models/cifar10"), most_images=300),
}
"""By the name of the image set's folder."""

Data = Annotated[
    Path, typer.Argument(help=f"folder of an image set: {', '.join(STUDIES)}", exists=True, file_okay=False)
]
"""The argument of the figures' commands."""


def run_of(data: Path, name: str, server_model: str = DEVICE_MODEL, server_weights: Path | None = None) -> Run:
    """How an image set is measured into RESULTS/NAME.jsonl.

    The device runs DeiT-Tiny, and so does the server unless said otherwise, because it takes a third of the time.
    """
    study = STUDIES[data.name]
    return Run(
        data=data,
        only=study.only,
        out=RESULTS / f"{name}.jsonl",
        cache=Path("runs/cache"),
        most_images=study.most_images,
        device_weights=study.weights,
        server_model=server_model,
        server_weights=server_weights or study.weights,
        bfloat16=study.bfloat16 or server_model == SERVER_MODEL,
        processes=2,
    )


def measure(
    data: Path,
    methods: Sequence[str],
    rhos: Sequence[float],
    bers: Sequence[float],
    gammas: Sequence[float] = (1.0,),
    *,
    modified: bool = False,
    server_model: str = DEVICE_MODEL,
    server_weights: Path | None = None,
) -> list[dict]:
    """Measures what the results do not hold yet; returns all rows of this image set and these models."""
    run = run_of(data, data.name, server_model, server_weights)
    return measure_grid(run, methods, rhos, gammas, bers, modified=modified)


def draw(
    axes: Axes, rows: list[dict], along: str, series: list[Series], label: str, views: str = "single"
) -> None:
    """Draws one line for each series over the cells' value of `along`, with the clean accuracy above."""
    axes.set_prop_cycle(color=plt.get_cmap("tab20")(range(20)))
    rows = [row for row in rows if settings_of(row["cell"]) is not None]
    (clean,) = (row for row in rows if row["cell"]["method"] == "clean")
    axes.axhline(100 * clean[views]["accuracy"], color="grey", linewidth=1, linestyle=":", label="no link")
    for name, belongs, style in series:
        line = sorted((row for row in rows if belongs(row["cell"])), key=lambda row: row["cell"][along])
        at = [row["cell"][along] for row in line]
        middle, low, high = zip(*(percent(row[views]) for row in line), strict=True)
        axes.plot(at, middle, style, label=name, markersize=4, linewidth=1.5)
        axes.fill_between(at, low, high, color=axes.lines[-1].get_color(), alpha=0.08, linewidth=0)
    axes.set_xlabel(label)
    axes.set_ylabel("top-1 accuracy, %")
    axes.grid(alpha=0.3)


def save(figure: plt.Figure, name: str) -> None:
    """Writes the picture beside the results."""
    figure.savefig(RESULTS / f"{name}.png", dpi=110)
    print(RESULTS / f"{name}.png")
