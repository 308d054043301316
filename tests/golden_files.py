"""Golden files: frames as bytes, NAME.bin, with what they decode to, NAME.npz."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest


def write_anew(
    request: pytest.FixtureRequest, folder: Path, cases: Iterable[tuple[str, bytes, dict[str, np.ndarray]]]
) -> None:
    """Writes the files and skips their tests, where --regenerate-golden says so; see tests/unit/test_golden.py.

    Args:
        request: of the fixture that calls this.
        folder: loses the files that it has.
        cases: name, frame and contents of each; not touched where nothing is to be written.
    """
    if not request.config.getoption("--regenerate-golden"):
        return
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.*"):
        old.unlink()
    for name, frame, contents in cases:
        (folder / f"{name}.bin").write_bytes(frame)
        np.savez_compressed(folder / f"{name}.npz", allow_pickle=False, **contents)
    pytest.skip("the golden files were written anew: look at what changed, then run without --regenerate-golden")


def assert_no_others(folder: Path, names: Iterable[str]) -> None:
    """The folder has the files of these cases, and no more."""
    wanted = {f"{name}.{kind}" for name in names for kind in ("bin", "npz")}
    assert {path.name for path in folder.iterdir() if path.is_file()} == wanted
