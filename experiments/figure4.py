"""Counterpart of IAQ, Fig. 4: the vote of four views against ρ, without errors, beside one view."""

import matplotlib.pyplot as plt

from experiments.accuracy import ALLOCATIONS, VIEWS, Series, draw, save
from experiments.study import Measured
from semlink.vision.weights import SERVER_MODEL


def main(data: Measured) -> None:
    """Measures what is missing, and draws."""
    rows = data.over_bsc(ALLOCATIONS, data.study.rhos, (0.0,), server_model=SERVER_MODEL)

    def line(method: str) -> Series:
        return method, lambda cell: cell.value("method") == method, "o-"

    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5.5), sharey=True)
    for axes, (views, title) in zip((left, right), VIEWS.items(), strict=True):
        draw(axes, rows, "rho", [line(method) for method in ALLOCATIONS], "compression ratio ρ", views)
        axes.set_xscale("log", base=2)
        axes.set_title(title)
    left.legend(fontsize=8)
    figure.suptitle(f"{data.name}, no errors, server {SERVER_MODEL}")
    save(figure, data.out / f"figure4-{data.name}.png")
