"""Rows of results as JSON lines: each cell of a run is measured once, and found again by its settings."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import Field, asdict, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np


class Setting(Protocol):
    """A dataclass of the settings that a row is measured with."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


AnySetting = TypeVar("AnySetting", bound=Setting)


def rows_of(out: Path) -> Iterator[dict]:
    """Complete rows; an interrupted run may have left half a line."""
    if out.is_file():
        for line in out.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)


def missing(cells: Sequence[AnySetting], out: Path, run: dict[str, Any]) -> list[AnySetting]:
    """The cells without a row of this run."""
    measured = [row["cell"] for row in rows_of(out) if row["run"] == run]
    return [cell for cell in cells if not any(is_about(settings, cell) for settings in measured)]


def settings_of(cell: dict[str, Any]) -> dict[str, Any] | None:
    """A row's `cell` as cells are now; None if it is about a setting that is no more.

    There once were servers that took the posterior mean of each value, or left out the patches without bits. What
    all servers do was called the receiver "plain".
    """
    receiver = cell.get("receiver", "plain")
    return {name: value for name, value in cell.items() if name != "receiver"} if receiver == "plain" else None


def is_about(measured: dict[str, Any], cell: Setting) -> bool:
    """Whether a row's `cell` is this one. What it does not say, because it is older, was at its default."""
    settings = settings_of(measured)
    if settings is None or not settings.keys() <= {field.name for field in fields(cell)}:
        return False
    return type(cell)(**settings) == cell


def append_row(out: Path, cell: Setting, measured: dict[str, Any], described: dict[str, Any]) -> None:
    """Writes a row: the cell, the measured fields, and the fields that all rows of the run share, `run` first."""
    cut_off = out.is_file() and not out.read_bytes().endswith(b"\n")
    with out.open("a", encoding="utf-8") as file:
        row = {"cell": asdict(cell)} | measured | described
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
