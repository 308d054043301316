"""Counterparts of transformer-aided selection, Fig. 6 to 10: masked error and accuracy against the rate r.

Mortaheb et al., arXiv 2405.01521. The paper has DINO's ViT-S/8 at 480 x 320 pixels and sends tokens as they are;
here it is DeiT-Tiny at 224 x 224, fine-tuned on the set's classes, with quantized tokens, and beside it, at equal
bits on air, IAQ, top-k and AVIF.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from experiments.accuracy import save
from experiments.data.image_sets import load_image_set
from experiments.evaluation.intervals import percent
from experiments.provenance import described
from experiments.transformer_aided_cells import (
    BASELINES,
    ORIGINAL,
    TOKENS,
    Cell,
    Pictures,
    gain,
    measure,
    seen_pictures,
    token_sender,
)
from semlink.vision.vit import TOKEN_BLOCKS

mpl.use("Agg")
RATES = (0.25, 0.5, 0.75, 1.0)
ALPHAS = (1.0, 0.85)
PAPER_ALPHA = 0.85
BITS = (2, 3, 4, 8)
EQUAL_BITS = ((2, 1.0), (3, 2 / 3), (4, 0.5), (6, 1 / 3), (8, 0.25))
"""Bits a value and rates r that take the same bits on air, up to the last token."""
MORE_ALPHAS = (0.0, 0.5)
FILLS = ("grey", "black", "decoder")
CAPTION = f"DeiT-Tiny, tokens behind block {TOKEN_BLOCKS}, 4 bits a value"
"""Caption of the pictures, beside the set's name."""
ON_ORIGINALS, ON_RECEIVED = "originals", "received"
"""Classifiers by what they were trained on: originals alone, and with loss (3) received pictures too."""
BESIDE_RATES = {"incremental": (0.25, 0.5), "top-k": (0.25, 0.5), "avif": (0.25,)}
"""Rates at whose bits on air the baselines are measured; with more bits AVIF, which is slow, only gets better."""
SHOWN = 6
"""Pictures of the counterpart of Fig. 7."""
Rows = Mapping[Cell, dict[str, Any]]


def main(data: Path, weights: Path, received: Path, out: Path, most_images: int, seed: int) -> None:
    """Measures what is missing, draws, and writes the table.

    Args:
        data: image set with a column split.
        weights: folder of the device's model, with token-decoder in it; also of the first classifier.
        received: folder of the classifier that was trained on received pictures.
        out: folder of rows, pictures and table.
        most_images: so many of the test images.
        seed: of the patches that are drawn at random.
    """
    test, _ = load_image_set(data).where("split=test")
    classifiers = {ON_ORIGINALS: weights, ON_RECEIVED: received}
    pictures = seen_pictures(test.at_most(most_images), weights, classifiers)
    name = f"transformer-aided-{data.name}"
    rows_file = out / f"{name}.jsonl"
    rows = measure(paper_cells(), pictures, seed, rows_file)
    others = [*beside_cells(), *(cell for cells in choices().values() for cell in cells if cell not in rows)]
    rows |= measure(others, pictures.judged_by(ON_ORIGINALS), seed, rows_file)
    _draw_errors(rows, out / f"{name}-figure6.png")
    _draw_pictures(pictures, seed, out / f"{name}-figure7.png")
    _draw_accuracies(rows, out / f"{name}-figure8-10.png")
    table = out / f"{name}.md"
    table.write_text(table_of(rows, pictures, data.name), encoding="utf-8")
    print(table)


def paper_cells() -> list[Cell]:
    """Originals, and every rate with both shares α; at r = 1 nothing is selected."""
    sent = [Cell(TOKENS, rate, alpha) for rate in RATES[:-1] for alpha in ALPHAS]
    return [Cell(ORIGINAL), *sent, Cell(TOKENS, 1.0, 1.0)]


def choices() -> dict[str, list[Cell]]:
    """What defaults are chosen by, by its name in the table."""
    return {
        "bits a value": [Cell(TOKENS, 0.5, PAPER_ALPHA, bits) for bits in (*BITS, None)],
        "bits a value, at equal bits on air": [Cell(TOKENS, rate, PAPER_ALPHA, bits) for bits, rate in EQUAL_BITS],
        "share α": [Cell(TOKENS, 0.25, alpha) for alpha in (*MORE_ALPHAS, *reversed(ALPHAS))],
        "what is painted where nothing was sent": [Cell(TOKENS, 0.25, PAPER_ALPHA, fill=fill) for fill in FILLS],
    }


def beside_cells() -> list[Cell]:
    """The baselines, at the bits on air of every rate."""
    return [Cell(way, rate) for way in BASELINES for rate in BESIDE_RATES[way]]


def of_paper(rate: float, alpha: float) -> Cell:
    """The cell of a rate; at r = 1 every α is the same."""
    return Cell(TOKENS, rate, 1.0 if rate == 1 else alpha)


def _draw_errors(rows: Rows, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(6, 4))
    for alpha, style in zip(ALPHAS, ("o-", "s--"), strict=True):
        line = [rows[of_paper(rate, alpha)] for rate in RATES]
        axes.errorbar(
            RATES,
            [row["masked_mse"] for row in line],
            [row["masked_mse_half_width"] for row in line],
            fmt=style,
            capsize=3,
            label=f"α = {alpha:g}",
        )
    axes.set_xlabel("rate r")
    axes.set_ylabel("squared error of the patches sent, pixels in [0, 1]")
    axes.set_ylim(bottom=0)
    axes.set_title(CAPTION)
    axes.legend()
    axes.grid(alpha=0.3)
    save(figure, path)


def _draw_accuracies(rows: Rows, path: Path) -> None:
    figure, panels = plt.subplots(1, 4, figsize=(17, 4.5), sharey=True)
    original = rows[Cell(ORIGINAL)]
    for axes, (title, alpha, classifier) in zip(
        panels,
        (
            ("Fig. 8: α = 1", 1.0, ON_ORIGINALS),
            ("Fig. 9: α = 0.85", PAPER_ALPHA, ON_ORIGINALS),
            ("Fig. 10: α = 0.85, fine-tuned", PAPER_ALPHA, ON_RECEIVED),
        ),
        strict=False,
    ):
        line = [rows[of_paper(rate, alpha)] for rate in RATES]
        _accuracy_line(axes, RATES, line, classifier, "o-", "transformer-aided")
        _clean(axes, original, classifier)
        axes.set_xlabel("rate r")
        axes.set_title(title)
    last = panels[-1]
    for classifier, style in ((ON_ORIGINALS, "o-"), (ON_RECEIVED, "o--")):
        line = [rows[of_paper(rate, PAPER_ALPHA)] for rate in RATES]
        name = "transformer-aided" + (", fine-tuned" if classifier == ON_RECEIVED else "")
        _accuracy_line(last, [row["bits"] / 1000 for row in line], line, classifier, style, name)
    for way in BASELINES:
        line = [rows[Cell(way, rate)] for rate in BESIDE_RATES[way]]
        name = {"incremental": "IAQ", "avif": "AVIF"}.get(way, way)
        _accuracy_line(last, [row["bits"] / 1000 for row in line], line, ON_ORIGINALS, "s:", name)
    _clean(last, original, ON_ORIGINALS)
    last.set_xlabel("thousand bits on air")
    last.set_title("at equal bits on air")
    last.legend(fontsize=8)
    panels[0].set_ylabel("top-1 accuracy, %")
    figure.suptitle(CAPTION)
    save(figure, path)


def _accuracy_line(axes: Axes, at: Any, line: list[dict], classifier: str, style: str, name: str) -> None:
    middle, low, high = zip(*(percent(row["by"][classifier]) for row in line), strict=True)
    axes.plot(at, middle, style, label=name, markersize=4)
    axes.fill_between(at, low, high, color=axes.lines[-1].get_color(), alpha=0.1, linewidth=0)
    axes.grid(alpha=0.3)


def _clean(axes: Axes, original: dict, classifier: str) -> None:
    clean = percent(original["by"][classifier])[0]
    axes.axhline(clean, color="grey", linewidth=1, linestyle=":", label="originals")


def _draw_pictures(pictures: Pictures, seed: int, path: Path) -> None:
    shown = np.linspace(0, len(pictures.examples) - 1, SHOWN).astype(int)
    wanted = [(f"r = {rate:g}", token_sender(of_paper(rate, PAPER_ALPHA), pictures)) for rate in (1.0, 0.5, 0.25)]
    senders: list[tuple[str, Callable[[int], Any]]] = [
        ("original", lambda number: pictures.pixels[number]),
        *((name, lambda number, send=send: send(number, seed)[0]) for name, send in wanted),
    ]
    figure, grid = plt.subplots(len(senders), SHOWN, figsize=(1.6 * SHOWN, 1.65 * len(senders)))
    for row, (name, painted) in zip(grid, senders, strict=True):
        row[0].set_ylabel(name)
        for axes, number in zip(row, shown, strict=True):
            axes.imshow(np.clip(np.rint(painted(int(number))), 0, 255).astype(np.uint8))
            axes.set_xticks([])
            axes.set_yticks([])
    figure.suptitle(CAPTION, fontsize=9)
    save(figure, path)


def table_of(rows: Rows, pictures: Pictures, name: str) -> str:
    """The table of all cells and of the paired differences, in Markdown."""
    original = rows[Cell(ORIGINAL)]
    lines = [
        f"# Transformer-aided selection on {name}",
        "",
        f"{len(pictures.examples)} test images, none trained on, over an error-free channel. The paper's full "
        "size, DINO's ViT-S/8 at 480 x 320 pixels, is not to be had; the encoder and both classifiers are "
        f"DeiT-Tiny, whose tokens are taken behind block {TOKEN_BLOCKS}, and the decoder has 0.28 GMAC. Bits on "
        "air count header and mask. Intervals are of 95 %; differences are paired. ON is a classifier trained on "
        "originals, RE the same one after fine-tuning with loss (3).",
        "",
        f"Seed {original['of']['seed']}. {described(original)}",
        "",
        "## Rates and shares (Fig. 6, 8 to 10)",
        "",
        _HEAD,
    ]
    lines += [_line(rows[cell], cell) for cell in paper_cells()]
    lines += ["", "| difference of accuracies, points | ON | RE |", "| --- | --- | --- |"]
    for rate in RATES[:-1]:
        pair = rows[of_paper(rate, PAPER_ALPHA)], rows[of_paper(rate, 1.0)]
        lines.append(
            f"| α = 0.85 less α = 1 at r = {rate:g} | "
            + " | ".join(_points(gain(*pair, (each, each), pictures)) for each in (ON_ORIGINALS, ON_RECEIVED))
            + " |"
        )
    lines += ["", "| RE less ON, points | α = 1 | α = 0.85 |", "| --- | --- | --- |"]
    for rate in RATES:
        rows_of_rate = [rows[of_paper(rate, alpha)] for alpha in ALPHAS]
        gains = [gain(row, row, (ON_RECEIVED, ON_ORIGINALS), pictures) for row in rows_of_rate]
        lines.append(f"| r = {rate:g} | " + " | ".join(map(_points, gains)) + " |")
    lines += ["", "## At equal bits on air", "", _HEAD]
    for rate in BESIDE_RATES["incremental"]:
        beside = [of_paper(rate, PAPER_ALPHA), *(cell for cell in beside_cells() if cell.rate == rate)]
        lines += [_line(rows[cell], cell) for cell in beside]
    for title, cells in choices().items():
        lines += ["", f"## Chosen by measurement: {title}", "", _HEAD]
        lines += [_line(rows[cell], cell) for cell in cells]
    return "\n".join(lines) + "\n"


_HEAD = (
    "| sent | r | α | bits a value | not sent | bits on air | masked squared error | ON, % | RE, % |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def _line(row: dict, cell: Cell) -> str:
    accuracies = [
        "{:.1f} ({:.1f} to {:.1f})".format(*percent(row["by"][name])) if name in row["by"] else ""
        for name in (ON_ORIGINALS, ON_RECEIVED)
    ]
    settings = ["", "", "", ""]
    if cell.way == TOKENS:
        bits = "unquantized" if cell.token_bits is None else str(cell.token_bits)
        settings = [f"{cell.rate:.3g}", f"{cell.alpha:g}", bits, cell.fill]
    error = "" if cell.way == ORIGINAL else f"{row['masked_mse']:.4f}"
    on_air = (
        "" if cell.way == ORIGINAL or (cell.way == TOKENS and cell.token_bits is None) else f"{row['bits']:.0f}"
    )
    return "| " + " | ".join([cell.way, *settings, on_air, error, *accuracies]) + " |"


def _points(measured: Mapping[str, float]) -> str:
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * measured[key] for key in ("difference", "low", "high")))
