"""Counterpart of IA-QSMPA, Fig. 4: worst-case latency T_d against the number of streams, SNR = 20 dB, ρ = 0.25.

python -m experiments.ofdm_figure4
"""

import matplotlib.pyplot as plt

from experiments.ofdm_latency import CHANNELS, draw, measure, save

STREAMS = (4, 6, 8)


def main() -> None:
    """Measures and draws."""
    rows = measure((20.0, streams) for streams in STREAMS)
    figure, axes = plt.subplots(figsize=(7, 5))
    draw(axes, rows, "streams", "spatial streams $N_s$")
    axes.set_xticks(STREAMS)
    axes.set_title(f"ideal transmission, SNR = 20 dB, ρ = 0.25, mean of {CHANNELS} channels")
    save(figure, rows, "ofdm-figure4")


if __name__ == "__main__":
    main()
