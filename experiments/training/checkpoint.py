"""The state of a training run on disk, so that an interrupted one goes on where it was."""

from pathlib import Path
from typing import Any

import structlog
import torch

log = structlog.get_logger(__name__)


def save_checkpoint(path: Path, options: Any, state: dict[str, Any]) -> None:
    """Writes tensors and plain values; replaces `path` in one step.

    Args:
        path: the file.
        options: of the run; only a run with the same ones goes on from here.
        state: what to keep.
    """
    partial = path.with_suffix(".partial")
    torch.save({"options": repr(options), **state}, partial)
    partial.replace(path)


def load_checkpoint(path: Path, options: Any) -> dict[str, Any] | None:
    """What `save_checkpoint` kept, or None where there is no such file or it is of a run with other options."""
    if not path.is_file():
        return None
    saved = torch.load(path, weights_only=True)
    if saved["options"] != repr(options):
        log.info("started anew", because="the checkpoint is of other options", checkpoint=str(path))
        return None
    log.info("resumed", checkpoint=str(path))
    return saved
