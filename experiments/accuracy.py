"""Accuracy against a rate or a channel, as lines with 95 % intervals: what the figures share."""

import json
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from semlink.learning.runs import run_evaluation
from semlink.weights import DEVICE_MODEL

mpl.use("Agg")

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
HELD_OUT = "label=odd"
"""Photos to measure on; the others tune thresholds."""

Series = tuple[str, Callable[[dict], bool], str]
"""A line: its name, which cells are on it, and matplotlib's format."""


def measure(
    data: Path,
    methods: tuple[str, ...],
    rhos: tuple[float, ...],
    bers: tuple[float, ...],
    gammas: tuple[float, ...] = (1.0,),
    *,
    modified: bool = False,
) -> list[dict]:
    """Measures what the results do not hold yet, one view an image; returns all rows of the image set.

    Device and server both run DeiT-Tiny: a DeiT-Small grown from it is the same function at thrice the time.
    """
    out = RESULTS / f"{data.name}.jsonl"
    run_evaluation(
        data, HELD_OUT, out, methods, rhos, gammas, bers, modified=modified, device_weights=None,
        server_model=DEVICE_MODEL, server_weights=None, seed=0, processes=2, cache=Path("runs/cache"),
    )  # fmt: skip
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def draw(axes: Axes, rows: list[dict], along: str, series: list[Series], label: str) -> None:
    """Draws one line for each series over the cells' value of `along`, with the clean accuracy above."""
    (clean,) = (row for row in rows if row["cell"]["method"] == "clean")
    axes.axhline(100 * clean["single"]["accuracy"], color="grey", linewidth=1, linestyle=":", label="no link")
    for name, belongs, style in series:
        line = sorted((row for row in rows if belongs(row["cell"])), key=lambda row: row["cell"][along])
        at = [row["cell"][along] for row in line]
        middle = [100 * row["single"]["accuracy"] for row in line]
        axes.plot(at, middle, style, label=name, markersize=4, linewidth=1.5)
        low = [100 * row["single"]["low"] for row in line]
        high = [100 * row["single"]["high"] for row in line]
        axes.fill_between(at, low, high, color=axes.lines[-1].get_color(), alpha=0.08, linewidth=0)
    axes.set_xlabel(label)
    axes.set_ylabel("top-1 accuracy, %")
    axes.grid(alpha=0.3)


def save(figure: plt.Figure, name: str) -> None:
    """Writes the picture beside the results."""
    figure.tight_layout()
    figure.savefig(RESULTS / f"{name}.png", dpi=110)
    print(RESULTS / f"{name}.png")
