"""Messages of one code block that show a picture of 32 x 32: WebP or AVIF of some side and quality, or one colour.

A message has k bits: its kind (3 bits), the bare file, a one, and zeros that fill it up, so that the receiver
finds the file's end. Where no file of the whole picture fits, it is scaled down and the receiver enlarges it; if
none of any size fits, one colour of 24 bits is sent. `measure_pictures` finds out once what each setting costs and
shows; for any number of bits the best of those that fit is then looked up.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments.evaluation.bare_files import bare, read, rebuilt, write

SIDE = 32
SIDES = (32, 24, 16, 12, 8)
"""Sides of the pictures that are sent, by their kind; one colour is the kind behind them."""
KIND_BITS, END_BITS, COLOUR_BITS = 3, 1, 24
QUALITIES = {
    32: range(0, 96, 3),
    24: range(0, 96, 8),
    16: range(0, 96, 12),
    12: range(0, 96, 24),
    8: range(0, 96, 48),
}
"""Qualities that are tried, by side."""
SETTINGS = [(side, quality) for side in SIDES for quality in QUALITIES[side]]
COLOUR = len(SETTINGS)
"""Number of the setting that is one colour."""
NOTHING = COLOUR + 1
"""Number of what is shown where no message arrives, or none fits: the mean colour of CIFAR-10."""
MEAN_COLOUR = (125, 123, 114)
"""Of the training pictures of CIFAR-10, which the receiver knows."""


@dataclass(frozen=True, eq=False)
class PictureTable:
    """Cost and effect of every setting, for every picture.

    Attributes:
        bits: (B, settings + 1) shortest message, the last column of one colour.
        errors: (B, settings + 2) mean squared error of what is shown, on the scale of 0 to 255; the last column is
            of a message that is lost.
    """

    bits: NDArray[np.int64]
    errors: NDArray[np.float64]

    def best(self, most_bits: int) -> NDArray[np.int64]:
        """(B,) the setting of least error among those that fit into a message; `NOTHING` where none does."""
        errors = np.where(self.bits <= most_bits, self.errors[:, :NOTHING], np.inf)
        chosen = errors.argmin(axis=1)
        return np.where(np.isinf(errors.min(axis=1)), NOTHING, chosen)


def pack(pixels: NDArray[np.uint8], codec: str, setting: int, length: int) -> NDArray[np.uint8]:
    """The message of a picture.

    Args:
        pixels: (32, 32, 3) 8-bit pixels.
        codec: webp or avif.
        setting: index into `SETTINGS`, or `COLOUR`.
        length: k, bits of the message.

    Returns:
        (k,) bits.

    Raises:
        ValueError: they are too few.
    """
    kind, data = _content(pixels, codec, setting)
    bits = np.unpackbits(np.frombuffer(bytes([kind << 5]) + data, np.uint8))
    used = np.concatenate([bits[:KIND_BITS], bits[8:], np.ones(END_BITS, np.uint8)])
    if used.size > length:
        raise ValueError(f"length: the message has {used.size} bits, more than {length}")
    return np.pad(used, (0, length - used.size))


def unpack(message: NDArray[np.uint8], codec: str) -> NDArray[np.uint8]:
    """(32, 32, 3) pixels that the receiver of a message shows.

    Raises:
        ValueError: it is no message of that codec.
    """
    kind, end = int(np.packbits(message[:KIND_BITS])[0]) >> 5, int(np.flatnonzero(message)[-1])
    return _shown(kind, np.packbits(message[KIND_BITS:end]).tobytes(), codec)


def shown_by(pixels: NDArray[np.uint8], codec: str, setting: int) -> NDArray[np.uint8]:
    """(32, 32, 3) pixels that the receiver of a picture's message shows; of `NOTHING`, without any message."""
    if setting == NOTHING:
        return np.broadcast_to(np.array(MEAN_COLOUR, np.uint8), pixels.shape).copy()
    return _shown(*_content(pixels, codec, setting), codec)


def measure_pictures(
    pixels: NDArray[np.uint8],
    codec: str,
    track: Callable[[Sequence[int]], Iterable[int]] = lambda numbers: numbers,
) -> PictureTable:
    """Writes and reads every picture with every setting.

    Args:
        pixels: (B, 32, 32, 3) 8-bit pixels.
        codec: webp or avif.
        track: shows the progress of going through the settings.
    """
    count = len(pixels)
    bits = np.empty((count, COLOUR + 1), np.int64)
    errors = np.empty((count, NOTHING + 1))
    for setting in track(range(COLOUR + 1)):
        shown = np.empty_like(pixels)
        for number, picture in enumerate(pixels):
            kind, data = _content(picture, codec, setting)
            bits[number, setting] = KIND_BITS + 8 * len(data) + END_BITS
            shown[number] = _shown(kind, data, codec)
        errors[:, setting] = squared_error(pixels, shown)
    errors[:, NOTHING] = squared_error(pixels, np.broadcast_to(np.array(MEAN_COLOUR, np.uint8), pixels.shape))
    return PictureTable(bits, errors)


def load_pictures(path: Path) -> PictureTable | None:
    """The table that `save_pictures` wrote, if there is one."""
    if not path.is_file():
        return None
    with np.load(path) as file:
        return PictureTable(file["bits"], file["errors"])


def save_pictures(path: Path, table: PictureTable) -> None:
    """Writes a table, replacing the file as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez_compressed(part, bits=table.bits, errors=table.errors)
    part.replace(path)


def squared_error(sent: NDArray[np.uint8], shown: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(B,) mean squared error of (B, H, W, C) pictures."""
    differences = sent.astype(np.float64) - shown
    error: NDArray[np.float64] = (differences**2).mean(axis=(1, 2, 3))
    return error


def _content(pixels: NDArray[np.uint8], codec: str, setting: int) -> tuple[int, bytes]:
    """Kind and data of a message."""
    if setting == COLOUR:
        return len(SIDES), bytes(pixels.reshape(-1, 3).mean(axis=0).round().astype(np.uint8))
    side, quality = SETTINGS[setting]
    small = pixels if side == SIDE else _resized(pixels, side)
    return SIDES.index(side), bare(write(small, codec, quality), codec, side)


def _shown(kind: int, data: bytes, codec: str) -> NDArray[np.uint8]:
    if kind == len(SIDES):
        return np.broadcast_to(np.frombuffer(data, np.uint8), (SIDE, SIDE, 3)).copy()
    if kind > len(SIDES):
        raise ValueError(f"kind: there is none of number {kind}")
    picture = read(rebuilt(data, codec, SIDES[kind]))
    return picture if kind == 0 else _resized(picture, SIDE)


def _resized(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))
