"""Counterpart of IAQ, Fig. 6: accuracy against the bit error rate at ρ = 1/8, and against ρ at μ = 0.05.

python -m experiments.figure6 DATA
"""

import matplotlib.pyplot as plt
import typer

from experiments.accuracy import ALLOCATIONS, CODECS, STUDIES, Data, Series, draw, measure, save
from experiments.evaluation.coders import PROTECTED

RHO, BER = 0.125, 0.05
BERS = (0.01, 0.02, 0.05, 0.1)


def main(data: Data) -> None:
    """Measures what is missing, and draws."""
    study = STUDIES[data.name]
    measure(data, ALLOCATIONS, (RHO,), (0.0, *BERS), modified=True)
    measure(data, CODECS, (RHO,), (0.0, *BERS))
    measure(data, tuple(PROTECTED), (RHO,), BERS)
    measure(data, (*CODECS, *PROTECTED), study.rhos, (BER,))
    rows = measure(data, ALLOCATIONS, study.rhos, (BER,), modified=True)

    def lines(name: str, fixed: float) -> list[Series]:
        def series(method: str, modified: bool) -> Series:
            def belongs(cell: dict) -> bool:
                # Without errors the modified methods are the plain ones.
                is_modified = cell["design_ber"] > 0 or (modified and cell["ber"] == 0)
                return (cell["method"], cell[name], cell["gamma"], is_modified) == (method, fixed, 1.0, modified)

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
    save(figure, f"figure6-{data.name}")


if __name__ == "__main__":
    typer.run(main)
