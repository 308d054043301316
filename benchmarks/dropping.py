"""What it saves the server to look only at patches that have bits (`--drop-empty`), beside looking at all of them.

python -m benchmarks.dropping; what it costs in accuracy, `python -m experiments.receivers` measures.
"""

from functools import partial

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.timing import take_turns
from semlink.source.iaq import coder as iaq
from semlink.vision.engines import load_engine
from semlink.vision.images import model_pixels, open_image
from semlink.vision.photos import find_photos
from semlink.vision.vit import class_attention, load_vit, logits_of_patches, normalise
from semlink.vision.weights import DEVICE_MODEL, SERVER_MODEL

PHOTOGRAPHS = ["chelsea", "coffee", "astronaut", "rocket"]
RHOS = (1 / 16, 1 / 8, 1 / 4)
THREADS, ROUNDS = 2, 10
ALL, OPENVINO = "all patches, torch", "all patches, OpenVINO"


def run(rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Times the server's model on four photographs, one by one, and prints a table.

    Returns:
        By way `milliseconds` of one image (medians), `ratios` to all patches with torch, and the share of patches
        that were looked at (`kept`).
    """
    kept_threads = torch.get_num_threads()
    device, server = (load_vit(name).requires_grad_(False) for name in (DEVICE_MODEL, SERVER_MODEL))
    openvino = load_engine("openvino", server, "logits", threads=THREADS)
    torch.set_num_threads(THREADS)
    pixels = [model_pixels(open_image(path)) for path in find_photos(PHOTOGRAPHS)]
    images = [normalise(server, each[None]) for each in pixels]
    attention = [class_attention(device, normalise(device, each[None]))[0].numpy() for each in pixels]
    bits = {
        f"those with bits at ρ = 1/{1 / rho:.0f}, torch": [
            iaq.encode(each, scores, rho=rho).frame.bits for each, scores in zip(pixels, attention, strict=True)
        ]
        for rho in RHOS
    }

    def dropping(of_images: list[np.ndarray]) -> None:
        for image, kept in zip(images, of_images, strict=True):
            logits_of_patches(server, image, kept)

    with torch.inference_mode():
        seconds = take_turns(
            {
                ALL: lambda: [server(image) for image in images],
                OPENVINO: lambda: [openvino(image) for image in images],
                **{way: partial(dropping, each) for way, each in bits.items()},
            },
            rounds,
        )
    torch.set_num_threads(kept_threads)
    results = {
        "milliseconds": {way: 1e3 * float(np.median(each)) / len(images) for way, each in seconds.items()},
        "ratios": {way: float(np.median(seconds[ALL] / each)) for way, each in seconds.items()},
        "kept": {way: float(np.mean([each > 0 for each in of])) for way, of in bits.items()},
    }
    table = Table(title=f"{SERVER_MODEL}, one image, {THREADS} threads, medians", min_width=80)
    for column in ("", "patches", "ms", "× all, torch"):
        table.add_column(column, justify="right" if column else "left")
    for way, value in results["milliseconds"].items():
        share = results["kept"].get(way, 1.0)
        table.add_row(way, f"{share:.0%}", f"{value:.1f}", f"{results['ratios'][way]:.2f}")
    Console(width=110).print(table)
    return results


if __name__ == "__main__":
    run()
