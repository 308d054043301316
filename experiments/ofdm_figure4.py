"""Counterpart of IA-QSMPA, Fig. 4: worst-case latency T_d against the spatial streams N_s, 20 dB, ρ = 0.25.

python -m experiments.ofdm_figure4 DATA
"""

import matplotlib.pyplot as plt
import typer

from experiments.accuracy import Data, save
from experiments.evaluation.ofdm_cells import OfdmCell
from experiments.ofdm import NAMES, draw_latency, images_of, measure_latency

STREAMS = (4, 6, 8)
SNR_DB = 20.0


def main(data: Data) -> None:
    """Plans what is missing, and draws."""
    rows = measure_latency(
        data, [OfdmCell(method, SNR_DB, streams=streams) for streams in STREAMS for method in NAMES]
    )
    figure, axes = plt.subplots(figsize=(8, 5.5))
    draw_latency(axes, rows, "streams", "spatial streams $N_s$")
    axes.set_xticks(STREAMS)
    axes.set_title(f"{data.name}, ideal transmission, {SNR_DB:g} dB, ρ = 0.25\n{images_of(rows)}")
    axes.legend(fontsize=8)
    save(figure, f"ofdm-figure4-{data.name}")


if __name__ == "__main__":
    typer.run(main)
