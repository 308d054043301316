"""Checkpoints, model cards and mixed precision: what training runs share."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog
import torch

from experiments.provenance import provenance

log = structlog.get_logger(__name__)

WARM_UP = 0.05
"""Share of a run's steps in which the learning rate rises to its largest."""


def device_and_precision() -> tuple[torch.device, torch.autocast]:
    """Where to train, and the context manager for forward passes and losses.

    Where the hardware has bfloat16, it halves the time; elsewhere they are computed in float32.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    has_bfloat16 = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return device, torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16)


def learning_rate_share(step: int, steps: int) -> float:
    """Learning rate as a share of the largest: a short rise, then half a cosine down to zero."""
    return min(1.0, (step + 1) / max(1.0, WARM_UP * steps)) * (1 + math.cos(math.pi * min(1.0, step / steps))) / 2


def save_checkpoint(path: Path, options: Any, state: dict[str, Any]) -> None:
    """Writes the state of a run, so that an interrupted one can be resumed; replaces `path` in one step.

    Args:
        path: the file.
        options: of the run, and what its images are; only a run with the same ones resumes from it.
        state: tensors and plain values.
    """
    partial = path.with_suffix(".partial")
    torch.save({"options": repr(options), **state}, partial)
    partial.replace(path)


def load_checkpoint(path: Path, options: Any) -> dict[str, Any] | None:
    """What `save_checkpoint` wrote, or None where there is no such file or it is of another run."""
    if not path.is_file():
        return None
    saved = torch.load(path, weights_only=True)
    if saved["options"] != repr(options):
        log.info("started anew", because="the checkpoint is of other options or images", checkpoint=str(path))
        return None
    log.info("resumed", checkpoint=str(path))
    return saved


def write_card(weights: Path, options: Any, facts: dict[str, Any]) -> dict[str, Any]:
    """Writes a model card, NAME.json beside NAME.safetensors; returns its content.

    Args:
        weights: the weights file.
        options: dataclass of how it was trained; its `model` is the model's timm name.
        facts: data, accuracy and other fields of the card.
    """
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()}
    card = {"model": options.model, **facts, "options": plain, **provenance()}
    weights.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return card
