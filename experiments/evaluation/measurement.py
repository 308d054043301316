"""Measurement of the cells of a run: rows that exist are read, missing ones are measured."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from experiments.data.image_sets import Example, load_image_set
from experiments.data.prepared import open_prepared, prepare
from experiments.evaluation.bsc_cells import CLEAN, grid, tune_threshold
from experiments.evaluation.coders import CODECS, PROTECTED
from experiments.evaluation.evaluation import Cell, evaluate
from experiments.evaluation.ofdm_cells import OfdmCell, spread
from experiments.evaluation.rows import AnySetting, append_row, missing, rows_of
from experiments.evaluation.run import Run
from experiments.provenance import provenance
from semlink.source.iaq.allocation.methods import allocation_methods
from semlink.vision.weights import DEVICE_MODEL

MOST_TUNING_IMAGES = 200
"""Images on which thresholds are tuned, spread over those that are not measured."""


def measure_grid(
    run: Run,
    methods: Sequence[str],
    rhos: Sequence[float],
    gammas: Sequence[float],
    bers: Sequence[float],
    *,
    modified: bool,
) -> list[dict[str, Any]]:
    """Tunes thresholds and measures every combination over a binary symmetric channel; see `grid`.

    Returns:
        As `measure_cells`.

    Raises:
        ImageSetError: no such images.
        WeightsError: no usable weights.
        ModuleNotFoundError: an LDPC code is asked for, and sionna is not installed.
        ValueError: an unknown method, or a ratio or rate out of its range.
    """
    known = allocation_methods()
    named = (*known, *CODECS, *PROTECTED, CLEAN)
    unknown = [method for method in methods if method not in named]
    if unknown:
        raise ValueError(f"method must be one of {', '.join(named)}, not {unknown[0]!r}")
    if not all(0 < rho <= 1 for rho in rhos) or not all(0 <= ber < 1 for ber in bers):
        raise ValueError("rho must be within (0, 1], and ber within [0, 1)")
    tuned = [name for name, method in known.items() if name in methods and method.has_threshold]
    thresholds = _thresholds(run, tuned, rhos) if tuned else {}
    return measure_cells(run, grid(methods, rhos, gammas, bers, modified=modified, thresholds=thresholds))


def measure_cells(run: Run, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Measures the accuracy of cells of any kind.

    Returns:
        All rows of the run that `run.out` now holds, also those that were there, of other cells too.

    Raises:
        ImageSetError: no such images.
        WeightsError: no usable weights.
    """
    examples = run.images().examples
    return _rows(run, cells, examples, partial(evaluate, run, examples), served=True)


def measure_plans(run: Run, cells: Sequence[OfdmCell]) -> list[dict[str, Any]]:
    """Plans every image for its channel, the one that `measure_cells` would send it over.

    A row has the cell and T_d (`t_d_ms`, see `spread`); no image is sent or classified.

    Returns:
        As `measure_cells`, of the rows without a server.

    Raises:
        ImageSetError: no such images.
        WeightsError: no usable weights.
    """
    return _rows(run, cells, run.images().examples, partial(_latencies, run.seed), served=False)


def _rows(
    run: Run,
    cells: Sequence[AnySetting],
    examples: tuple[Example, ...],
    measure: Callable[[Sequence[AnySetting], Path, Progress], Iterable[tuple[AnySetting, dict[str, Any]]]],
    *,
    served: bool,
) -> list[dict[str, Any]]:
    """Rows of the run; `measure` gets the cells without a row, and the folder of pixels and attention."""
    key = run.key(len(examples), served=served)
    if pending := missing(cells, run.out, key):
        run.images().check_files()
        run.out.parent.mkdir(parents=True, exist_ok=True)
        with _progress() as progress:
            folder = prepare(examples, DEVICE_MODEL, run.device_weights, run.cache, progress)
            for cell, measured in measure(pending, folder, progress):
                described = {"run": key, "models": run.models(served=served), **provenance()}
                append_row(run.out, cell, measured, described)
    return [row for row in rows_of(run.out) if row["run"] == key]


def _latencies(
    seed: int, cells: Sequence[OfdmCell], prepared: Path, progress: Progress
) -> Iterator[tuple[OfdmCell, dict[str, Any]]]:
    attention = open_prepared(prepared).attention
    for cell in progress.track(cells, description="planning"):
        latencies = [cell.plan(scores, seed, image).t_d for image, scores in enumerate(attention)]
        yield cell, {"t_d_ms": spread(np.array(latencies) * 1e3)}


def _thresholds(run: Run, methods: Iterable[str], rhos: Sequence[float]) -> dict[tuple[str, float], float]:
    """Tuned thresholds by method and ρ."""
    _, others = load_image_set(run.data).where(run.only)
    spread_over = np.linspace(0, len(others.examples) - 1, min(MOST_TUNING_IMAGES, len(others.examples)))
    chosen = tuple(others.examples[int(index)] for index in spread_over)
    replace(others, examples=chosen).check_files()
    with _progress() as progress:
        folder = prepare(chosen, DEVICE_MODEL, run.device_weights, run.cache, progress)
    attention = open_prepared(folder).attention
    return {(method, rho): tune_threshold(method, attention, rho) for method in methods for rho in rhos}


def _progress() -> Progress:
    return Progress(console=Console(file=sys.stderr))
