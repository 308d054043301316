"""Profile of `semlink evaluate`: the share of the vision transformer in its CPU time.

python -m benchmarks.evaluation
"""

import tempfile
import time
from pathlib import Path

import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import Progress
from torch import Tensor

from benchmarks.tables import cat, show
from experiments.data.image_sets import Example
from experiments.data.prepared import prepare
from experiments.evaluation import evaluation
from experiments.evaluation.frame_cells import Found, FrameCell
from experiments.evaluation.run import Run
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.vision.weights import DEVICE_MODEL, SERVER_MODEL

IMAGES = 64
CELLS = [
    FrameCell(BinarySymmetricChannel(ber=ber), method, rho)
    for method in ("incremental", "water-filling", "fixed")
    for rho, ber in ((0.125, 0.0), (0.125, 0.05), (0.5, 0.05))
]


def run() -> dict[str, dict[str, float]]:
    """Measures cells of the IAQ family with cached attention, on one thread, and prints a table.

    Returns:
        `share`: of all CPU seconds, those of the forward pass, by server model.
    """
    threads = torch.get_num_threads()
    share = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "chelsea.png"
        Image.fromarray(cat()).save(path)
        with Progress(disable=True) as progress:
            prepared = prepare((Example(path, 0, {}),) * IMAGES, DEVICE_MODEL, None, folder, progress)
        for server in (DEVICE_MODEL, SERVER_MODEL):
            run = Run(data=folder, only="", out=folder / "rows.jsonl", cache=folder, server_model=server)
            share[server] = _share(run, prepared)
    torch.set_num_threads(threads)
    title = f"CPU time of {len(CELLS)} cells of {IMAGES} images spent in the vision transformer"
    show(title, ["%"], [(server, f"{100 * value:.1f}") for server, value in share.items()])
    return {"share": share}


def _share(run: Run, prepared: Path) -> float:
    evaluation._start(run, prepared)
    opened, probabilities_of = evaluation._worker[1:]
    inside = 0.0

    def timed(pixels: NDArray) -> Tensor:
        nonlocal inside
        began = time.process_time()
        found = probabilities_of(pixels)
        inside += time.process_time() - began
        return found

    evaluation._worker = (run, opened, timed)
    evaluation._measure(CELLS[0], Found(), list(range(evaluation.SHARD)))  # warm
    inside, started = 0.0, time.process_time()
    for cell in CELLS:
        for start in range(0, IMAGES, evaluation.SHARD):
            evaluation._measure(cell, Found(), list(range(start, start + evaluation.SHARD)))
    return inside / (time.process_time() - started)


if __name__ == "__main__":
    run()
