"""Small weights files: matrices in int8 with one scale a row, everything else in float16.

A matrix W is kept as int8 rows round(W/s) and float32 scales s = max|row|/127, as NAME and NAME.scale. Reading
multiplies them again. Files in float16 or float32 are read as well.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

SCALE = ".scale"


@dataclass(frozen=True, eq=False)
class Stored:
    """What a weights file holds.

    Attributes:
        state: weights in float32.
        classes: names of the classes; None where the file does not say.
        kind: how the weights were adapted, such as "link-trained"; empty for those that never saw the link.
    """

    state: dict[str, Tensor]
    classes: tuple[str, ...] | None
    kind: str


def save_small(path: Path, state: dict[str, Tensor], classes: tuple[str, ...], kind: str = "") -> None:
    """Writes the weights of a model, the names of its classes and its kind; replaces `path` in one step."""
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
    # The library's own files are for their owner alone, whatever the umask.
    partial.write_bytes(save(stored, metadata={"classes": json.dumps(classes), "kind": kind}))
    partial.replace(path)


def read_weights(path: Path) -> Stored:
    """Reads what `save_small` wrote, or any safetensors file of weights.

    Raises:
        SafetensorError: no safetensors file, or a damaged one.
        ValueError: the names of the classes are malformed.
    """
    with safe_open(path, framework="pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        described = file.metadata() or {}
    state = {}
    for name, tensor in stored.items():
        if not name.endswith(SCALE):
            scale = stored.get(name + SCALE)
            values = tensor.float()
            state[name] = values if scale is None else values * scale.view(-1, *[1] * (values.ndim - 1))
    classes = tuple(map(str, json.loads(described["classes"]))) if "classes" in described else None
    return Stored(state, classes, described.get("kind", ""))
