"""Counterpart of IA-QSMPA, Fig. 2: worst-case latency T_d against SNR, N_s = 4, ρ = 0.25.

python -m experiments.ofdm_figure2
"""

import matplotlib.pyplot as plt

from experiments.ofdm_latency import CHANNELS, draw, measure, save

SNRS_DB = tuple(range(0, 41, 5))


def main() -> None:
    """Measures and draws."""
    rows = measure((float(snr_db), 4) for snr_db in SNRS_DB)
    figure, axes = plt.subplots(figsize=(7, 5))
    draw(axes, rows, "snr_db", "SNR in dB")
    axes.set_title(f"ideal transmission, $N_s$ = 4, ρ = 0.25, mean of {CHANNELS} channels")
    save(figure, rows, "ofdm-figure2")


if __name__ == "__main__":
    main()
