"""Counterpart of IAQ, Fig. 5: accuracy against ρ without errors, the effect of γ, and codecs beside."""

import matplotlib.pyplot as plt

from experiments.accuracy import ALLOCATIONS, CODECS, Series, draw, save
from experiments.study import Measured

GAMMAS = (0.5, 1.0, 1.5)


def main(data: Measured) -> None:
    """Measures what is missing, and draws."""
    rhos = data.study.rhos
    rows = data.over_bsc(("incremental",), rhos, (0.0,), GAMMAS)
    rows |= data.over_bsc((*ALLOCATIONS, *CODECS), rhos, (0.0,))

    def line(method: str, gamma: float = 1.0) -> Series:
        weighs = method in ("incremental", "water-filling")
        name = f"{method}, γ = {gamma:g}" if weighs else method
        style = {1.0: "o-", 0.5: "o--", 1.5: "o:"}[gamma] if weighs else "x--" if method in CODECS else "s-"
        return (
            name,
            lambda cell: (cell.value("method"), cell.value("gamma")) == (method, gamma),
            style,
        )

    series = [line("incremental", gamma) for gamma in GAMMAS]
    series += [line(method) for method in (*ALLOCATIONS[1:], *CODECS)]
    figure, axes = plt.subplots(figsize=(8, 5.5))
    draw(axes, rows, "rho", series, "compression ratio ρ")
    axes.set_title(f"{data.name}, one view, no errors")
    axes.set_xscale("log", base=2)
    axes.legend(fontsize=8, ncols=2)
    save(figure, data.out / f"figure5-{data.name}.png")
