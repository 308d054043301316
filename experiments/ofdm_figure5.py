"""Counterpart of IA-QSMPA, Fig. 5: finite block lengths: T_d against SNR and error rate, accuracy against SNR.

The paper's text names neither the block error rate of its first and last panel nor the SNR of its middle one.
Latencies are medians: at low SNR some images have blocks that never get through. The last panel has the paper's
rule for bit errors and, for two methods, blocks that are lost as a whole.
"""

from typing import Literal

import matplotlib.pyplot as plt

from experiments.accuracy import VIEWS, Series, draw, save
from experiments.evaluation.planned_cells import PlannedCell
from experiments.ofdm import NAMES, STYLES, draw_latency, images_of, views_of
from experiments.ofdm_figure2 import SNRS_DB
from experiments.study import Measured
from semlink.access.planner import PlanMethod
from semlink.channel.finite_blocklength import FiniteBlocklength
from semlink.channel.rates import TARGET_BLOCK_ERROR_RATE

BLOCK_ERROR_RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
LOW_SNR_DB = 10.0
"""About the lowest at which methods of equal power get everything through more often than not."""
ACCURACY_SNRS_DB = (-5.0, 0.0, 5.0, 10.0, 20.0, 30.0)
LOSING = (PlanMethod.IA_QSMPA, PlanMethod.UNIFORM)


def cell(
    method: PlanMethod,
    snr_db: float,
    block_error_rate: float = TARGET_BLOCK_ERROR_RATE,
    errors: Literal["ber-rule", "block-loss"] = "ber-rule",
) -> PlannedCell:
    """A cell of the figure."""
    channel = FiniteBlocklength(snr_db=snr_db, target_bler=block_error_rate, errors=errors)
    return PlannedCell(channel, method)


def line(method: PlanMethod, errors: str) -> Series:
    """The line of a method whose blocks fail in a certain way."""
    name = NAMES[method] if errors == "ber-rule" else f"{NAMES[method]}, blocks lost"
    style = STYLES[method] if errors == "ber-rule" else f"{STYLES[method][0]}:"
    return name, lambda cell: (cell.value("method"), cell.value("errors")) == (method, errors), style


def main(data: Measured) -> None:
    """Measures what is missing, and draws."""
    by_snr = data.latencies([cell(method, snr_db) for snr_db in SNRS_DB for method in NAMES])
    by_rate = data.latencies([cell(method, LOW_SNR_DB, rate) for rate in BLOCK_ERROR_RATES for method in NAMES])
    flipped = [cell(method, snr_db) for snr_db in ACCURACY_SNRS_DB for method in NAMES]
    lost = [cell(method, snr_db, errors="block-loss") for snr_db in ACCURACY_SNRS_DB for method in LOSING]
    answers = data.accuracies([*flipped, *lost])
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(19, 5.5))
    draw_latency(left, by_snr, "snr_db", "SNR, dB", "median")
    left.set_title(f"block error rate {TARGET_BLOCK_ERROR_RATE:g}")
    draw_latency(middle, by_rate, "target_bler", "block error rate", "median")
    middle.set_xscale("log")
    middle.set_title(f"{LOW_SNR_DB:g} dB")
    series = [line(method, "ber-rule") for method in NAMES]
    series += [line(method, "block-loss") for method in LOSING]
    views = views_of(answers)
    draw(right, answers, "snr_db", series, "SNR, dB", views)
    right.set_title(f"{VIEWS[views]}, block error rate {TARGET_BLOCK_ERROR_RATE:g}")
    for axes in (left, right):
        axes.legend(fontsize=8)
    figure.suptitle(f"{data.name}, finite block length, $N_s$ = 4, ρ = 0.25; {images_of(by_snr)}")
    save(figure, data.out / f"ofdm-figure5-{data.name}.png")
