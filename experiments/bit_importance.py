"""Bit importance of the learned coder: ε of its interfaces, what flips of each level cost, λ, cost of coding.

Of every interface of the package, on pictures of 32 × 32 that no network was trained on:

- PSNR with bits as they are and flipped as the interface says, tenths of ε, mean importance 1 - 2ε of each level;
- mean squared error that flips of a twentieth of one level's bits add, level by level: measured, not learned.

Of the learned one also λ: the interface alone trained anew for a few steps, the networks as they are. And
processor time of a 224 × 224 picture beside a forward pass of the server's model in the same run, one thread.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from experiments.accuracy import save
from experiments.data.image_sets import ImageSet
from experiments.provenance import provenance
from experiments.tables import write_table
from experiments.training.checkpoint import device_and_precision
from experiments.training.learned_source import (
    INITIAL_MU,
    distribution,
    flipped,
    read_pixels,
    regularization,
    squared_error,
    straight_through,
)  # fmt: skip
from semlink.source.learned.coder import decode, encode
from semlink.source.learned.interface import BITS, LEVELS, PRETRAINED, TOKENS, Interface, to_bytes
from semlink.source.learned.networks import PACKAGED, Networks, networks
from semlink.vision.engines import load_engine
from semlink.vision.images import IMAGE_SIZE
from semlink.vision.vit import load_vit
from semlink.vision.weights import SERVER_MODEL

FLIPS = 0.05
"""Share of a level's bits that are flipped to see what it matters."""
STRENGTHS = (1.0, 30.0, 300.0, 3000.0, 30000.0)
"""λ of the sweep."""
SWEEP_STEPS, SWEEP_BATCH, SWEEP_RATE = 60, 32, 0.1
RUNS = 5
"""Of each timing; the least counts, since others use the processor too."""


def measure(data: ImageSet, seed: int) -> dict[str, Any]:
    """Rows of every interface of the package, of λ, and processor times."""
    with Progress() as progress:
        pixels = read_pixels(list(data.examples), progress)
    tiles = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
    found = {folder.name: networks(folder) for folder in sorted(PRETRAINED.iterdir()) if folder.is_dir()}
    return {
        "data": data.name,
        "pictures": len(tiles),
        "interfaces": {name: _interface(each, tiles, seed) for name, each in found.items()},
        "strengths": [_strength(found[PACKAGED], pixels, strength, seed) for strength in STRENGTHS],
        "processor_ms": _times(tiles),
    }


def _interface(chosen: Networks, tiles: NDArray[np.uint8], seed: int) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    bits = chosen.bits(tiles)
    clean = _errors(chosen, bits, tiles)
    damaged = _errors(chosen, bits ^ (generator.random(bits.shape) < chosen.interface.epsilon), tiles)
    added = []
    for positions in chosen.interface.levels():
        flat = bits.reshape(len(bits), -1).copy()
        flat[:, positions] ^= generator.random((len(bits), positions.size)) < FLIPS
        added.append(float((_errors(chosen, flat.reshape(bits.shape), tiles) - clean).mean()))
    return {
        "id": chosen.interface.id.hex(),
        "psnr_db": _psnr(clean),
        "psnr_db_flipped": _psnr(damaged),
        "epsilon": distribution(chosen.interface),
        "error_added_by_level": [round(value, 4) for value in added],
    }


def _errors(chosen: Networks, bits: NDArray[np.bool_], tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(B,) mean squared error of each picture, 8-bit pixels."""
    received = chosen.tiles(bits.astype(np.float32)).round()
    return np.square(received - tiles.astype(np.float32)).mean(axis=(1, 2, 3), dtype=np.float64)


def _psnr(errors: NDArray[np.float64]) -> float:
    return round(float((10 * np.log10(255**2 / np.maximum(errors, 1e-3))).mean()), 3)


def _strength(chosen: Networks, pixels: NDArray[np.uint8], strength: float, seed: int) -> dict[str, Any]:
    """ε after some steps from the start that training has, the networks as they are."""
    generator = torch.Generator().manual_seed(seed)
    mu = torch.full((TOKENS, BITS), INITIAL_MU, requires_grad=True)
    optimizer = torch.optim.Adam([mu], SWEEP_RATE)
    _, precision = device_and_precision()
    for _ in range(SWEEP_STEPS):
        some = (
            torch.from_numpy(pixels[torch.randint(len(pixels), (SWEEP_BATCH,), generator=generator)]).float() / 255
        )
        draws = torch.rand((SWEEP_BATCH, TOKENS, BITS), generator=generator)
        with torch.no_grad(), precision:
            probabilities = chosen.mapper(some)
        epsilon = mu.sigmoid() / 2
        arrived = straight_through(flipped(probabilities, epsilon), draws)
        with precision:
            received = chosen.demapper(arrived)
        loss = squared_error(some, received) + strength * regularization(epsilon)
        (mu.grad,) = torch.autograd.grad(loss, [mu])
        optimizer.step()
    interface = Interface.from_bytes(to_bytes((mu.sigmoid() / 2).detach().numpy()))
    return {"strength": strength, **distribution(interface)}


def _times(tiles: NDArray[np.uint8]) -> dict[str, float]:
    """Processor milliseconds of a picture of 224 × 224, the least of some runs in turns."""
    side = IMAGE_SIZE // tiles.shape[1]
    image = np.concatenate(
        [np.concatenate(list(tiles[side * row : side * (row + 1)]), axis=1) for row in range(side)]
    )
    frame = encode(image).frame
    server = load_engine("torch", load_vit(SERVER_MODEL), "logits", threads=1)
    steps: dict[str, Callable[[], Any]] = {
        "encode": lambda: encode(image),
        "decode": lambda: decode(frame),
        SERVER_MODEL: lambda: server(torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE)),
    }
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(RUNS):
        for name, step in steps.items():
            start = time.process_time()
            step()
            taken[name].append(1000 * (time.process_time() - start))
    return {name: round(min(times), 1) for name, times in taken.items()}


def draw(measured: dict[str, Any], out: Path) -> None:
    """Left what the interfaces say of each level, right what its bits cost when they flip."""
    figure, (said, found) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    levels = np.arange(1, LEVELS + 1)
    for name, each in measured["interfaces"].items():
        said.plot(levels, each["epsilon"]["level_importance"], marker=".", label=name)
        found.semilogy(levels, each["error_added_by_level"], marker=".", label=name)
    said.set(xlabel="level", ylabel="mean of 1 - 2ε", title="Importance by the interface")
    found.set(xlabel="level", ylabel="mean squared error added", title=f"{FLIPS:.0%} of a level's bits flipped")
    said.legend()
    save(figure, out / "bit-importance.png")


def main(data: ImageSet, out: Path, seed: int) -> None:
    """Measures, and writes bit-importance.json, .md and .png."""
    measured, origin = measure(data, seed), provenance()
    (out / "bit-importance.json").write_text(json.dumps(measured | origin, indent=1) + "\n", encoding="utf-8")
    draw(measured, out)
    lines = [
        "# Importance of learned bits",
        "",
        f"{measured['pictures']} pictures of {measured['data']}, networks of size small. Written by",
        f"`{origin['command']}`; bit-importance.json beside it has versions and machine.",
        "",
        "| interface | PSNR, dB | with flips of ε | mean ε | least ε | median ε | largest ε |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, each in measured["interfaces"].items():
        tenths = each["epsilon"]["tenths"]
        lines.append(
            f"| {name} | {each['psnr_db']:.2f} | {each['psnr_db_flipped']:.2f} | {each['epsilon']['mean']:.4f} | "
            f"{tenths[0]:.2g} | {tenths[5]:.2g} | {tenths[-1]:.2g} |"
        )
    lines += [
        "",
        f"Mean squared error that flips of {FLIPS:.0%} of one level's bits add:",
        "",
        f"| interface | {' | '.join(str(level) for level in range(1, LEVELS + 1))} |",
        f"| --- |{' --- |' * LEVELS}",
    ]
    for name, each in measured["interfaces"].items():
        lines.append(f"| {name} | {' | '.join(f'{value:.2f}' for value in each['error_added_by_level'])} |")
    lines += [
        "",
        f"λ: the learned interface alone, trained anew from ε = 0.009 for {SWEEP_STEPS} steps of {SWEEP_BATCH}",
        "pictures, the networks as they are:",
        "",
        "| λ | mean ε | least | first tenth | median | last tenth | largest |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in measured["strengths"]:
        tenths = [row["tenths"][index] for index in (0, 1, 5, 9, 10)]
        lines.append(
            f"| {row['strength']:g} | {row['mean']:.4f} | {' | '.join(f'{each:.2g}' for each in tenths)} |"
        )
    lines += ["", "Processor time of a 224 × 224 picture on one thread, the least of runs in turns:", ""]
    lines += ["| step | ms |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in measured["processor_ms"].items()]
    write_table(out / "bit-importance.md", lines)
