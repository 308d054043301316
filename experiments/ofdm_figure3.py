"""Counterpart of IA-QSMPA, Fig. 3: worst-case latency T_d and accuracy against ρ, N_s = 4, 20 dB.

The paper's text names no SNR; 20 dB is that of its Fig. 4. Accuracies are of the methods that differ in them:
where everything arrives, Fixed (B, P), Fixed P + IAQ and Fixed P + Top-β have the bits and the pixels of others.
"""

import matplotlib.pyplot as plt

from experiments.accuracy import VIEWS, draw, save
from experiments.ofdm import NAMES, draw_latency, ideal, images_of, line, views_of
from experiments.study import Measured
from semlink.access.planner import PlanMethod

RHOS = (1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2)
"""At the first every method has 1 bit a patch. At the second equal bits are 2 for the upper half of the patches
and 1 for the lower."""
SNR_DB = 20.0
SENT = (
    PlanMethod.IA_QSMPA,
    PlanMethod.IA_QSMPA_LC,
    PlanMethod.UNIFORM,
    PlanMethod.FIXED_B_WF,
    PlanMethod.EXACT,
)


def main(data: Measured) -> None:
    """Measures what is missing, and draws."""
    rows = data.latencies([ideal(method, SNR_DB, rho) for rho in RHOS for method in NAMES])
    answers = data.accuracies([ideal(method, SNR_DB, rho) for rho in RHOS for method in SENT])
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5.5))
    draw_latency(left, rows, "rho", "compression ratio ρ")
    views = views_of(answers)
    draw(right, answers, "rho", [line(method) for method in SENT], "compression ratio ρ", views)
    right.set_title(VIEWS[views])
    left.legend(fontsize=8)
    right.legend(fontsize=8)
    figure.suptitle(f"{data.name}, ideal transmission, $N_s$ = 4, {SNR_DB:g} dB; {images_of(rows)}")
    save(figure, data.out / f"ofdm-figure3-{data.name}.png")
