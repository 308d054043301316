"""Overhead of the link for one image, beside the two vision transformers, and what the device's shortcut saves.

python -m benchmarks.link
"""

import torch

from benchmarks.tables import RHO, cat, medians, show
from benchmarks.timing import take_turns
from semlink.source.iaq import coder as iaq
from semlink.source.registry import decode, read_frame
from semlink.vision.vit import class_attention, load_vit, normalise
from semlink.vision.weights import DEVICE_MODEL, SERVER_MODEL

ROUNDS = 60


def run(rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Times both ends and prints a table.

    Returns:
        `milliseconds` (medians) by step, and `ratios` to the vision transformer of the same end.
    """
    pixels = cat()
    device, server = load_vit(DEVICE_MODEL), load_vit(SERVER_MODEL)
    device_input, server_input = normalise(device, pixels[None]), normalise(server, pixels[None])
    attention = class_attention(device, device_input)[0].numpy()
    data = iaq.encode(pixels, attention, rho=RHO).frame.to_bytes()

    def forward(model: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return model(image)

    seconds = take_turns(
        {
            "DeiT-Tiny, timm's whole forward": lambda: forward(device, device_input),
            "DeiT-Tiny, only what attention needs": lambda: class_attention(device, device_input),
            "allocate + quantize + pack": lambda: iaq.encode(pixels, attention, rho=RHO).frame.to_bytes(),
            "DeiT-Small, timm's whole forward": lambda: forward(server, server_input),
            "unpack + dequantize + normalise": lambda: normalise(server, decode(read_frame(data))[None]),
        },
        rounds,
    )
    milliseconds = medians(seconds)
    tiny, short, encoding, small, decoding = milliseconds.values()
    ratios = {
        "device: allocate + quantize + pack / DeiT-Tiny forward": encoding / tiny,
        "device: only what attention needs / DeiT-Tiny forward": short / tiny,
        "server: unpack + dequantize + normalise / DeiT-Small forward": decoding / small,
    }
    show(
        f"One 224 x 224 image, ρ = {RHO}, {torch.get_num_threads()} threads, median of {rounds}",
        ["ms, or ratio"],
        [(name, f"{value:.3f}") for name, value in (milliseconds | ratios).items()],
    )
    return {"milliseconds": milliseconds, "ratios": ratios}


if __name__ == "__main__":
    run()
