"""Counterpart of IA-QSMPA, Fig. 2: worst-case latency T_d against SNR, N_s = 4, ρ = 0.25.

python -m experiments.ofdm_figure2 DATA
"""

import matplotlib.pyplot as plt
import typer

from experiments.accuracy import Data, save
from experiments.evaluation.ofdm_cells import OfdmCell
from experiments.ofdm import NAMES, draw_latency, images_of, measure_latency

SNRS_DB = tuple(float(snr_db) for snr_db in range(-5, 46, 5))


def main(data: Data) -> None:
    """Plans what is missing, and draws."""
    rows = measure_latency(data, [OfdmCell(method, snr_db) for snr_db in SNRS_DB for method in NAMES])
    figure, axes = plt.subplots(figsize=(8, 5.5))
    draw_latency(axes, rows, "snr_db", "SNR, dB")
    axes.set_title(f"{data.name}, ideal transmission, $N_s$ = 4, ρ = 0.25\n{images_of(rows)}")
    axes.legend(fontsize=8)
    save(figure, f"ofdm-figure2-{data.name}")


if __name__ == "__main__":
    typer.run(main)
