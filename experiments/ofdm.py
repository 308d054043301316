"""MIMO-OFDM with planned transmission on an image set: what the counterparts of IA-QSMPA's figures share."""

from typing import Any

from matplotlib.axes import Axes

from experiments.accuracy import Series
from experiments.evaluation.measurement import Rows
from experiments.evaluation.planned_cells import PlannedCell
from semlink.access.planner import PlanMethod
from semlink.channel.mimo_ofdm import MimoOfdm

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


def ideal(method: PlanMethod, snr_db: float, rho: float = 0.25, streams: int = 4) -> PlannedCell:
    """A cell of the ideal transmission."""
    return PlannedCell(MimoOfdm(snr_db=snr_db, streams=streams), method, rho)


def line(method: PlanMethod) -> Series:
    """The line of a method."""
    return NAMES[method], lambda cell: cell.value("method") == method, STYLES[method]


def draw_latency(axes: Axes, rows: Rows, along: str, label: str, middle: str = "mean") -> None:
    """Draws T_d of every method over the cells' value of `along`, its mean or median over the images.

    A line is broken where that is infinite: the mean where some image has a block that never gets through, the
    median where half of them have.
    """
    for name, belongs, style in map(line, NAMES):
        own = sorted((cell for cell in rows if belongs(cell)), key=lambda cell: cell.value(along))
        values = [rows[cell]["t_d_ms"][middle] for cell in own]
        axes.plot(
            [cell.value(along) for cell in own],
            [float("nan") if value is None else value for value in values],
            style,
            label=name,
            markersize=4,
        )
    axes.set_yscale("log")
    axes.set_xlabel(label)
    axes.set_ylabel(f"worst-case latency $T_d$, {middle}, ms")
    axes.grid(visible=True, which="both", alpha=0.3)


def views_of(rows: Rows) -> str:
    """Which accuracy is drawn: that of the vote of four views, where the images have them."""
    return "four_view" if all(row["four_view"] for row in rows.values()) else "single"


def images_of(rows: Rows) -> str:
    """Of how many the means are, in words."""
    first: dict[str, Any] = next(iter(rows.values()))
    return f"{first['run']['images']} images, each over a channel of its own"
