"""Asking: accuracy against mean bits of a view, of the dialogue and the one-way link beside IAQ, top-k and codecs.

`semlink evaluate` measures the rows, the commands are in them; this draws and tabulates those that are there.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from experiments.accuracy import VIEWS, save
from experiments.classifiers import STAND_IN
from experiments.evaluation.cells import Cell
from experiments.evaluation.frame_cells import CLEAN
from experiments.evaluation.grid import cell_of
from experiments.evaluation.intervals import ANSWERS, difference, percent
from experiments.evaluation.policy_cells import PolicyCell
from experiments.evaluation.rows import from_hex, rows_of
from experiments.provenance import described
from experiments.study import RESULTS
from experiments.tables import write_table

SETS = {"imagenet-sample-1000": "single", "eth80": "four_view"}
"""Accuracy that is drawn, by image set."""
LINES = {
    "incremental": ("IAQ", "o-"),
    "top-k": ("top-k", "v-"),
    "webp-ldpc": ("WebP behind LDPC", "s:"),
    "avif-ldpc": ("AVIF behind LDPC", "D:"),
    "alone": ("one way, with opinion", "^--"),
    "ask": ("dialogue", "*-"),
}
"""Name and matplotlib's format of a line, by method."""

LINKS = (0.0, 0.0), (0.01, 0.01), (0.05, 0.05), (0.1, 0.1)
"""Bit error rates, and those that are told, of which earlier rows are drawn too."""
Measured = list[tuple[Cell, dict[str, Any]]]
"""Cells and their rows, of one image set and server."""


def measured(path: Path) -> dict[str, Measured]:
    """Rows of a file by the server's model."""
    found: dict[str, Measured] = {}
    for row in rows_of(path):
        if (cell := cell_of(row)) is not None:
            found.setdefault(row["run"]["server"]["model"], []).append((cell, row))
    return found


def total_bits(row: dict[str, Any]) -> float:
    """Mean of a view, both ways."""
    return float(row["bits"] + row.get("downlink_bits", 0))


def told(cell: Cell) -> tuple[float, float]:
    """Bit error rate of the channel, and the one that the protection is for."""
    ber = float(getattr(cell.channel, "ber", 0))
    design = getattr(cell.channel, "design_ber", None)
    return ber, ber if design is None else float(design)


def main(out: Path) -> None:
    """Draws and writes asking-SET.png and asking-SET.md of the rows in asking-SET.jsonl.

    Rows of IAQ, top-k and codecs that SET.jsonl has of the same images and server are beside them.
    """
    for name, views in SETS.items():
        source = next((path for path in (out, RESULTS) if (path / f"asking-{name}.jsonl").is_file()), None)
        if source is None:
            continue
        by_server = measured(source / f"asking-{name}.jsonl")
        earlier = measured(RESULTS / f"{name}.jsonl")
        for server, rows in by_server.items():
            images = rows[0][1]["run"]["images"]
            rows += [
                (cell, row)
                for cell, row in earlier.get(server, ())
                if cell.value("method") in LINES and row["run"]["images"] == images and told(cell) in LINKS
                if cell.value("gamma") == 1 and cell.value("design_ber") == 0
                if cell not in dict(rows)
            ]
            _draw(rows, views, f"{name}, server {_named(server)}", out / f"asking-{name}-{server}.png")
        lines = [f"# Bits and accuracy where a link asks: {name}", "", *_text(by_server, views)]
        write_table(out / f"asking-{name}.md", lines)


def _named(server: str) -> str:
    return f"{server}, a stand-in" if server == STAND_IN else server


def _draw(rows: Measured, views: str, title: str, path: Path) -> None:
    links = sorted({told(cell) for cell, _ in rows if cell.value("method") != CLEAN})
    figure, panels = plt.subplots(
        1, len(links), figsize=(4 * len(links), 5), sharex=True, sharey=True, squeeze=False
    )
    for axes, link in zip(panels[0], links, strict=True):
        here = [(cell, row) for cell, row in rows if told(cell) == link and cell.value("method") != CLEAN]
        _draw_link(axes, here, views)
        for _, row in ((cell, row) for cell, row in rows if cell.value("method") == CLEAN):
            axes.axhline(100 * row[views]["accuracy"], color="grey", linewidth=1, linestyle=":")
        ber, design = link
        axes.set_title(f"μ = {ber:g}" + (f", told {design:g}" if design != ber else ""))
        axes.set_xlabel("mean bits of a view, both ways")
    panels[0][0].set_ylabel(f"top-1 accuracy in %, {VIEWS[views]}")
    handles = {
        label: handle
        for axes in panels[0]
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), ncols=len(handles), fontsize=8, loc="outside lower center")
    figure.suptitle(title)
    save(figure, path)


def _draw_link(axes: Axes, rows: Measured, views: str) -> None:
    for number, (method, (label, style)) in enumerate(LINES.items()):
        here = [row for cell, row in rows if cell.value("method") == method]
        line = sorted((total_bits(row), *percent(row[views])) for row in here)
        if line:
            bits, middle, low, high = zip(*line, strict=True)
            axes.plot(bits, middle, style, color=f"C{number}", label=label, markersize=5, linewidth=1.5)
            axes.fill_between(bits, low, high, color=f"C{number}", alpha=0.08, linewidth=0)
    for _, row in _opinions_alone(rows):
        axes.plot(total_bits(row), percent(row[views])[0], "kP", label="device alone", markersize=9)
    axes.set_xscale("log")
    axes.grid(alpha=0.3)


def _opinions_alone(rows: Measured) -> Measured:
    """The dialogue in which nobody is asked."""
    return [(cell, row) for cell, row in rows if cell.value("method") == "ask" and row["pictures"] == 0]


def _text(by_server: dict[str, Measured], views: str) -> Iterable[str]:
    for server, rows in by_server.items():
        clean = next(row for cell, row in rows if cell.value("method") == CLEAN)
        yield from (
            f"## Server {_named(server)}",
            "",
            f"Undamaged pictures: {_interval(clean[views])} ({VIEWS[views]}). A true ratio counts bits of both",
            "ways; the last column is the difference to undamaged pictures, of single photos paired.",
            "",
            "| method | aims at | μ | told | accuracy | bits up | down | true ratio | pictures | beside clean |",
            "| --- " * 10 + "|",
        )
        for cell, row in sorted(rows, key=lambda each: _order(*each)):
            if (method := cell.value("method")) != CLEAN:
                ber, design = told(cell)
                pictures = f"{row['pictures']:.0%}" if "pictures" in row else ""
                yield (
                    f"| {LINES.get(method, (method,))[0]} | {_aim(cell)} | {ber:g} | {design:g} "
                    f"| {_interval(row[views])} | {row['bits']:,.0f} | {row.get('downlink_bits', 0):,.0f} "
                    f"| {row['true_ratio']:.4f} | {pictures} | {_beside(row, clean, views)} |"
                )
        last = [row for cell, row in rows if isinstance(cell, PolicyCell)][-1]
        yield from ("", f"The last dialogue: {described(last)}", "")


def _order(cell: Cell, row: dict[str, Any]) -> tuple[Any, ...]:
    method = cell.value("method")
    return (*told(cell), list(LINES).index(method) if method in LINES else len(LINES), row["bits"])


def _aim(cell: Cell) -> str:
    if isinstance(cell, PolicyCell):
        loss = cell.target_accuracy_loss
        return f"{cell.budget_bits:g} bits" if loss is None else f"{loss:g} points"
    return f"ρ = {cell.value('rho'):g}"


def _interval(measured: dict[str, Any]) -> str:
    return "{:.1f} ({:.1f} to {:.1f})".format(*percent(measured))


def _beside(row: dict[str, Any], clean: dict[str, Any], views: str) -> str:
    """In points with the interval; of photos, which are independent; of views their objects are not in the row."""
    first, second = row[ANSWERS[views]], clean[ANSWERS[views]]
    count = row[views]["images"]
    if views != "single" or row[views]["samples"] != count:
        return f"{100 * (row[views]['accuracy'] - clean[views]['accuracy']):+.1f}"
    samples = [str(number) for number in range(count)]
    gain = difference(from_hex(first, count), from_hex(second, count), samples)
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * gain[part] for part in ("difference", "low", "high")))
