"""Markdown tables of the measured rows: accuracy in %, its 95 % interval, and the bits that were on the air."""

from pathlib import Path
from typing import Any

from experiments.evaluation.frame_cells import FrameCell
from experiments.evaluation.grid import cell_of
from experiments.evaluation.intervals import Samples, paired_gain, percent, samples_of
from experiments.evaluation.rows import rows_of
from experiments.study import Measured
from experiments.training.link_training import KIND

Rows = dict[FrameCell, dict[str, Any]]
"""Rows of one run, by cell."""
SETTING_HEAD = "| method | γ | ρ | μ | designed for "


def _accuracies(rows: Rows) -> list[str]:
    views = ["single", "four_view"] if any(row["four_view"] for row in rows.values()) else ["single"]
    heads = "".join(f"| {name} | 95 % interval " for name in ("one view", "four views")[: len(views)])
    lines = [f"{SETTING_HEAD}{heads}| bits on the air | lost |", "| --- " * (7 + 2 * len(views)) + "|"]
    for cell in sorted(rows, key=_order):
        row = rows[cell]
        accuracies = "".join("| {:.1f} | {:.1f} to {:.1f} ".format(*percent(row[view])) for view in views)
        code = f" (LDPC, rate {row['code']['rate']:.2f})" if row.get("code") else ""
        lines.append(f"{_setting(cell)}{accuracies}| {row['bits']:,.0f}{code} | {100 * row['lost']:.1f} % |")
    return lines


def _differences(pairs: list[tuple[FrameCell, dict, dict]], samples: Samples, ahead: str) -> list[str]:
    """One line for each pair of rows about the same images: the first one's accuracy less the second one's."""
    gains = [
        (cell, [paired_gain(first, second, views, samples) for views in samples]) for cell, first, second in pairs
    ]
    columns = 2 if any(votes for _, (_, votes) in gains) else 1
    heads = "".join(f"| {head} | 95 % interval " for head in (ahead, f"{ahead}, four views")[:columns])
    lines = [f"{SETTING_HEAD}{heads}|", "| --- " * (5 + 2 * columns) + "|"]
    for cell, by_views in gains:
        values = "".join(
            f"| {100 * gain['difference']:+.1f} | {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f} "
            if gain
            else "| | "
            for gain in by_views[:columns]
        )
        lines.append(f"{_setting(cell)}{values}|")
    return lines


def _beside_iaq(rows: Rows) -> list[tuple[FrameCell, dict, dict]]:
    pairs = []
    for cell in sorted(rows, key=_order):
        iaq = FrameCell(cell.channel, "incremental", cell.rho)
        if iaq in rows and cell != iaq:
            pairs.append((cell, rows[iaq], rows[cell]))
    return pairs


def _beside_released(rows: Rows, released: Rows) -> list[tuple[FrameCell, dict, dict]]:
    """Every cell that was measured with the server of `released` too."""
    if rows is released:
        return []
    return [(cell, rows[cell], released[cell]) for cell in sorted(rows, key=_order) if cell in released]


def _title(row: dict) -> str:
    """The server's model in words."""
    server = row["run"]["server"]
    precision = ", bfloat16" if server["precision"] == "bfloat16" else ""
    return f"{row['models']['server']}, SHA-256 {server['weights']}{precision}"


def _server(rows: Rows) -> dict[str, str]:
    """The server that all of these rows share."""
    return next(iter(rows.values()))["run"]["server"]


def _setting(cell: FrameCell) -> str:
    """The first columns of a line."""
    return f"| {cell.method} | {cell.gamma:g} | {cell.rho:g} | {_ber(cell):g} | {cell.design_ber:g} "


def _ber(cell: FrameCell) -> float:
    """μ; of the clean cell 0."""
    return float(cell.value("ber") or 0.0)


def _order(cell: FrameCell) -> tuple:
    return _ber(cell), cell.rho, cell.method, cell.gamma, cell.design_ber


def _section(title: str, lines: list[str]) -> list[str]:
    return ["", title, "", *lines] if len(lines) > 2 else []


def write_table(path: Path, lines: list[str]) -> None:
    """Writes a page of Markdown and prints where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(path)


def main(data: Measured) -> None:
    """Writes NAME.md of all rows over a binary symmetric channel."""
    run_of = data.run()
    samples, out = samples_of(run_of.images().examples), run_of.out
    rows_found = [row for path in (*run_of.known, out) for row in rows_of(path)]
    servers: dict[str, Rows] = {}
    for row in rows_found:
        if isinstance(cell := cell_of(row), FrameCell):
            servers.setdefault(_title(row), {})[cell] = row
    run = rows_found[0]["run"]
    lines = [
        f"# {run['data']}, {run['only']}: {run['images']} images",
        "",
        f"Device: {run['device']['model']}, SHA-256 {run['device']['weights']}. Seed {run['seed']}.",
        f"Written by `python -m experiments tables {data.name}` from [{out.name}]({out.name}), which has the",
        "command, versions and machine of each row. A codec has as many bits in all as the frame of that ρ,",
        "all of them exposed to errors; of a frame only the payload is. Lost: files that could not be decoded.",
        "Differences are in points of accuracy, on the same images. The 95 % intervals of independent images are",
        "Wilson's; those of images that share objects, and of differences, are the bootstrap's.",
    ]
    released = {_server(rows)["model"]: rows for title, rows in servers.items() if not title.startswith(KIND)}
    for title, rows in servers.items():
        lines += ["", f"## Server: {title}", "", *_accuracies(rows)]
        beside = _differences(_beside_iaq(rows), samples, "IAQ is ahead by")
        lines += _section("### Incremental IAQ, designed for no errors, beside everything else", beside)
        better = _differences(_beside_released(rows, released[_server(rows)["model"]]), samples, "ahead by")
        lines += _section("### Beside the same model as it came, at equal bits", better)
    write_table(out.with_suffix(".md"), lines)
