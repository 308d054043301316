"""Evaluation: accuracy of the whole link over an image set, for cells whose images travel one by one."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor

from experiments.classifiers import STAND_IN, load_classifier
from experiments.data.image_sets import Example, view_groups
from experiments.data.prepared import Prepared, open_prepared
from experiments.evaluation.cells import SentCell, Tuning
from experiments.evaluation.intervals import accuracy
from experiments.evaluation.rows import to_hex
from experiments.evaluation.run import Run
from semlink.decision.voting import majority_vote
from semlink.vision.images import IMAGE_SIZE
from semlink.vision.vit import load_vit, normalise

SHARD = 32
"""Images of one task: large enough for the model to work in batches, small enough to share out evenly."""
BATCH = 16
TIE_MARGINS = (1e-3, 1e-2)
"""Differences between the two largest class probabilities below which an answer is counted as near a tie."""

AnyCell = TypeVar("AnyCell", bound=SentCell)


def evaluate(
    run: Run,
    examples: Sequence[Example],
    tuning: Tuning,
    cells: Sequence[AnyCell],
    prepared: Path,
    progress: Progress,
) -> Iterator[tuple[AnyCell, dict[str, Any]]]:
    """Measures cells one after the other, each by all processes of the run.

    Args:
        run: models, precision, seed and processes.
        examples: the images, in the order in which they were prepared.
        tuning: gives the thresholds of the methods that have one.
        cells: what to measure.
        prepared: folder of pixels and attention.
        progress: progress bar.

    Yields:
        Each cell and the fields of its row:
            `single`, `four_view`: accuracy with 95 % interval over samples, of images and of majority votes over
                view groups, where the manifest has any.
            `correct`, `correct_votes`: which of them are correct, see `to_hex`; votes in order of `view_groups`.
            `near_ties`: how many answers have their two largest probabilities closer together than each of
                `TIE_MARGINS`. Another processor, which rounds differently, may change such answers.
            `bits`, `rho`, `true_ratio`: mean bits on the air; mean ratio of the payload, and of everything.
            `lost`: share of pictures that could not be decoded.
            `object_share`: share of the payload bits that fell on the object, where there are masks.
            And those of the cell's kind.
    """
    shards = [list(range(start, min(start + SHARD, len(examples)))) for start in range(0, len(examples), SHARD)]
    task = progress.add_task("evaluating", total=len(cells) * len(shards))
    context = get_context("spawn")  # torch does not survive a fork
    with ProcessPoolExecutor(run.processes, context, initializer=_start, initargs=(run, prepared)) as pool:
        for cell in cells:
            progress.update(task, description=cell.title)
            shared = cell.shared(tuning)
            futures = {pool.submit(_measure, cell, shared, shard): number for number, shard in enumerate(shards)}
            parts: list[dict[str, list]] = [{}] * len(shards)
            for future in as_completed(futures):
                parts[futures[future]] = future.result()
                progress.advance(task)
            seen = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            yield cell, _summary(seen, examples) | cell.fields(shared, seen)


_worker: tuple[Run, Prepared, Callable[[NDArray], Tensor]]


def _start(run: Run, prepared: Path) -> None:
    global _worker
    torch.set_num_threads(1)
    _worker = (run, open_prepared(prepared), _probabilities(run))


def _probabilities(run: Run) -> Callable[[NDArray], Tensor]:
    """What the server makes of (B, 224, 224, 3) pixels: (B, C) probabilities."""
    if run.server_model == STAND_IN:
        stand_in = load_classifier(STAND_IN)
        return lambda pixels: torch.from_numpy(stand_in.logits(pixels)).softmax(-1)
    model = load_vit(run.server_model, weights=run.server_weights)

    def of(pixels: NDArray) -> Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=run.bfloat16):
            probabilities: Tensor = model(normalise(model, pixels)).float().softmax(-1)
            return probabilities

    return of


def _measure(cell: SentCell, shared: Any, images: list[int]) -> dict[str, list]:
    """The server's answers to some images of this cell, and the bits that each cost."""
    run, prepared, probabilities_of = _worker
    received = [cell.send(shared, prepared, image, run.seed) for image in images]
    probabilities = [
        probabilities_of(np.stack([each.pixels for each in received[start : start + BATCH]]))
        for start in range(0, len(images), BATCH)
    ]
    best = torch.cat(probabilities).max(-1)
    first, second = torch.cat(probabilities).topk(2).values.T
    return {
        "label": best.indices.tolist(),
        "confidence": best.values.tolist(),
        "margin": (first - second).tolist(),
        "bits": [each.bits for each in received],
        "payload_bits": [
            each.payload_bits if each.bits_per_patch is None else each.bits_per_patch.sum() for each in received
        ],
        "object_bits": [
            np.nan if each.bits_per_patch is None else each.bits_per_patch @ prepared.cover[image]
            for each, image in zip(received, images, strict=True)
        ],
        "lost": [each.lost for each in received],
        **{name: [each.more[name] for each in received] for name in received[0].more},
    }


def _summary(seen: dict[str, NDArray], examples: Sequence[Example]) -> dict:
    correct = [label == example.label for label, example in zip(seen["label"], examples, strict=True)]
    groups = view_groups(examples)
    votes = _votes(seen, examples, groups)
    image_bits = 8 * IMAGE_SIZE * IMAGE_SIZE * 3
    masked = np.isfinite(seen["object_bits"])
    on_masked = seen["payload_bits"][masked].sum()
    return {
        "single": accuracy(correct, [example.sample for example in examples]),
        "correct": to_hex(correct),
        "four_view": accuracy(votes, [examples[first].sample for first, *_ in groups]) if groups else None,
        "correct_votes": to_hex(votes) if groups else None,
        "near_ties": {f"{margin:g}": int((seen["margin"] < margin).sum()) for margin in TIE_MARGINS},
        "bits": float(seen["bits"].mean()),
        "rho": float(seen["payload_bits"].mean() / image_bits),
        "true_ratio": float(seen["bits"].mean() / image_bits),
        "object_share": float(seen["object_bits"][masked].sum() / on_masked) if on_masked else None,
        "lost": float(seen["lost"].mean()),
    }


def _votes(seen: dict[str, NDArray], examples: Sequence[Example], groups: Sequence[list[int]]) -> list[bool]:
    """Whether the majority of each group is right."""
    return [
        majority_vote(seen["label"][members].tolist(), seen["confidence"][members]) == examples[members[0]].label
        for members in groups
    ]
