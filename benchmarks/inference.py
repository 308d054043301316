"""Inference engines on this CPU: which is the fastest, and whether it names the same classes as timm's forward.

python -m benchmarks.inference. What was measured with ONNX Runtime and torch.compile is in docs/performance.md.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from timm.models import VisionTransformer
from torch import Tensor

from benchmarks.tables import RHO, cat, medians, show
from benchmarks.timing import take_turns
from semlink.source.iaq import coder as iaq
from semlink.vision.engines import Answer, load_engine
from semlink.vision.images import IMAGE_SIZE, model_pixels, open_image
from semlink.vision.openvino_graph import openvino_graph
from semlink.vision.photos import find_photos
from semlink.vision.vit import load_vit, normalise
from semlink.vision.weights import DEVICE_MODEL, SERVER_MODEL

ROUNDS = 10
CASES: list[tuple[str, Answer, int, int]] = [
    (DEVICE_MODEL, "attention", 1, 1),
    (DEVICE_MODEL, "attention", 1, 2),
    (SERVER_MODEL, "logits", 1, 2),
    (SERVER_MODEL, "logits", 8, 2),
]
"""Model, what is wanted of it, images at once, threads."""
PHOTOS = Path("imagenet-sample-1000/images")
INSTEAD = ["astronaut", "chelsea", "coffee", "rocket", "motorcycle_left", "hubble_deep_field", "retina"]
TIMM, CHOSEN, BFLOAT16 = "timm's forward", "OpenVINO", "OpenVINO, bfloat16"

Way = Callable[[Tensor], Tensor]


def run(rounds: int = ROUNDS) -> dict[str, dict]:
    """Times every way of a case in turns, then recognises the photos in each way; prints tables.

    Returns:
        `milliseconds` and `ratios` to timm's whole forward (medians) and `start_seconds`, by case and way;
        `agreement`: for how many photos each way names timm's class, or gives every patch the bits that torch's
        attention gives.
    """
    kept = torch.get_num_threads()
    results: dict[str, dict] = {"milliseconds": {}, "ratios": {}, "start_seconds": {}, "agreement": {}}
    pixels = cat()
    for name, answer, batch, threads in CASES:
        model = load_vit(name).requires_grad_(False)
        images = normalise(model, np.stack([np.roll(pixels, 8 * shift, axis=1) for shift in range(batch)]))
        case = f"{name}, {answer}, batch {batch}, {threads} threads"
        makers = _makers(model, answer, threads)
        ways, results["start_seconds"][case] = _ready(makers, images.shape, threads)
        seconds = take_turns({way: partial(run, images) for way, run in ways.items()}, rounds)
        results["milliseconds"][case] = medians(seconds)
        results["ratios"][case] = {way: float(np.median(seconds[TIMM] / each)) for way, each in seconds.items()}
        ratios, starts = results["ratios"][case], results["start_seconds"][case]
        show(
            f"{case}, medians",
            ("ms", "× timm's forward", "start s"),
            [
                (way, f"{value:.1f}", f"{ratios[way]:.2f}", f"{starts[way]:.1f}")
                for way, value in results["milliseconds"][case].items()
            ],
        )
    torch.set_num_threads(kept)
    for name, answer in dict.fromkeys((name, answer) for name, answer, _, _ in CASES):
        results["agreement"][f"{name}, {answer}"] = _agreement(name, answer)
    return results


def _makers(model: VisionTransformer, answer: Answer, threads: int) -> dict[str, Callable[[], Way]]:
    """Every way that can be had here."""
    makers: dict[str, Callable[[], Way]] = {
        CHOSEN: lambda: load_engine(
            "openvino", model, answer, threads=threads, batch=1 if answer == "attention" else None
        ),
        BFLOAT16: lambda: _openvino_bfloat16(model, answer, threads),
        "torch": lambda: load_engine("torch", model, answer, threads=threads),
        TIMM: lambda: load_engine("torch", model, "logits", threads=threads),
    }
    if answer == "logits":
        del makers["torch"]  # the same thing
    return makers


def _ready(
    makers: dict[str, Callable[[], Way]], shape: torch.Size, threads: int
) -> tuple[dict[str, Way], dict[str, float]]:
    """The ways, having answered once, and how long each took until then, in seconds."""
    ways: dict[str, Way] = {}
    seconds: dict[str, float] = {}
    for name, make in makers.items():
        torch.set_num_threads(threads)
        started = time.perf_counter()
        ways[name] = make()
        ways[name](torch.zeros(shape))
        seconds[name] = time.perf_counter() - started
    torch.set_num_threads(threads)  # OpenVINO's engine left torch one
    return ways, seconds


def _openvino_bfloat16(model: VisionTransformer, answer: Answer, threads: int) -> Way:
    import openvino

    graph = openvino_graph(model, answer, None)
    settings = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(graph, "CPU", settings).create_infer_request()
    return lambda images: torch.from_numpy(request.infer([images.numpy()], share_inputs=True)[0])


def _agreement(name: str, answer: Answer) -> dict[str, int]:
    """In how many photos OpenVINO's outcome is torch's: the likeliest class, or the bits of every patch."""
    folder = Path("data") / PHOTOS
    photos = find_photos([str(folder)] if folder.is_dir() else INSTEAD)
    model = load_vit(name).requires_grad_(False)
    threads = torch.get_num_threads()
    right = "torch" if answer == "attention" else TIMM
    makers = {
        way: make for way, make in _makers(model, answer, threads).items() if way in (right, CHOSEN, BFLOAT16)
    }
    ways, _ = _ready(makers, torch.Size((1, 3, IMAGE_SIZE, IMAGE_SIZE)), threads)
    wanted = ways.pop(right)
    counts = dict.fromkeys(ways, 0)
    for photo in photos:
        pixels = model_pixels(open_image(photo))
        images = normalise(model, pixels[None])
        outcome = _outcome(wanted(images), pixels, answer)
        for way, run_ in ways.items():
            counts[way] += np.array_equal(_outcome(run_(images), pixels, answer), outcome)
    there = folder.is_dir()
    of = f"{len(photos)} photos" if there else f"{len(photos)} photographs of scikit-image ({folder} is not here)"
    same = "the bits of every patch" if answer == "attention" else "the likeliest class"
    title = f"{name}: {same} as of torch in float32, of {of}"
    show(title, ["the same"], [(way, str(count)) for way, count in counts.items()])
    return {"photos": len(photos), **counts}


def _outcome(answer: Tensor, pixels: np.ndarray, kind: Answer) -> np.ndarray:
    if kind == "attention":
        return iaq.encode(pixels, answer[0].numpy(), rho=RHO).frame.bits
    return answer.argmax(1).numpy()


if __name__ == "__main__":
    run()
