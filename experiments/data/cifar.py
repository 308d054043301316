"""CIFAR-10 and CIFAR-100 from their binary release (Krizhevsky 2009): records of labels and 32 x 32 pixels."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.data import ImageSetError

SIDE = 32
CIFAR_10_NAMES, CIFAR_100_NAMES = "batches.meta.txt", "fine_label_names.txt"
"""The file of class names, one a line, by which a folder is recognised."""
MAX_BYTES = 256 << 20
"""Of one file; the largest, CIFAR-100's train.bin, has 154 million."""


class Batch(NamedTuple):
    """Images of one file: its split, train or test; (N, 32, 32, 3) 8-bit RGB pixels; N labels."""

    split: str
    pixels: NDArray[np.uint8]
    labels: list[int]


def read_cifar(folder: Path) -> tuple[list[str], list[Batch]]:
    """Names of the classes, by label, and the images of a folder as it is published.

    Args:
        folder: cifar-10-batches-bin (batches.meta.txt, data_batch_1.bin to data_batch_5.bin, test_batch.bin), or
            cifar-100-binary (fine_label_names.txt, train.bin, test.bin; of its two labels the fine one).

    Raises:
        ImageSetError: a file is missing, too large or not of whole records, or a label has no name.
    """
    if (folder / CIFAR_100_NAMES).is_file():
        names, label_bytes, files = CIFAR_100_NAMES, 2, {"train.bin": "train", "test.bin": "test"}
    else:
        names, label_bytes = CIFAR_10_NAMES, 1
        files = {f"data_batch_{number}.bin": "train" for number in range(1, 6)} | {"test_batch.bin": "test"}
    lines = _read(folder / names).decode("latin1").splitlines()
    classes = [line.strip() for line in lines if line.strip()]
    if not classes or len(set(classes)) != len(classes):
        raise ImageSetError(f"{folder / names} must hold different names, one a line")
    batches = []
    for name, split in files.items():
        data = np.frombuffer(_read(folder / name), np.uint8)
        record = label_bytes + 3 * SIDE * SIDE
        if data.size == 0 or data.size % record:
            raise ImageSetError(f"{folder / name} must be records of {record} bytes; it has {data.size} bytes")
        records = data.reshape(-1, record)
        labels = records[:, label_bytes - 1].tolist()
        if max(labels) >= len(classes):
            raise ImageSetError(f"{folder / name}: label {max(labels)} has no name in {names}")
        pixels = records[:, label_bytes:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
        batches.append(Batch(split, pixels, labels))
    return classes, batches


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ImageSetError(f"{path} has {path.stat().st_size} bytes; at most {MAX_BYTES} are read")
        return path.read_bytes()
    except OSError as error:
        raise ImageSetError(f"{path} can't be read: {error.strerror}") from error
