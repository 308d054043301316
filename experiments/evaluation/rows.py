"""Rows of results as JSON lines: a row has the cell that was measured, what was measured, and by what run."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def rows_of(out: Path) -> Iterator[dict]:
    """Complete rows; an interrupted run may have left half a line."""
    if out.is_file():
        for line in out.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)


def append_row(out: Path, row: dict[str, Any]) -> None:
    """Writes a row, on a line of its own even where the last one was cut off."""
    cut_off = out.is_file() and not out.read_bytes().endswith(b"\n")
    with out.open("a", encoding="utf-8") as file:
        file.write("\n" * cut_off + json.dumps(row, allow_nan=False) + "\n")


def to_hex(correct: Sequence[bool]) -> str:
    """Whether each answer is correct: a bit each, in hexadecimal."""
    return np.packbits(np.asarray(correct, bool)).tobytes().hex()


def from_hex(correct: str, count: int) -> list[bool]:
    """Whether each of `count` answers is correct: the inverse of `to_hex`.

    Raises:
        ValueError: it is of another number of answers.
    """
    packed = np.frombuffer(bytes.fromhex(correct), np.uint8)
    if len(packed) != -(-count // 8):
        raise ValueError(f"{8 * len(packed)} bits can't say which of {count} answers are correct")
    return np.unpackbits(packed, count=count).astype(bool).tolist()
