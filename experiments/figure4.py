"""Counterpart of IAQ, Fig. 4: the vote of four views against ρ, without errors, beside one view.

python -m experiments.figure4 DATA
"""

import matplotlib.pyplot as plt
import typer

from experiments.accuracy import ALLOCATIONS, STUDIES, VIEWS, Data, Series, draw, measure, save
from semlink.vision.weights import SERVER_MODEL


def main(data: Data) -> None:
    """Measures what is missing, and draws."""
    rows = measure(data, ALLOCATIONS, STUDIES[data.name].rhos, (0.0,), server_model=SERVER_MODEL)

    def line(method: str) -> Series:
        return method, lambda cell: cell["method"] == method and cell["ber"] == 0, "o-"

    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5.5), sharey=True)
    for axes, (views, title) in zip((left, right), VIEWS.items(), strict=True):
        draw(axes, rows, "rho", [line(method) for method in ALLOCATIONS], "compression ratio ρ", views)
        axes.set_xscale("log", base=2)
        axes.set_title(title)
    left.legend(fontsize=8)
    figure.suptitle(f"{data.name}, no errors, server {SERVER_MODEL}")
    save(figure, f"figure4-{data.name}")


if __name__ == "__main__":
    typer.run(main)
