"""Accuracy curves of the committed evaluation: accuracy over bits on the air, with intervals, of each method."""

from functools import cache
from pathlib import Path
from typing import Any

from experiments.evaluation.rows import rows_of

RESULTS = Path(__file__).parents[1] / "experiments" / "results" / "imagenet-sample-1000.jsonl"


@cache
def curves() -> list[dict[str, Any]]:
    """Curves by method and bit error rate, points by ascending bits; none where the results are not at hand.

    Of a server with the device's own model, the default γ, and an allocation that assumes no errors.
    """
    found: dict[tuple[str, float], list[dict[str, Any]]] = {}
    about: dict[str, Any] = {}
    for row in rows_of(RESULTS):
        cell, server = row["cell"], row["run"]["server"]["model"]
        is_plain = cell["gamma"] == 1 and cell["design_ber"] == 0 and "receiver" not in cell
        run = row["run"]
        is_own = server == run["device"]["model"] and run["server"]["weights"] == run["device"]["weights"]
        if not (is_plain and is_own and cell["channel"].get("type") == "bsc"):
            continue
        about = {"data": row["run"]["data"], "images": row["single"]["images"], "server": server}
        single = row["single"]
        point = {"bits": row["bits"], **{name: single[name] for name in ("accuracy", "low", "high")}}
        found.setdefault((cell["method"], cell["channel"]["ber"]), []).append(point)
    return [
        {"method": method, "ber": ber, **about, "points": sorted(points, key=lambda point: point["bits"])}
        for (method, ber), points in found.items()
    ]
