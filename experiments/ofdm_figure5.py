"""Counterpart of IA-QSMPA, Fig. 5: finite block lengths: T_d against SNR and error rate, accuracy against SNR.

The paper's text names neither the block error rate of its first and last panel nor the SNR of its middle one.
Latencies are medians: at low SNR some images have blocks that never get through. The last panel has the paper's
rule for bit errors and, for two methods, blocks that are lost as a whole.

python -m experiments.ofdm_figure5 DATA
"""

from dataclasses import replace

import matplotlib.pyplot as plt
import typer

from experiments.accuracy import VIEWS, Data, Series, draw, save
from experiments.evaluation.ofdm_cells import Coding, OfdmCell
from experiments.ofdm import NAMES, STYLES, draw_latency, images_of, measure_accuracy, measure_latency, views_of
from experiments.ofdm_figure2 import SNRS_DB
from semlink.access.planner import PlanMethod
from semlink.channel.rates import TARGET_BLOCK_ERROR_RATE

BLOCK_ERROR_RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
LOW_SNR_DB = 10.0
"""About the lowest at which methods of equal power get everything through more often than not."""
ACCURACY_SNRS_DB = (-5.0, 0.0, 5.0, 10.0, 20.0, 30.0)
LOSING = (PlanMethod.IA_QSMPA, PlanMethod.UNIFORM)


def cell(method: PlanMethod, snr_db: float, block_error_rate: float = TARGET_BLOCK_ERROR_RATE) -> OfdmCell:
    """A cell of the figure."""
    return OfdmCell(method, snr_db, coding=Coding.BER_RULE, block_error_rate=block_error_rate)


def line(method: PlanMethod, coding: Coding) -> Series:
    """The line of a method whose blocks fail in a certain way."""
    name = NAMES[method] if coding == Coding.BER_RULE else f"{NAMES[method]}, blocks lost"
    style = STYLES[method] if coding == Coding.BER_RULE else f"{STYLES[method][0]}:"
    return name, lambda cell: (cell["method"], cell.get("coding")) == (method, coding), style


def main(data: Data) -> None:
    """Measures what is missing, and draws."""
    by_snr = measure_latency(data, [cell(method, snr_db) for snr_db in SNRS_DB for method in NAMES])
    by_rate = measure_latency(
        data, [cell(method, LOW_SNR_DB, rate) for rate in BLOCK_ERROR_RATES for method in NAMES]
    )
    flipped = [cell(method, snr_db) for snr_db in ACCURACY_SNRS_DB for method in NAMES]
    lost = [replace(each, coding=Coding.BLOCK_LOSS) for each in flipped if each.method in LOSING]
    answers = measure_accuracy(data, [*flipped, *lost])
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(19, 5.5))
    draw_latency(left, by_snr, "snr_db", "SNR, dB", "median")
    left.set_title(f"block error rate {TARGET_BLOCK_ERROR_RATE:g}")
    draw_latency(middle, by_rate, "block_error_rate", "block error rate", "median")
    middle.set_xscale("log")
    middle.set_title(f"{LOW_SNR_DB:g} dB")
    series = [line(method, Coding.BER_RULE) for method in NAMES]
    series += [line(method, Coding.BLOCK_LOSS) for method in LOSING]
    views = views_of(answers)
    draw(right, answers, "snr_db", series, "SNR, dB", views)
    right.set_title(f"{VIEWS[views]}, block error rate {TARGET_BLOCK_ERROR_RATE:g}")
    for axes in (left, right):
        axes.legend(fontsize=8)
    figure.suptitle(f"{data.name}, finite block length, $N_s$ = 4, ρ = 0.25; {images_of(by_snr)}")
    save(figure, f"ofdm-figure5-{data.name}")


if __name__ == "__main__":
    typer.run(main)
