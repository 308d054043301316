"""Summary of measured cells: a table on the terminal, a CSV file, and a plot with 95 % intervals."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.evaluation.cells import Cell
from experiments.evaluation.frame_cells import CLEAN
from experiments.evaluation.intervals import percent
from experiments.evaluation.measurement import Rows
from experiments.evaluation.source_cells import MODELS

PLOTS = (".png", ".svg", ".pdf")
"""Suffixes of the plots that can be written."""
ACCURACIES = {"single": "one view", "four_view": "four views", "fused": "fused views"}
RENAMED = {"design_ber": "code_ber"}
"""Parameters of channels by their flags, where IAQ's allocations have a setting of the same name."""
SHARES = {"bit_errors": "errors %", "lost_blocks": "blocks lost %", "lost": "lost %"}
"""Fields of a row that are shares of all bits, segments and pictures, and their heads in the table."""


def flat(cell: Cell) -> dict[str, Any]:
    """The settings of a cell and of its channel by name, without levels.

    >>> from experiments.evaluation.frame_cells import FrameCell
    >>> from semlink.channel.awgn import Awgn
    >>> flat(FrameCell(Awgn(snr_db=5.0), "fixed", 0.25))["snr_db"]
    5.0
    """
    settings = cell.settings
    parameters = settings.pop("channel")
    settings |= settings.pop("coding", {})
    named = {RENAMED.get(name, name): value for name, value in parameters.items() if name != "type"}
    return {**settings, "channel": parameters["type"], **named}


def varying(cells: Sequence[Cell]) -> list[str]:
    """Names of the settings that are not the same in all cells: the method's first, then the channel's."""
    every = [flat(cell) for cell in cells]
    names = dict.fromkeys(name for each in every for name in each if name != MODELS)
    return [name for name in names if len({each.get(name) for each in every}) > 1]


def show(rows: Rows, console: Console) -> None:
    """Prints one line for each cell: what differs between the cells, accuracy with its interval, bits, losses."""
    sent = _sent(rows)
    names = list(dict.fromkeys(["method", *varying(sent)]))
    views = [view for view in ACCURACIES if any(row.get(view) for row in rows.values())]
    answered = any(row.get("downlink_bits") for row in rows.values())
    shares = {name: head for name, head in SHARES.items() if any(row.get(name) for row in rows.values())}
    timed = any(row.get("t_d_ms") for row in rows.values())
    run = next(iter(rows.values()))["run"]
    table = Table(
        title=f"{run['data']}, {run['images']} images, accuracy in % with 95 % intervals", caption=_same(sent)
    )
    for name in names:
        table.add_column(name, justify="left" if name in ("method", "channel") else "right", no_wrap=True)
    for view in views:
        table.add_column(ACCURACIES[view], justify="right", no_wrap=True)
    for head in ("bits", *["bits back"] * answered, *shares.values(), *["T_d ms"] * timed):
        table.add_column(head, justify="right")
    for cell, row in rows.items():
        settings = {"method": CLEAN} if cell not in sent else flat(cell)
        values = [_shown(settings.get(name)) for name in names]
        for view in views:
            values.append("{:.1f} ({:.1f} to {:.1f})".format(*percent(row[view])) if row.get(view) else "")
        values.append(f"{row['bits']:,.0f}" if cell in sent else "")
        if answered:
            values.append(f"{row['downlink_bits']:,.0f}" if "downlink_bits" in row else "")
        values += ["" if row.get(name) is None else f"{100 * row[name]:.3g}" for name in shares]
        if timed:
            values.append(_median(row))
        table.add_row(*values)
    console.print(table)


def _same(cells: Sequence[Cell]) -> str:
    """The settings that all cells have in common, in words."""
    if not cells:
        return ""
    varied = varying(cells)
    same = {
        name: value
        for name, value in flat(cells[0]).items()
        if name not in (*varied, MODELS) and value is not None
    }
    return ", ".join(f"{name} {_shown(value)}" for name, value in same.items())


def write_csv(rows: Rows, path: Path) -> None:
    """Writes a row for each cell, all settings and all that was measured in columns, for other programs."""
    settings = {cell: flat(cell) for cell in rows}
    names = list(dict.fromkeys(name for each in settings.values() for name in each))
    heads = [f"{view}_{part}" for view in ACCURACIES for part in ("accuracy", "low", "high")]
    measured = ("bits", "downlink_bits", "true_ratio", *SHARES, "near_ties")
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow([*names, *heads, *measured, "t_d_ms_median", "images", "seed"])
        for cell, row in rows.items():
            accuracies: list[Any] = []
            for view in ACCURACIES:
                accuracies += [value / 100 for value in percent(row[view])] if row.get(view) else [""] * 3
            lines.writerow(
                [
                    *(settings[cell].get(name, "") for name in names),
                    *accuracies,
                    *(_cell_text(row.get(name)) for name in measured),
                    _median(row),
                    row["run"]["images"],
                    row["run"]["seed"],
                ]
            )


def plot(rows: Rows, path: Path) -> None:
    """Draws accuracy along the number of which there are most values; a line for each setting of the others.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    import matplotlib.pyplot as plt

    from experiments.accuracy import Series, draw

    sent = _sent(rows)
    along = _along(sent)
    lines: dict[tuple[tuple[str, Any], ...], str] = {}
    names = [name for name in varying(sent) if name != along]
    for cell in sent:
        settings = flat(cell)
        chosen = tuple((name, settings.get(name)) for name in names)
        words = [f"{name} {_shown(value)}" for name, value in chosen if value is not None]
        lines[chosen] = ", ".join(words) or str(settings["method"])

    def series(chosen: tuple[tuple[str, Any], ...], name: str) -> Series:
        def belongs(cell: Cell) -> bool:
            return all(flat(cell).get(key) == value for key, value in chosen)

        return name, belongs, "o-"

    figure, axes = plt.subplots(figsize=(8, 5.5))
    views = "four_view" if all(row["four_view"] for row in rows.values()) else "single"
    draw(axes, rows, along, [series(chosen, name) for chosen, name in lines.items()], along, views)
    run = next(iter(rows.values()))["run"]
    axes.set_title(f"{run['data']}, {run['images']} images, {ACCURACIES[views]}")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def check_plot(path: Path) -> None:
    """Refuses, before anything is measured, what could not be drawn after it.

    Raises:
        ValueError: the suffix is none of `PLOTS`.
        ModuleNotFoundError: matplotlib is not installed.
    """
    if path.suffix.lower() not in PLOTS:
        raise ValueError(f"--plot {path}: a plot is written as one of {', '.join(PLOTS)}")
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise ModuleNotFoundError("--plot needs matplotlib: pip install 'semlink[plot]'") from None


def _along(cells: Sequence[Cell]) -> str:
    """The numeric setting that all cells have, and of which there are most values; ρ where nothing differs."""
    every = [flat(cell) for cell in cells]
    best, most = "rho", 1
    for name in varying(cells):
        values = [each.get(name) for each in every]
        numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        if numeric and len(set(values)) > most:
            best, most = name, len(set(values))
    return best


def _sent(rows: Rows) -> list[Cell]:
    return [cell for cell in rows if cell.value("method") != CLEAN]


def _shown(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _median(row: dict[str, Any]) -> str:
    if not row.get("t_d_ms"):
        return ""
    median = row["t_d_ms"]["median"]
    return "inf" if median is None else f"{median:.4g}"


def _cell_text(value: object) -> object:
    """`near_ties` has a number by margin: the first, of the narrowest."""
    if isinstance(value, dict):
        return next(iter(value.values()))
    return "" if value is None else value
