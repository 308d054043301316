"""Accuracy against a rate or a channel, as lines with 95 % intervals: how the figures draw it."""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from experiments.evaluation.cells import Cell
from experiments.evaluation.frame_cells import CLEAN
from experiments.evaluation.intervals import percent
from experiments.evaluation.measurement import Rows

mpl.use("Agg")
mpl.rcParams["figure.constrained_layout.use"] = True

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

Series = tuple[str, Callable[[Cell], bool], str]
"""A line: its name, which cells are on it, and matplotlib's format."""


def draw(axes: Axes, rows: Rows, along: str, series: list[Series], label: str, views: str = "single") -> None:
    """Draws one line for each series over the cells' value of `along`, with the clean accuracy above."""
    axes.set_prop_cycle(color=plt.get_cmap("tab20")(range(20)))
    (clean,) = (row for cell, row in rows.items() if cell.value("method") == CLEAN)
    axes.axhline(100 * clean[views]["accuracy"], color="grey", linewidth=1, linestyle=":", label="no link")
    sent = {cell: row for cell, row in rows.items() if row is not clean}
    for name, belongs, style in series:
        line = sorted((cell for cell in sent if belongs(cell)), key=lambda cell: cell.value(along))
        at = [cell.value(along) for cell in line]
        middle, low, high = zip(*(percent(sent[cell][views]) for cell in line), strict=True)
        axes.plot(at, middle, style, label=name, markersize=4, linewidth=1.5)
        axes.fill_between(at, low, high, color=axes.lines[-1].get_color(), alpha=0.08, linewidth=0)
    axes.set_xlabel(label)
    axes.set_ylabel("top-1 accuracy, %")
    axes.grid(alpha=0.3)


def save(figure: plt.Figure, path: Path) -> None:
    """Writes the picture and prints where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    print(path)
