"""Figures of the learned interface: PSNR and accuracy against SNR, ablations, and pictures as they arrive."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from experiments.accuracy import save
from experiments.evaluation.coded_link import CHANNEL_USES, KINDS, SNRS_DB, Kind
from experiments.learned_interface import ABLATED_CBR, CODED, Measurement, Point

NAMES = {
    "full": "learned interface",
    "split": "Split DeepJSCC",
    "no-ian": "without Importance-Aware Net",
    "no-interface-attention": "without interface attention",
    "avif-ldpc": "AVIF, LDPC, QAM",
    "webp-ldpc": "WebP, LDPC, QAM",
    "avif-capacity": "AVIF at capacity",
    "webp-capacity": "WebP at capacity",
}
STYLES = {
    "full": ("C0", "o-"),
    "split": ("C1", "s-"),
    "no-ian": ("C2", "^-"),
    "no-interface-attention": ("C3", "v-"),
    "avif-ldpc": ("C4", "x-"),
    "webp-ldpc": ("C5", "+-"),
    "avif-capacity": ("C4", ":"),
    "webp-capacity": ("C5", ":"),
}
CHANNELS = {"awgn": "AWGN", "rayleigh": "Rayleigh fading known to the receiver"}
COMPARED = ("full", "split", *CODED)
ABLATED = ("full", "no-ian", "no-interface-attention", "split")
PICTURES = 8
SHOWN = (("1/4", 20.0), ("1/24", 10.0))
"""Ratio and SNR of the pictures: those of the paper, and one where channel uses are few."""

Row = dict[str, Any]


def draw_all(measurement: Measurement, rows: list[Row], out: Path, name: str) -> None:
    """Writes NAME-figure5.png to NAME-figure8.png, as far as there are rows for them.

    Args:
        measurement: that the rows are of.
        rows: as `experiments.learned_interface.rows` gives them.
        out: folder.
        name: what the files' names begin with.
    """
    for number, channel in zip((5, 6), KINDS, strict=True):
        draw_ratios(
            [row for row in rows if row["channel"] == channel], channel, out / f"{name}-figure{number}.png"
        )
    draw_ablations(rows, out / f"{name}-figure7.png")
    draw_pictures(measurement, out / f"{name}-figure8.png")


def draw_ratios(rows: list[Row], channel: Kind, path: Path) -> None:
    """PSNR, and where there is one the accuracy, against SNR; a column for each channel bandwidth ratio."""
    quantities = [each for each in ("psnr", "accuracy") if any(row[each] for row in rows)]
    figure, panels = plt.subplots(
        len(quantities),
        len(CHANNEL_USES),
        figsize=(15, 4 * len(quantities)),
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    for line, quantity in zip(panels, quantities, strict=True):
        for axes, (cbr, uses) in zip(line, CHANNEL_USES.items(), strict=True):
            draw_lines(axes, [row for row in rows if row["cbr"] == cbr], COMPARED, quantity)
            axes.set_title(f"CBR {cbr}: {uses} symbols")
        line[0].set_ylabel("PSNR, dB" if quantity == "psnr" else "accuracy of a small CNN, %")
    panels[0, 0].legend(fontsize=7)
    figure.suptitle(f"{CHANNELS[channel]}; {_about(rows)}")
    save(figure, path)


def draw_ablations(rows: list[Row], path: Path) -> None:
    """PSNR against SNR at the ratio of the ablations, and below it by how much the whole network is ahead."""
    own = [row for row in rows if row["cbr"] == ABLATED_CBR and row["method"] in ABLATED]
    if not own:
        return
    figure, panels = plt.subplots(2, len(KINDS), figsize=(12, 8), sharex=True, sharey="row", squeeze=False)
    for column, channel in enumerate(KINDS):
        here = [row for row in own if row["channel"] == channel]
        draw_lines(panels[0, column], here, ABLATED, "psnr")
        panels[0, column].set_title(f"{CHANNELS[channel]}, CBR {ABLATED_CBR}")
        ahead = [row | {"psnr": row["ahead"]["psnr"]} for row in here if "ahead" in row]
        draw_lines(panels[1, column], ahead, ABLATED[1:], "psnr")
        panels[1, column].axhline(0, color="grey", linewidth=1)
    panels[0, 0].set_ylabel("PSNR, dB")
    panels[1, 0].set_ylabel(f"{NAMES['full']} is ahead by, dB")
    panels[0, 0].legend(fontsize=8)
    figure.suptitle(_about(own))
    save(figure, path)


def draw_lines(axes: Axes, rows: list[Row], methods: Iterable[str], quantity: str) -> None:
    """A line with its 95 % intervals for each method that has rows."""
    scale = 100 if quantity == "accuracy" else 1
    for method in methods:
        line = sorted((row for row in rows if row["method"] == method), key=lambda row: row["snr_db"])
        if not line or any(row[quantity] is None for row in line):
            continue
        colour, style = STYLES[method]
        at = [row["snr_db"] for row in line]
        middle, low, high = (
            scale * np.array([row[quantity][end] for row in line]) for end in ("mean", "low", "high")
        )
        axes.plot(at, middle, style, color=colour, label=NAMES[method], markersize=4, linewidth=1.5)
        axes.fill_between(at, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.set_xticks(SNRS_DB)
    axes.set_xlabel("SNR, dB")
    axes.grid(alpha=0.3)


def draw_pictures(measurement: Measurement, path: Path) -> None:
    """Pictures from all over the set, as they were and as every method shows them over AWGN, with their PSNR."""
    every = len(measurement.pixels)
    numbers = np.unique(np.linspace(0, every - 1, PICTURES).astype(np.int64))
    original = measurement.pixels[numbers]
    lines: list[tuple[str, NDArray[np.uint8]]] = [("original", original)]
    for cbr, snr_db in SHOWN:
        for method in ("full", "split", "avif-ldpc", "webp-ldpc"):
            if method in CODED or (method, "awgn") in measurement.links:
                shown = measurement.shown(Point(method, "awgn", cbr, snr_db), numbers)
                lines.append((f"{NAMES[method]}\nCBR {cbr}, {snr_db:g} dB", shown))
    size = (1.5 * len(numbers) + 1.5, 1.7 * len(lines))
    figure, panels = plt.subplots(len(lines), len(numbers), figsize=size, squeeze=False)
    for panel_line, (title, shown) in zip(panels, lines, strict=True):
        for axes, picture, sent in zip(panel_line, shown, original, strict=True):
            axes.imshow(picture, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            error = float(np.mean((picture.astype(float) - sent) ** 2))
            if error:
                axes.set_xlabel(f"{10 * np.log10(255**2 / error):.1f} dB", fontsize=7)
        panel_line[0].set_ylabel(title, fontsize=7)
    save(figure, path)


def _about(rows: list[Row]) -> str:
    """What the pictures are, and how large the networks and how long their training."""
    first = rows[0]
    trained = [row["networks"] for row in rows if row["method"] == "full"]
    sizes = ""
    if trained:
        source, access = trained[0]["source"], trained[0]["access"]
        sizes = (
            f"; source {source['size']}, {source['passes']} passes; "
            f"channel networks {access['size']}, {access['passes']} passes"
        )
    return f"{first['images']} pictures of {first['data']}, paired{sizes}"
