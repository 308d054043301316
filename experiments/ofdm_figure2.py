"""Counterpart of IA-QSMPA, Fig. 2: worst-case latency T_d against SNR, N_s = 4, ρ = 0.25."""

import matplotlib.pyplot as plt

from experiments.accuracy import save
from experiments.ofdm import NAMES, draw_latency, ideal, images_of
from experiments.study import Measured

SNRS_DB = tuple(float(snr_db) for snr_db in range(-5, 46, 5))


def main(data: Measured) -> None:
    """Plans what is missing, and draws."""
    rows = data.latencies([ideal(method, snr_db) for snr_db in SNRS_DB for method in NAMES])
    figure, axes = plt.subplots(figsize=(8, 5.5))
    draw_latency(axes, rows, "snr_db", "SNR, dB")
    axes.set_title(f"{data.name}, ideal transmission, $N_s$ = 4, ρ = 0.25\n{images_of(rows)}")
    axes.legend(fontsize=8)
    save(figure, data.out / f"ofdm-figure2-{data.name}.png")
