"""Counterpart of IA-QSMPA, Fig. 4: worst-case latency T_d against the spatial streams N_s, 20 dB, ρ = 0.25."""

import matplotlib.pyplot as plt

from experiments.accuracy import save
from experiments.ofdm import NAMES, draw_latency, ideal, images_of
from experiments.study import Measured

STREAMS = (4, 6, 8)
SNR_DB = 20.0


def main(data: Measured) -> None:
    """Plans what is missing, and draws."""
    rows = data.latencies([ideal(method, SNR_DB, streams=streams) for streams in STREAMS for method in NAMES])
    figure, axes = plt.subplots(figsize=(8, 5.5))
    draw_latency(axes, rows, "streams", "spatial streams $N_s$")
    axes.set_xticks(STREAMS)
    axes.set_title(f"{data.name}, ideal transmission, {SNR_DB:g} dB, ρ = 0.25\n{images_of(rows)}")
    axes.legend(fontsize=8)
    save(figure, data.out / f"ofdm-figure4-{data.name}.png")
