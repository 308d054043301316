"""Accuracy of the whole link over a set of images: a grid of cells, each a method, a rate and a channel."""

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from semlink import iaq
from semlink.allocation.methods import Method, allocate
from semlink.learning.coders import CODECS, PROTECTED, Received, send_frame, send_picture
from semlink.learning.image_sets import Example
from semlink.learning.intervals import accuracy
from semlink.learning.ldpc import TARGET, Code, best_code
from semlink.learning.prepared import Prepared, open_prepared
from semlink.vit import IMAGE_SIZE, load_vit, logits_of_patches, normalise
from semlink.voting import majority_vote

SHARD = 32
"""Images of one task: large enough for the model to work in batches, small enough to share out evenly."""
BATCH = 16
VIEWS = 4
CLEAN = "clean"
"""The cell without any link: the model on the undamaged images."""


class Receiver(StrEnum):
    """What a server may do about damage, without more bits.

    `PLAIN` is the papers': cell centres, and a mid-grey patch where there are no bits. `POSTERIOR_MEAN` knows μ
    and takes the value to expect. `DROP_EMPTY` does not look at patches without bits.
    """

    PLAIN = "plain"
    POSTERIOR_MEAN = "posterior-mean"
    DROP_EMPTY = "drop-empty"
    BOTH = "posterior-mean+drop-empty"

    @property
    def takes_posterior_mean(self) -> bool:
        """Values are posterior means, not cell centres."""
        return self in (Receiver.POSTERIOR_MEAN, Receiver.BOTH)

    @property
    def drops_empty(self) -> bool:
        """Patches without bits are not looked at."""
        return self in (Receiver.DROP_EMPTY, Receiver.BOTH)


@dataclass(frozen=True)
class Cell:
    """One setting of the link.

    Attributes:
        method: an allocation method, a codec, a codec behind an LDPC code, or clean.
        rho: compression ratio ρ of the payload; a codec gets as many bits in all as the frame of this ρ has.
        gamma: shape of the weight function (31).
        ber: bit error rate μ of the channel.
        design_ber: bit error rate that the allocation assumes.
        threshold: of the methods that have one.
        receiver: what the server makes of a frame beside reading it.
    """

    method: str
    rho: float = 1.0
    gamma: float = 1.0
    ber: float = 0.0
    design_ber: float = 0.0
    threshold: float | None = None
    receiver: Receiver = Receiver.PLAIN


@dataclass(frozen=True)
class Link:
    """What all cells of a run share.

    Attributes:
        prepared: folder of pixels and attention.
        server_model: timm name of the server's model.
        server_weights: folder to look in first.
        bfloat16: the server's model computes in bfloat16, not float32.
        seed: of the channel. Cells of one seed meet the same errors image by image, so that they can be paired.
    """

    prepared: Path
    server_model: str
    server_weights: Path | None
    bfloat16: bool
    seed: int


def grid(
    methods: Iterable[str],
    rhos: Iterable[float],
    gammas: Iterable[float],
    bers: Iterable[float],
    receivers: Iterable[Receiver] = (Receiver.PLAIN,),
    *,
    modified: bool,
    thresholds: Mapping[tuple[str, float], float],
) -> list[Cell]:
    """Every combination, each once, and the clean cell.

    Args:
        methods: names of allocation methods and codecs; a protected codec is the plain one where μ = 0.
        rhos: ratios ρ.
        gammas: shapes γ, for the methods that weigh.
        bers: bit error rates μ of the channel.
        receivers: what the server does; of codecs all are plain.
        modified: adds the paper's modified methods, which know μ.
        thresholds: by method and ρ, for the methods that have one.
    """
    cells: dict[Cell, None] = {Cell(CLEAN): None}
    for method, rho, gamma, ber, receiver in itertools.product(methods, rhos, gammas, bers, receivers):
        weighs = method in (Method.INCREMENTAL, Method.WATER_FILLING)
        threshold = thresholds.get((method, rho))
        sent = Cell(method, rho, gamma if weighs else 1.0, ber, threshold=threshold)
        cells[replace(sent, receiver=_matters(receiver, sent))] = None
        if modified and weighs and ber > 0:
            cells[replace(sent, design_ber=ber, receiver=receiver)] = None
    return list(cells)


def _matters(receiver: Receiver, cell: Cell) -> Receiver:
    """The plainest receiver that does the same in this cell."""
    if cell.method not in list(Method):
        return Receiver.PLAIN
    if cell.ber == 0:  # the posterior mean is the cell's centre
        return Receiver.DROP_EMPTY if receiver.drops_empty else Receiver.PLAIN
    return receiver


def tune_threshold(method: Method, attention: NDArray, rho: float) -> float:
    """The threshold at which a method spends ρ on average over images (IAQ, Section V), by bisection.

    Args:
        method: attention-threshold or attention-sum-threshold.
        attention: (B, N) attention of images that are not measured on.
        rho: wanted mean compression ratio of the payload.
    """

    def mean_rho(threshold: float) -> float:
        bits = [allocate(method, scores, 0, threshold=threshold) for scores in attention]
        return float(np.mean(bits)) / iaq.MAX_BITS

    low, high = 0.0, 1.0
    rises = method == Method.ATTENTION_SUM_THRESHOLD
    for _ in range(30):
        middle = (low + high) / 2
        if (mean_rho(middle) < rho) == rises:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def evaluate(
    cells: Sequence[Cell],
    link: Link,
    examples: Sequence[Example],
    out: Path,
    described: dict[str, Any],
    processes: int,
    progress: Progress,
) -> None:
    """Measures every cell that `out` does not hold yet, and appends a JSON row for each.

    A row has the cell, its accuracy with 95 % interval (`single`, over things; `four_view`, the majority over
    views of one object, where the manifest has groups of four), which images were answered correctly (`correct`, a
    bit each, in hexadecimal, so that cells can be compared image by image), the mean bits on the air with and
    without header, the share of pictures that could not be decoded, the share of payload bits that fell on the
    object, where there are masks, and the code of protected pictures (`code`); then `described`.

    Args:
        cells: what to measure.
        link: what they share.
        examples: the images, in the order in which they were prepared.
        out: JSON lines file.
        described: said in every row; rows that say otherwise are another run's and not taken for done.
        processes: how many work at once, each on one thread.
        progress: where to show how far it is.
    """
    done = {_key(asdict(Cell(**row["cell"])), row["run"]) for row in rows_of(out)}
    pending = [cell for cell in cells if _key(asdict(cell), described["run"]) not in done]
    shards = [list(range(start, min(start + SHARD, len(examples)))) for start in range(0, len(examples), SHARD)]
    task = progress.add_task("evaluating", total=len(pending) * len(shards))
    context = get_context("spawn")  # torch does not survive a fork
    with ProcessPoolExecutor(processes, context, initializer=_start, initargs=(link,)) as pool:
        for cell in pending:
            progress.update(task, description=f"{cell.method}, ρ = {cell.rho:g}, μ = {cell.ber:g}")
            code = best_code(_budget(cell), cell.ber) if cell.method in PROTECTED and cell.ber > 0 else None
            futures = {pool.submit(_measure, cell, code, shard): number for number, shard in enumerate(shards)}
            parts: list[dict[str, list]] = [{}] * len(shards)
            for future in as_completed(futures):
                parts[futures[future]] = future.result()
                progress.advance(task)
            seen = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            row = {"cell": asdict(cell)} | _summary(seen, examples) | {"code": _told(code)} | described
            _append(out, row)


def rows_of(out: Path) -> Iterator[dict]:
    """Rows that are whole; a run that was cut off may have left half a line."""
    if out.is_file():
        for line in out.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)


def _append(out: Path, row: dict) -> None:
    cut_off = out.is_file() and not out.read_bytes().endswith(b"\n")
    with out.open("a", encoding="utf-8") as file:
        file.write("\n" * cut_off + json.dumps(row, allow_nan=False) + "\n")


def _key(cell: dict, run: dict) -> str:
    return json.dumps([cell, run], sort_keys=True)


_worker: tuple[Link, Prepared, Any]


def _start(link: Link) -> None:
    global _worker
    torch.set_num_threads(1)
    _worker = (link, open_prepared(link.prepared), load_vit(link.server_model, weights=link.server_weights))


def _measure(cell: Cell, code: Code | None, images: list[int]) -> dict[str, list]:
    """What the server makes of some images in this cell."""
    link, prepared, model = _worker
    received = [_send(cell, code, prepared, image, link.seed) for image in images]
    labels: list[int] = []
    confidences: list[float] = []
    # Images that keep different numbers of tokens make no batch.
    drops = cell.receiver.drops_empty
    batch = 1 if drops else BATCH
    precision = torch.autocast("cpu", torch.bfloat16, enabled=link.bfloat16)
    with torch.inference_mode(), precision:
        for start in range(0, len(images), batch):
            chosen = received[start : start + batch]
            pixels = normalise(model, np.stack([each.pixels for each in chosen]))
            kept = chosen[0].bits_per_patch if drops else None
            logits = model(pixels) if kept is None else logits_of_patches(model, pixels, kept)
            best = logits.float().softmax(-1).max(-1)
            labels += best.indices.tolist()
            confidences += best.values.tolist()
    return {
        "label": labels,
        "confidence": confidences,
        "bits": [each.bits for each in received],
        "payload_bits": [0 if each.bits_per_patch is None else each.bits_per_patch.sum() for each in received],
        "object_bits": [
            np.nan if each.bits_per_patch is None else each.bits_per_patch @ prepared.cover[image]
            for each, image in zip(received, images, strict=True)
        ],
        "lost": [each.lost for each in received],
    }


def _budget(cell: Cell) -> int:
    """Bits of a picture on the air: those of a frame with its header."""
    return iaq.HEADER_BITS + int(8 * IMAGE_SIZE * IMAGE_SIZE * 3 * cell.rho)


def _told(code: Code | None) -> dict | None:
    return None if code is None else asdict(code) | {"rate": code.k / code.n, "target": TARGET}


def _send(cell: Cell, code: Code | None, prepared: Prepared, image: int, seed: int) -> Received:
    pixels, generator = prepared.pixels[image], np.random.default_rng((seed, image))
    if cell.method == CLEAN:
        return Received(pixels, 8 * pixels.size, None, lost=False)
    if cell.method in CODECS or cell.method in PROTECTED:
        codec = PROTECTED.get(cell.method, cell.method)
        return send_picture(pixels, codec, _budget(cell), cell.ber, generator, code)
    return send_frame(
        pixels,
        prepared.attention[image],
        cell.ber,
        generator,
        posterior=cell.receiver.takes_posterior_mean,
        method=cell.method,
        rho=cell.rho,
        gamma=cell.gamma,
        design_ber=cell.design_ber,
        threshold=cell.threshold,
    )


def _summary(seen: dict[str, NDArray], examples: Sequence[Example]) -> dict:
    correct = [label == example.label for label, example in zip(seen["label"], examples, strict=True)]
    image_bits = 8 * IMAGE_SIZE * IMAGE_SIZE * 3
    masked = np.isfinite(seen["object_bits"])
    on_masked = seen["payload_bits"][masked].sum()
    return {
        "single": accuracy(correct, [example.thing for example in examples]),
        "correct": np.packbits(correct).tobytes().hex(),
        "four_view": _four_view(seen, examples),
        "bits": float(seen["bits"].mean()),
        "rho": float(seen["payload_bits"].mean() / image_bits),
        "true_ratio": float(seen["bits"].mean() / image_bits),
        "object_share": float(seen["object_bits"][masked].sum() / on_masked) if on_masked else None,
        "lost": float(seen["lost"].mean()),
    }


def _four_view(seen: dict[str, NDArray], examples: Sequence[Example]) -> dict | None:
    """Accuracy of the majority of four views, over the groups of the manifest that have four."""
    groups: dict[tuple[str, str], list[int]] = {}
    for number, example in enumerate(examples):
        group = example.columns.get("group", "-1")
        if group != "-1":
            groups.setdefault((example.thing, group), []).append(number)
    whole = {key: members for key, members in groups.items() if len(members) == VIEWS}
    if not whole:
        return None
    correct = [
        majority_vote(seen["label"][members].tolist(), seen["confidence"][members]) == examples[members[0]].label
        for members in whole.values()
    ]
    return accuracy(correct, [thing for thing, _ in whole])
