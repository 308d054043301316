"""Measurement of the cells of a run: rows that exist are read, missing ones are measured."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from experiments.data.image_sets import Example
from experiments.data.prepared import open_prepared, prepare
from experiments.evaluation.cells import Cell, SentCell
from experiments.evaluation.evaluation import evaluate
from experiments.evaluation.frame_cells import tune_threshold
from experiments.evaluation.grid import cell_of
from experiments.evaluation.planned_cells import PlannedCell, spread
from experiments.evaluation.policies import evaluate_policies
from experiments.evaluation.policy_cells import PolicyCell
from experiments.evaluation.rows import append_row, rows_of
from experiments.evaluation.run import Run
from experiments.provenance import provenance
from semlink.decision.calibration import read_calibration
from semlink.vision.weights import DEVICE_MODEL

MOST_TUNING_IMAGES = 200
"""Images on which thresholds are tuned, spread over those that are not measured."""

AnyCell = TypeVar("AnyCell", bound=Cell)
Rows = dict[Cell, dict[str, Any]]
"""Rows of one run, by cell."""
Measurements = Iterator[tuple[AnyCell, dict[str, Any]]]
"""Cells as they are done, each with the fields that were measured."""


def measure_cells(run: Run, cells: Sequence[Cell]) -> Rows:
    """Measures the accuracy of cells of any kind.

    Returns:
        The row of each cell, in their order.

    Raises:
        ImageSetError: no such images, none to tune a threshold on, or the server's model has other classes.
        WeightsError: no usable weights.
        CalibrationError: the calibration can't be read, or a policy's target can't be met.
    """
    images = run.images()

    def measure(pending: Sequence[Cell], folder: Path, progress: Progress) -> Measurements[Cell]:
        examples = run.labelled(images).examples
        if sent := [cell for cell in pending if isinstance(cell, SentCell)]:
            yield from evaluate(run, examples, _tuning(run, progress), sent, folder, progress)
        if policies := [cell for cell in pending if isinstance(cell, PolicyCell)]:
            pixels = open_prepared(folder).pixels
            calibration = read_calibration(run.calibration)
            yield from evaluate_policies(run, calibration, examples, pixels, policies, progress)

    return _rows(run, cells, images.examples, measure, served=True)


def measure_plans(run: Run, cells: Sequence[PlannedCell]) -> Rows:
    """Plans every image for its channel, the one that `measure_cells` would send it over.

    A row has the cell and T_d (`t_d_ms`, see `spread`); no image is sent or classified.

    Returns:
        As `measure_cells`, of the rows without a server.

    Raises:
        ImageSetError: no such images.
        WeightsError: no usable weights.
    """
    return _rows(run, cells, run.images().examples, partial(_latencies, run.seed), served=False)


def measured(run: Run, *, served: bool = True) -> Rows:
    """All rows of a run that exist, by cell; of two of one cell, the first.

    Args:
        run: the run.
        served: those with a server's answers, or those of plans alone.
    """
    return _existing(run, run.key(len(run.images().examples), served=served))


def _existing(run: Run, key: dict[str, Any]) -> Rows:
    found: Rows = {}
    for path in (*run.known, run.out):
        for row in rows_of(path):
            if row["run"] == key and (cell := cell_of(row)) is not None:
                found.setdefault(cell, row)
    return found


def _rows(
    run: Run,
    cells: Sequence[AnyCell],
    examples: tuple[Example, ...],
    measure: Callable[[Sequence[AnyCell], Path, Progress], Measurements[AnyCell]],
    *,
    served: bool,
) -> Rows:
    """Rows of the cells; `measure` gets those without a row, and the folder of pixels and attention."""
    key = run.key(len(examples), served=served)
    found = _existing(run, key)
    if pending := [cell for cell in cells if cell not in found]:
        run.images().check_files()
        run.out.parent.mkdir(parents=True, exist_ok=True)
        with progress_bar() as progress:
            tokens = any(isinstance(cell, SentCell) and cell.takes_tokens for cell in pending)
            folder = prepare(examples, DEVICE_MODEL, run.device_weights, run.cache, progress, tokens=tokens)
            for cell, fields in measure(pending, folder, progress):
                row = {"cell": cell.settings, **fields, "run": key, "models": run.models(served=served)}
                append_row(run.out, row | provenance())
        found = _existing(run, key)
    return {cell: found[cell] for cell in cells}


def _latencies(
    seed: int, cells: Sequence[PlannedCell], prepared: Path, progress: Progress
) -> Measurements[PlannedCell]:
    attention = open_prepared(prepared).attention
    for cell in progress.track(cells, description="planning"):
        latencies = [cell.plan(scores, seed, image).t_d for image, scores in enumerate(attention)]
        yield cell, {"t_d_ms": spread(np.array(latencies) * 1e3)}


def _tuning(run: Run, progress: Progress) -> Callable[[str, float], float]:
    """Thresholds by method and ρ, each tuned when it is asked for: where all rows exist, none is."""

    @cache
    def attention() -> NDArray[np.float32]:
        others = run.others()
        spread_over = np.linspace(0, len(others.examples) - 1, min(MOST_TUNING_IMAGES, len(others.examples)))
        chosen = tuple(others.examples[int(index)] for index in spread_over)
        replace(others, examples=chosen).check_files()
        folder = prepare(chosen, DEVICE_MODEL, run.device_weights, run.cache, progress)
        return open_prepared(folder).attention

    return cache(lambda method, rho: tune_threshold(method, attention(), rho))


def progress_bar() -> Progress:
    """On standard error, so that standard output stays for results."""
    return Progress(console=Console(file=sys.stderr))
