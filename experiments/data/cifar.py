"""CIFAR-10 and CIFAR-100 from their Python pickles (Krizhevsky 2009), without running anything a pickle says.

A pickle is a program. Here its instructions are counted before it runs, and all it can make are lists, dicts,
tuples, strings and numbers: where NumPy's constructors are named, stand-ins keep what they were given, and any
other name is refused.
"""

import io
import pickle
import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.data.image_sets import ImageSetError

MAX_BYTES = 256 << 20
"""Of one file; the largest, CIFAR-100's train, has 155 million."""
MAX_INSTRUCTIONS = 2_000_000
MAX_RARE_INSTRUCTIONS = 1_000
"""Of instructions other than those that lists of strings and numbers need."""
SIDE = 32
LIST_INSTRUCTIONS = {
    *("MARK", "APPEND", "APPENDS", "BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE", "BINGET", "LONG_BINGET", "GET"),
    *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "BINSTRING", "SHORT_BINSTRING", "STRING"),
    *("BINUNICODE", "SHORT_BINUNICODE", "UNICODE", "BINBYTES", "SHORT_BINBYTES"),
}
ARRAY_NAMES = {
    *(("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")),
    ("numpy", "ndarray"),
}


@dataclass(frozen=True)
class Batch:
    """Images of one file: its split, train or test; (N, 32, 32, 3) 8-bit RGB pixels; N labels."""

    split: str
    pixels: NDArray[np.uint8]
    labels: list[int]


def read_cifar(folder: Path) -> tuple[list[str], list[Batch]]:
    """Names of the classes, by label, and the images of a folder as it is published.

    Args:
        folder: cifar-100-python (meta, train, test; of its labels the fine ones), or cifar-10-batches-py
            (batches.meta, data_batch_1 to data_batch_5, test_batch).

    Raises:
        ImageSetError: a file is missing, too large, no pickle of this form, or would run something.
    """
    if (folder / "meta").is_file():
        meta, names, labels = "meta", "fine_label_names", "fine_labels"
        files = {"train": "train", "test": "test"}
    else:
        meta, names, labels = "batches.meta", "label_names", "labels"
        files = {f"data_batch_{number}": "train" for number in range(1, 6)} | {"test_batch": "test"}
    classes = [_text(name) for name in _list(folder / meta, _read(folder / meta), names)]
    if not all(classes) or len(set(classes)) != len(classes):
        raise ImageSetError(f"{folder / meta}: {names} must be different names")
    batches = [_batch(folder / name, split, labels, len(classes)) for name, split in files.items()]
    return classes, batches


def _read(path: Path) -> dict[str, Any]:
    """The dict that a pickle holds, with strings as its keys; arrays as stand-ins.

    Raises:
        ImageSetError: no such file, more than MAX_BYTES, or anything else than such a dict.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ImageSetError(f"{path} has {path.stat().st_size} bytes; at most {MAX_BYTES} are taken")
        data = path.read_bytes()
    except OSError as error:
        raise ImageSetError(f"{path} can't be read: {error.strerror}") from error
    try:
        _check_instructions(data)
        content = _Reader(io.BytesIO(data), encoding="latin1").load()
    except Exception as error:  # the unpickler raises nearly anything when fed nonsense
        raise ImageSetError(f"{path} is no pickle of CIFAR: {error}") from error
    if not isinstance(content, dict):
        raise ImageSetError(f"{path} is no pickle of CIFAR: it holds no dict")
    return {_text(key): value for key, value in content.items()}


class _Array:
    """Stands in for a NumPy array while a pickle is read."""

    def __init__(self, *ignored: object) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        """Keeps (version, shape, element type, is in Fortran's order, bytes)."""
        self.state = state

    def rows(self, width: int) -> NDArray[np.uint8]:
        """(N, width) 8-bit values.

        Raises:
            ValueError: the array is none of such.
        """
        match self.state:
            case (
                int(),
                (int(count), int(columns)),
                _ElementType("u1" | "|u1"),
                False | 0,
                str() | bytes() as held,
            ):
                data = held.encode("latin1") if isinstance(held, str) else held
                if columns == width and len(data) == count * width:
                    return np.frombuffer(data, np.uint8).reshape(count, width)
        raise ValueError(f"an array must be N x {width} of uint8 in C's order")


class _ElementType:
    """Stands in for a NumPy dtype while a pickle is read."""

    __match_args__ = ("name",)

    def __init__(self, name: object = None, *ignored: object) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        """Ignores byte order and alignment: one byte has neither."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        if (module, name) in ARRAY_NAMES:
            return _Array
        if (module, name) == ("numpy", "dtype"):
            return _ElementType
        raise pickle.UnpicklingError(f"it names {module + '.' + name!r}")


def _check_instructions(data: bytes) -> None:
    """Bounds what a pickle can cost: each instruction makes little, but some of them nest or reserve memory."""
    rare = 0
    for count, (instruction, argument, _) in enumerate(pickletools.genops(data)):
        rare += instruction.name not in LIST_INSTRUCTIONS
        if count >= MAX_INSTRUCTIONS or rare > MAX_RARE_INSTRUCTIONS:
            raise ValueError("it has too many instructions")
        if instruction.name.endswith("PUT") and isinstance(argument, int) and argument > MAX_INSTRUCTIONS:
            raise ValueError("it reserves too much memory")


def _batch(path: Path, split: str, labels: str, classes: int) -> Batch:
    content = _read(path)
    held = content.get("data")
    try:
        if not isinstance(held, _Array):
            raise ValueError("data must be an array")
        pixels = held.rows(3 * SIDE * SIDE).reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    except ValueError as error:
        raise ImageSetError(f"{path}: {error}") from None
    given = _list(path, content, labels)
    if len(given) != len(pixels) or not all(type(label) is int and 0 <= label < classes for label in given):
        raise ImageSetError(f"{path}: {labels} must be {len(pixels)} whole numbers from 0 to {classes - 1}")
    return Batch(split, pixels, given)


def _list(path: Path, content: dict[str, Any], name: str) -> list[Any]:
    value = content.get(name)
    if not isinstance(value, list):
        raise ImageSetError(f"{path}: {name} must be a list")
    return value


def _text(value: object) -> str:
    """A string, which Python 2 wrote as bytes; nothing for what is neither."""
    if isinstance(value, bytes):
        return value.decode("latin1")
    return value if isinstance(value, str) else ""
