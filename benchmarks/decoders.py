"""Source decoders beside a DeiT-Small forward, for one picture: python -m benchmarks.decoders.

A server decodes a frame before its model looks at the picture. Decoders with networks should cost less than that
look; all ways take turns, on one thread each.
"""

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.tables import cat, medians, show
from benchmarks.timing import take_turns
from semlink.source.learned.interface import BITS, SIDE, TOKENS
from semlink.source.learned.networks import folder_of, networks
from semlink.source.registry import Seen, SourceCoder, source_coders
from semlink.vision.engines import load_engine
from semlink.vision.vit import load_vit, normalise, tokens_and_attention
from semlink.vision.weights import DEVICE_MODEL, SERVER_MODEL, WeightsError

ROUNDS = 20
SEED = 0
FORWARD = "DeiT-Small's forward, OpenVINO"


def run(rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Times every coder's decoding of a frame, with the coder's own settings, and DeiT-Small's forward.

    Returns:
        `milliseconds` (medians) and `ratios` to the forward (medians of one over the other), by way.
    """
    kept = torch.get_num_threads()
    seconds = take_turns(_ways(), rounds)
    torch.set_num_threads(kept)
    milliseconds = medians(seconds)
    ratios = {way: float(np.median(each / seconds[FORWARD])) for way, each in seconds.items()}
    show(
        "One picture, one thread, medians",
        ("ms", "× the forward"),
        [(way, f"{value:.1f}", f"{ratios[way]:.2f}") for way, value in milliseconds.items()],
    )
    return {"milliseconds": milliseconds, "ratios": ratios}


def _ways() -> dict[str, Callable[[], object]]:
    """Every way, by name; a coder whose models are missing is left out."""
    pixels = cat()
    server = load_vit(SERVER_MODEL)
    images = normalise(server, pixels[None])
    forward = load_engine("openvino", server, "logits", threads=1)
    with_torch = load_engine("torch", server, "logits", threads=1)
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
    ways["learned demapper, torch"] = _demapping_with_torch(pixels)
    return ways


def _decoding(coder: SourceCoder, pixels: np.ndarray, seen: Seen) -> Callable[[], object]:
    given = {"tokens": seen, "attention": seen.attention, "pixels": None}[coder.takes]
    frame = coder.encode(pixels, given).frame
    return lambda: coder.decode(frame)


def _demapping_with_torch(pixels: np.ndarray) -> Callable[[], object]:
    """The network of the learned coder without OpenVINO, on as many random tiles as a picture has."""
    demapper = networks(folder_of(None)).demapper
    tiles = pixels.shape[0] * pixels.shape[1] // SIDE**2
    bits = torch.randint(2, (tiles, TOKENS, BITS), generator=torch.Generator().manual_seed(SEED)).float()
    return torch.inference_mode()(lambda: demapper(bits))


if __name__ == "__main__":
    run()
