"""Source decoders beside a DeiT-Small forward, for one picture: python -m benchmarks.decoders.

A server decodes a frame before its model looks at the picture. Decoders with networks should cost less than that
look; all ways take turns, at one thread and at two.
"""

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.tables import cat, medians, show
from benchmarks.timing import take_turns
from semlink.source.registry import Seen, SourceCoder, source_coders
from semlink.vision.engines import load_engine
from semlink.vision.vit import load_vit, normalise, tokens_and_attention
from semlink.vision.weights import DEVICE_MODEL, SERVER_MODEL, WeightsError

ROUNDS = 20
THREADS = (1, 2)
FORWARD = "DeiT-Small's forward, OpenVINO"


def run(rounds: int = ROUNDS) -> dict[str, dict]:
    """Times every coder's decoding of a frame, with the coder's own settings, and DeiT-Small's forward.

    Returns:
        `milliseconds` (medians) and `ratios` to the forward (medians of one over the other), by threads and way.
    """
    kept = torch.get_num_threads()
    results: dict[str, dict] = {"milliseconds": {}, "ratios": {}}
    for threads in THREADS:
        seconds = take_turns(_ways(threads), rounds)
        case = f"{threads} threads"
        results["milliseconds"][case] = medians(seconds)
        ratios = {way: float(np.median(each / seconds[FORWARD])) for way, each in seconds.items()}
        results["ratios"][case] = ratios
        show(
            f"{case}, one picture, medians",
            ("ms", "× the forward"),
            [(way, f"{value:.1f}", f"{ratios[way]:.2f}") for way, value in results["milliseconds"][case].items()],
        )
    torch.set_num_threads(kept)
    return results


def _ways(threads: int) -> dict[str, Callable[[], object]]:
    """Every way, by name; a coder whose models are missing is left out."""
    pixels = cat()
    server = load_vit(SERVER_MODEL)
    images = normalise(server, pixels[None])
    forward = load_engine("openvino", server, "logits", threads=threads)
    torch.set_num_threads(threads)  # OpenVINO's engine left torch one
    with_torch = load_engine("torch", server, "logits", threads=threads)
    device = load_vit(DEVICE_MODEL)
    tokens, attention = tokens_and_attention(device, normalise(device, pixels[None]))
    seen = Seen(tokens[0].numpy(), attention[0].numpy())
    ways: dict[str, Callable[[], object]] = {
        FORWARD: lambda: forward(images),
        "DeiT-Small's forward, torch": lambda: with_torch(images),
    }
    for coder in source_coders():
        try:
            if coder.load is not None:
                coder.load(None)
        except WeightsError as missing:
            print(f"{coder.flag} is left out: {missing}")
            continue
        ways[f"decoding, {coder.flag}"] = _decoding(coder, pixels, seen)
    return ways


def _decoding(coder: SourceCoder, pixels: np.ndarray, seen: Seen) -> Callable[[], object]:
    given = {"tokens": seen, "attention": seen.attention, "pixels": None}[coder.takes]
    frame = coder.encode(pixels, given).frame
    return lambda: coder.decode(frame)


if __name__ == "__main__":
    run()
