"""Tables of measured figures, and the picture and frames that benchmarks share."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from semlink.source.iaq.coder import encode
from semlink.vision.images import model_pixels, open_image
from semlink.vision.photos import find_photos

RHO = 0.25


def show(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], caption: str | None = None) -> None:
    """Prints rows under their headings; the first column is text, the others are numbers."""
    table = Table("", title=title, caption=caption, min_width=min(len(title) + 2, 100))
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*row)
    Console(width=110).print(table)


def medians(seconds: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """Median of each way in milliseconds."""
    return {name: 1e3 * float(np.median(values)) for name, values in seconds.items()}


def cat() -> NDArray[np.uint8]:
    """(224, 224, 3) pixels of a photograph."""
    return model_pixels(open_image(find_photos(["chelsea"])[0]))


def frames(count: int) -> list[bytes]:
    """Frames of the photograph, moved sideways from one to the next, at `RHO`."""
    pixels, scores = cat(), np.random.default_rng(0).random(196)
    return [encode(np.roll(pixels, 8 * shift, axis=1), scores, rho=RHO).frame.to_bytes() for shift in range(count)]
