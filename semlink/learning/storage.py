"""Small weights files: matrices in int8 with one scale a row, everything else in float16.

A matrix W is kept as int8 rows round(W/s) and float32 scales s = max|row|/127, as NAME and NAME.scale. Reading
multiplies them again. Files in float16 or float32 are read as well.
"""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

SCALE = ".scale"


def save_small(path: Path, state: dict[str, Tensor], classes: tuple[str, ...]) -> None:
    """Writes the weights of a model and the names of its classes; replaces `path` in one step."""
    stored: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if tensor.ndim < 2 or name in ("cls_token", "pos_embed"):
            stored[name] = tensor.half().contiguous()
            continue
        rows = tensor.flatten(1)
        scale = rows.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / 127
        stored[name] = (rows / scale[:, None]).round().to(torch.int8).reshape(tensor.shape).contiguous()
        stored[name + SCALE] = scale
    partial = path.with_suffix(".safetensors.partial")
    save_file(stored, partial, metadata={"classes": json.dumps(classes)})
    partial.replace(path)


def read_weights(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...] | None]:
    """Weights in float32, and the names of the classes where the file has them.

    Raises:
        SafetensorError: no safetensors file, or a damaged one.
        ValueError: the names of the classes are malformed.
    """
    with safe_open(path, framework="pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        described = (file.metadata() or {}).get("classes")
    state = {}
    for name, tensor in stored.items():
        if not name.endswith(SCALE):
            scale = stored.get(name + SCALE)
            values = tensor.float()
            state[name] = values if scale is None else values * scale.view(-1, *[1] * (values.ndim - 1))
    return state, None if described is None else tuple(map(str, json.loads(described)))
