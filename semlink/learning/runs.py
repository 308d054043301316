"""One run: from a folder of images to rows of results."""

import hashlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from semlink.allocation.methods import Method
from semlink.learning.bsc_cells import Receiver, grid, tune_threshold
from semlink.learning.coders import CODECS, PROTECTED
from semlink.learning.evaluation import Cell, Link, evaluate
from semlink.learning.image_sets import ImageSet, load_image_set
from semlink.learning.ofdm_cells import OfdmCell, spread
from semlink.learning.prepared import open_prepared, prepare
from semlink.learning.rows import append_row, missing, rows_of
from semlink.learning.storage import read_weights
from semlink.provenance import provenance
from semlink.vit import Origin
from semlink.weights import DEVICE_MODEL, find_weights

MOST_TUNING_IMAGES = 200
"""Images on which thresholds are tuned, spread over those that are not measured on."""


def run_evaluation(
    data: Path,
    only: str,
    out: Path,
    methods: Sequence[str],
    rhos: Sequence[float],
    gammas: Sequence[float],
    bers: Sequence[float],
    receivers: Sequence[Receiver] = (Receiver.PLAIN,),
    *,
    modified: bool,
    most_images: int | None,
    device_weights: Path | None,
    server_model: str,
    server_weights: Path | None,
    bfloat16: bool,
    seed: int,
    processes: int,
    cache: Path,
) -> list[dict[str, Any]]:
    """Prepares images, tunes thresholds and measures the grid; see `semlink evaluate --help`.

    Returns:
        All rows of these images and models that `out` now holds, this run's and earlier ones'.

    Raises:
        ImageSetError: no such images.
        WeightsError: no usable weights.
        ModuleNotFoundError: an LDPC code is asked for, and sionna is not installed.
        ValueError: an unknown method, or a ratio or rate out of its range.
    """
    codecs = (*CODECS, *PROTECTED)
    unknown = [method for method in methods if method not in (*Method, *codecs)]
    if unknown:
        raise ValueError(f"method must be one of {', '.join((*Method, *codecs))}, not {unknown[0]!r}")
    if not all(0 < rho <= 1 for rho in rhos) or not all(0 <= ber < 1 for ber in bers):
        raise ValueError("rho must be within (0, 1], and ber within [0, 1)")
    tuned = {Method(method) for method in methods if method not in codecs and Method(method).has_threshold}
    thresholds = _thresholds(tuned, rhos, data, only, device_weights, cache) if tuned else {}
    return run_cells(
        grid(methods, rhos, gammas, bers, receivers, modified=modified, thresholds=thresholds),
        data,
        only,
        out,
        most_images=most_images,
        device_weights=device_weights,
        server_model=server_model,
        server_weights=server_weights,
        bfloat16=bfloat16,
        seed=seed,
        processes=processes,
        cache=cache,
    )


def run_cells(
    cells: Sequence[Cell],
    data: Path,
    only: str,
    out: Path,
    *,
    most_images: int | None,
    device_weights: Path | None,
    server_model: str,
    server_weights: Path | None,
    bfloat16: bool,
    seed: int,
    processes: int,
    cache: Path,
) -> list[dict[str, Any]]:
    """Prepares images and measures cells of any kind, as `run_evaluation` does those of its grid.

    Returns:
        All rows of these images and models that `out` now holds, this run's and earlier ones'.

    Raises:
        ImageSetError: no such images.
        WeightsError: no usable weights.
    """
    measured = _measured(data, only, most_images)
    with _progress() as progress:
        folder = prepare(measured.examples, DEVICE_MODEL, device_weights, cache, progress)
        run = {
            "data": data.name,
            "only": only,
            "images": len(measured.examples),
            "device": _identity(DEVICE_MODEL, device_weights),
            "server": _identity(server_model, server_weights) + ", bfloat16" * bfloat16,
            "seed": seed,
        }
        link = Link(folder, server_model, server_weights, bfloat16, seed)
        out.parent.mkdir(parents=True, exist_ok=True)
        evaluate(cells, link, measured.examples, out, {"run": run, **provenance()}, processes, progress)
    return [row for row in rows_of(out) if row["run"] == run]


def run_plans(
    cells: Sequence[OfdmCell],
    data: Path,
    only: str,
    out: Path,
    *,
    most_images: int | None,
    device_weights: Path | None,
    seed: int,
    cache: Path,
) -> list[dict[str, Any]]:
    """Prepares images and plans them, one channel an image, the one that `run_cells` would send it over.

    A row has the cell and T_d (`t_d_ms`, see `spread`); no image is sent, and no server asked.

    Returns:
        All such rows of these images and this device that `out` now holds, this run's and earlier ones'.

    Raises:
        ImageSetError: no such images.
        WeightsError: no usable weights.
    """
    measured = _measured(data, only, most_images)
    with _progress() as progress:
        folder = prepare(measured.examples, DEVICE_MODEL, device_weights, cache, progress)
        run = {
            "data": data.name,
            "only": only,
            "images": len(measured.examples),
            "device": _identity(DEVICE_MODEL, device_weights),
            "server": None,
            "seed": seed,
        }
        described = {"run": run, **provenance()}
        attention = open_prepared(folder).attention
        out.parent.mkdir(parents=True, exist_ok=True)
        for cell in progress.track(missing(cells, out, run), description="planning"):
            latencies = [cell.plan(scores, seed, image).t_d for image, scores in enumerate(attention)]
            append_row(out, cell, {"t_d_ms": spread(np.array(latencies) * 1e3)}, described)
    return [row for row in rows_of(out) if row["run"] == run]


def _measured(data: Path, only: str, most_images: int | None) -> ImageSet:
    measured, _ = load_image_set(data).where(only)
    return measured if most_images is None else measured.at_most(most_images)


def _thresholds(
    methods: Iterable[Method], rhos: Sequence[float], data: Path, only: str, weights: Path | None, cache: Path
) -> dict[tuple[str, float], float]:
    """Tuned thresholds by method and ρ."""
    _, others = load_image_set(data).where(only)
    spread_over = np.linspace(0, len(others.examples) - 1, min(MOST_TUNING_IMAGES, len(others.examples)))
    chosen = tuple(others.examples[int(index)] for index in spread_over)
    with _progress() as progress:
        attention = open_prepared(prepare(chosen, DEVICE_MODEL, weights, cache, progress)).attention
    return {(str(method), rho): tune_threshold(method, attention, rho) for method in methods for rho in rhos}


def _progress() -> Progress:
    return Progress(console=Console(file=sys.stderr))


def _identity(model: str, weights: Path | None) -> str:
    """A model and its weights, in words and by the beginning of their SHA-256."""
    found = find_weights(model, weights)
    origin = Origin(model, found, read_weights(found.path).kind)
    return f"{origin}, SHA-256 {hashlib.sha256(found.path.read_bytes()).hexdigest()[:12]}"
