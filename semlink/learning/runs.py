"""One evaluation run: from a folder of images to rows of results."""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from semlink.allocation.methods import Method
from semlink.learning.coders import CODECS, PROTECTED
from semlink.learning.evaluation import Link, Receiver, evaluate, grid, rows_of, tune_threshold
from semlink.learning.image_sets import load_image_set
from semlink.learning.prepared import open_prepared, prepare
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
    measured, others = load_image_set(data).where(only)
    if most_images is not None:
        measured = measured.at_most(most_images)
    out.parent.mkdir(parents=True, exist_ok=True)
    with Progress(console=Console(file=sys.stderr)) as progress:
        folder = prepare(measured.examples, DEVICE_MODEL, device_weights, cache, progress)
        thresholds = {}
        allocating = [Method(method) for method in methods if method not in codecs]
        if tuned := [method for method in allocating if method.has_threshold]:
            spread = np.linspace(0, len(others.examples) - 1, min(MOST_TUNING_IMAGES, len(others.examples)))
            chosen = tuple(others.examples[int(index)] for index in spread)
            attention = open_prepared(prepare(chosen, DEVICE_MODEL, device_weights, cache, progress)).attention
            thresholds = {
                (str(method), rho): tune_threshold(method, attention, rho) for method in tuned for rho in rhos
            }
        described = {
            "run": {
                "data": data.name,
                "only": only,
                "images": len(measured.examples),
                "device": _identity(DEVICE_MODEL, device_weights),
                "server": _identity(server_model, server_weights) + ", bfloat16" * bfloat16,
                "seed": seed,
            },
            **provenance(),
        }
        link = Link(folder, server_model, server_weights, bfloat16, seed)
        cells = grid(methods, rhos, gammas, bers, receivers, modified=modified, thresholds=thresholds)
        evaluate(cells, link, measured.examples, out, described, processes, progress)
    return [row for row in rows_of(out) if row["run"] == described["run"]]


def _identity(model: str, weights: Path | None) -> str:
    """A model and its weights, in words and by the beginning of their SHA-256."""
    found = find_weights(model, weights)
    origin = Origin(model, found, read_weights(found.path).kind)
    return f"{origin}, SHA-256 {hashlib.sha256(found.path.read_bytes()).hexdigest()[:12]}"
