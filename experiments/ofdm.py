"""MIMO-OFDM with planned transmission on an image set: what the counterparts of IA-QSMPA's figures share."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from experiments.accuracy import Series, run_of
from experiments.evaluation.bsc_cells import CLEAN, BscCell
from experiments.evaluation.evaluation import Cell
from experiments.evaluation.measurement import measure_cells, measure_plans
from experiments.evaluation.ofdm_cells import OfdmCell
from experiments.evaluation.rows import is_about
from experiments.evaluation.run import Run
from semlink.access.planner import PlanMethod

NAMES = {
    PlanMethod.IA_QSMPA: "IA-QSMPA",
    PlanMethod.IA_QSMPA_LC: "IA-QSMPA (LC)",
    PlanMethod.UNIFORM: "IA-QSMPA (I[i] = 0.01)",
    PlanMethod.FIXED: "Fixed (B, P)",
    PlanMethod.FIXED_B_WF: "Fixed B + WF",
    PlanMethod.FIXED_P_IAQ: "Fixed P + IAQ",
    PlanMethod.FIXED_P_TOP_BETA: "Fixed P + Top-β",
    PlanMethod.EXACT: "exact optimum of E_Q + T_d (ours)",
}
"""The paper's names; every figure has these methods in this order."""
STYLES = {
    PlanMethod.IA_QSMPA: "o-",
    PlanMethod.IA_QSMPA_LC: "s-",
    PlanMethod.UNIFORM: "^-",
    PlanMethod.FIXED: "x--",
    PlanMethod.FIXED_B_WF: "+--",
    PlanMethod.FIXED_P_IAQ: "d--",
    PlanMethod.FIXED_P_TOP_BETA: "v--",
    PlanMethod.EXACT: "k:",
}


def measure_latency(data: Path, cells: Sequence[OfdmCell]) -> list[dict]:
    """Rows of the cells' latencies, of which those that are not there yet are planned; nothing is sent."""
    return _asked_for(measure_plans(ofdm_run(data), cells), cells)


def measure_accuracy(data: Path, cells: Sequence[OfdmCell]) -> list[dict]:
    """Rows of the cells, and of the clean one, of which those that are not there yet are measured.

    Device and server run DeiT-Tiny.
    """
    every: list[Cell] = [BscCell(CLEAN), *cells]
    return _asked_for(measure_cells(ofdm_run(data), every), every)


def ofdm_run(data: Path) -> Run:
    """How an image set is measured over MIMO-OFDM; every image has one channel, the same in all figures."""
    return run_of(data, f"ofdm-{data.name}")


def _asked_for(rows: list[dict], cells: Sequence[Cell]) -> list[dict]:
    return [row for row in rows if any(is_about(row["cell"], cell) for cell in cells)]


def line(method: PlanMethod) -> Series:
    """The line of a method."""
    return NAMES[method], lambda cell: cell["method"] == method, STYLES[method]


def draw_latency(axes: Axes, rows: list[dict], along: str, label: str, middle: str = "mean") -> None:
    """Draws T_d of every method over the cells' value of `along`, its mean or median over the images.

    A line is broken where that is infinite: the mean where some image has a block that never gets through, the
    median where half of them have.
    """
    for name, belongs, style in map(line, NAMES):
        own = sorted((row for row in rows if belongs(row["cell"])), key=lambda row: row["cell"][along])
        at = [row["cell"][along] for row in own]
        values = [row["t_d_ms"][middle] for row in own]
        axes.plot(
            at, [float("nan") if value is None else value for value in values], style, label=name, markersize=4
        )
    axes.set_yscale("log")
    axes.set_xlabel(label)
    axes.set_ylabel(f"worst-case latency $T_d$, {middle}, ms")
    axes.grid(visible=True, which="both", alpha=0.3)


def views_of(rows: list[dict]) -> str:
    """Which accuracy is drawn: that of the vote of four views, where the images have them."""
    return "four_view" if all(row["four_view"] for row in rows) else "single"


def images_of(rows: list[dict]) -> str:
    """Of how many the means are, in words."""
    return f"{rows[0]['run']['images']} images, each over a channel of its own"
