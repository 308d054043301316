"""Counterpart of IAQ, Fig. 6: accuracy against the bit error rate at ρ = 1/8, and against ρ at μ = 0.05."""

import matplotlib.pyplot as plt

from experiments.accuracy import ALLOCATIONS, CODECS, Series, draw, save
from experiments.evaluation.cells import Cell
from experiments.evaluation.coders import PROTECTED
from experiments.study import Measured

RHO, BER = 0.125, 0.05
BERS = (0.01, 0.02, 0.05, 0.1)


def main(data: Measured) -> None:
    """Measures what is missing, and draws."""
    rows = data.over_bsc(ALLOCATIONS, (RHO,), (0.0, *BERS), told=True)
    rows |= data.over_bsc(CODECS, (RHO,), (0.0, *BERS))
    rows |= data.over_bsc(tuple(PROTECTED), (RHO,), BERS)
    rows |= data.over_bsc((*CODECS, *PROTECTED), data.study.rhos, (BER,))
    rows |= data.over_bsc(ALLOCATIONS, data.study.rhos, (BER,), told=True)

    def lines(name: str, fixed: float) -> list[Series]:
        def series(method: str, modified: bool) -> Series:
            def belongs(cell: Cell) -> bool:
                # Without errors the modified methods are the plain ones.
                is_modified = cell.value("design_ber") > 0 or (modified and cell.value("ber") == 0)
                return (cell.value("method"), cell.value(name), is_modified) == (method, fixed, modified)

            style = "^--" if modified else "x:" if method in PROTECTED else "s:" if method in CODECS else "o-"
            return f"modified {method}" if modified else method, belongs, style

        plain = [series(method, False) for method in ALLOCATIONS]
        designed = [series(method, True) for method in ("incremental", "water-filling")]
        return [*plain, *designed, *(series(codec, False) for codec in (*CODECS, *PROTECTED))]

    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 6.5), sharey=True)
    draw(left, rows, "ber", lines("rho", RHO), f"bit error rate μ, at ρ = {RHO:g}")
    draw(right, rows, "rho", lines("ber", BER), f"compression ratio ρ, at μ = {BER:g}")
    right.set_xscale("log", base=2)
    figure.legend(*left.get_legend_handles_labels(), fontsize=8, ncols=5, loc="outside lower center")
    figure.suptitle(f"{data.name}, one view")
    save(figure, data.out / f"figure6-{data.name}.png")
