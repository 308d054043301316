"""Worst-case latency T_d of every planning method over drawn channels: what the figures of IA-QSMPA share."""

import json
from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from semlink.ofdm import Numerology, PlanMethod, plan
from semlink.ofdm.recipe import draw_gains, draw_scores
from semlink.provenance import provenance

mpl.use("Agg")

RESULTS = Path(__file__).parent / "results"
CHANNELS = 20
"""Seeds 0 to 19: a channel each, and importance scores that are Dirichlet of concentration 1/2."""
RHO = 0.25
STYLES = {
    PlanMethod.IA_QSMPA: "o-",
    PlanMethod.IA_QSMPA_LC: "s-",
    PlanMethod.EXACT: "k:",
    PlanMethod.UNIFORM: "^-",
    PlanMethod.FIXED: "x--",
    PlanMethod.FIXED_B_WF: "+--",
    PlanMethod.FIXED_P_IAQ: "d--",
    PlanMethod.FIXED_P_TOP_BETA: "v--",
}


def measure(settings: Iterable[tuple[float, int]]) -> list[dict]:
    """A row for each method at each (SNR in dB, N_s).

    `t_d_ms` are the latencies of all channels, None where a block gets nothing through; `mean_t_d_ms` is their
    mean, None if one of them is.
    """
    rows = []
    scores = [draw_scores(seed) for seed in range(CHANNELS)]
    for snr_db, streams in settings:
        gains = [draw_gains(Numerology(streams=streams), seed) for seed in range(CHANNELS)]
        for method in STYLES:
            latencies = np.array([
                plan(of_patches, of_subchannels, snr_db, method=method, rho=RHO).t_d
                for of_patches, of_subchannels in zip(scores, gains, strict=True)
            ])  # fmt: skip
            mean = float(latencies.mean())
            rows.append(
                {
                    "method": str(method),
                    "snr_db": snr_db,
                    "streams": streams,
                    "rho": RHO,
                    "mean_t_d_ms": 1e3 * mean if np.isfinite(mean) else None,
                    "t_d_ms": [1e3 * each if np.isfinite(each) else None for each in latencies.tolist()],
                }
            )
    return rows


def draw(axes: Axes, rows: list[dict], by: str, label: str) -> None:
    """Mean T_d of every method against a column; a method that starves a block has no point there."""
    for method, style in STYLES.items():
        own = [row for row in rows if row["method"] == method and row["mean_t_d_ms"] is not None]
        axes.plot([row[by] for row in own], [row["mean_t_d_ms"] for row in own], style, label=str(method))
    axes.set_yscale("log")
    axes.set_xlabel(label)
    axes.set_ylabel("$T_d$ in ms")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize=8)


def save(figure: plt.Figure, rows: list[dict], name: str) -> None:
    """Writes the rows with how they came about, and the picture."""
    document = {**provenance(), "channels": CHANNELS, "rows": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    figure.tight_layout()
    figure.savefig(RESULTS / f"{name}.png", dpi=110)
    print(RESULTS / f"{name}.json", RESULTS / f"{name}.png")
