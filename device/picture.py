"""Picture of a view in panels: photo, attention, bits of the patches, opinion, what was received."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from device.capture import Encoded
from semlink.frame import Frame
from semlink.source.iaq import IaqFrame
from semlink.source.opinion import OpinionFrame
from semlink.source.registry import decode

CAPTION_HEIGHT = 24
MARGIN = 8
# Dark blue, teal, green, yellow: even steps of lightness, readable without colour vision.
COLOURS = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], float)


def draw_view(
    path: Path, view: Encoded, received: Frame, answer: str, opinion: Sequence[tuple[str, float]] = ()
) -> None:
    """Draws panels side by side into the PNG at `path`: two, more where there are attention or bits of patches.

    Args:
        path: file to write.
        view: what was sent.
        received: the last frame as the server got it.
        answer: caption of the last panel: what the server saw in it.
        opinion: classes and their probabilities, of a device that said first what it thinks; where that was all,
            they are the last panel.
    """
    panels = [(view.pixels, "photo")]
    if view.attention is not None:
        panels.append((_map(_grid(view.attention / view.attention.max()), view.pixels), "attention"))
    if (bits := _bits(view)) is not None:
        panels.append((bits, f"bits, rho = {view.frame.rho:.3g}"))
    height, width, _ = view.pixels.shape
    if opinion:
        panels.append((_bars(opinion, height, width), f"opinion: {opinion[0][0]}"))
    if not isinstance(received, OpinionFrame):
        panels.append((np.clip(np.rint(decode(received)), 0, 255).astype(np.uint8), f"received: {answer}"))
    sheet = Image.new("RGB", (len(panels) * (width + MARGIN) + MARGIN, height + CAPTION_HEIGHT + MARGIN), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, (pixels, caption) in enumerate(panels):
        left = MARGIN + number * (width + MARGIN)
        sheet.paste(Image.fromarray(pixels), (left, CAPTION_HEIGHT))
        pen.text((left, 4), caption, fill="black", font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _bars(opinion: Sequence[tuple[str, float]], height: int, width: int) -> NDArray[np.uint8]:
    """Probabilities as bars under the names of their classes, (height, width, 3)."""
    image = Image.new("RGB", (width, height), "white")
    pen, font, step = ImageDraw.Draw(image), ImageFont.load_default(12), height / len(opinion)
    for number, (name, probability) in enumerate(opinion):
        top = number * step
        pen.text((0, top), f"{probability:.2f} {name}", fill="black", font=font)
        pen.rectangle((0, top + 16, max(probability * (width - 1), 1), top + step - 6), fill=(33, 145, 140))
    return np.asarray(image)


def _grid(values: NDArray) -> NDArray:
    """(N,) values of patches in raster order -> their square grid."""
    side = math.isqrt(values.size)
    return values.reshape(side, side)


def _bits(view: Encoded) -> NDArray[np.uint8] | None:
    """The bits of each patch as a picture; None where the frame's segments are not the patches."""
    frame, height = view.frame, view.pixels.shape[0]
    if isinstance(frame, IaqFrame):
        bits = _grid(frame.bits)
        return _bit_map(bits / frame.max_bits, height, bits)
    if view.attention is None or frame.segment_bits.size != view.attention.size:
        return None
    return _bit_map(_grid(frame.segment_bits / max(frame.segment_bits.max(), 1)), height)


def _coloured(shares: NDArray) -> NDArray[np.uint8]:
    """(rows, columns) in [0, 1] -> (rows, columns, 3) colours."""
    at = np.linspace(0, 1, len(COLOURS))
    return np.stack([np.interp(shares, at, channel) for channel in COLOURS.T], axis=-1).astype(np.uint8)


def _map(shares: NDArray, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The shares as colours over the greyed photo."""
    side = pixels.shape[0] // shares.shape[0]
    colours = np.kron(_coloured(np.sqrt(shares)), np.ones((side, side, 1), np.uint8))
    grey = pixels.mean(axis=-1, keepdims=True)
    return (0.35 * grey + 0.65 * colours).astype(np.uint8)


def _bit_map(shares: NDArray, height: int, numbers: NDArray | None = None) -> NDArray[np.uint8]:
    """Shares of the most bits as colours, `height` pixels high; with numbers in the patches that have any."""
    side = height // shares.shape[0]
    colours = np.kron(_coloured(shares), np.ones((side, side, 1), np.uint8))
    if numbers is None:
        return colours
    image = Image.fromarray(colours)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(10)
    for (row, column), count in np.ndenumerate(numbers):
        if count:
            middle = ((column + 0.5) * side, (row + 0.5) * side)
            ink = "black" if shares[row, column] > 1 / 2 else "white"
            pen.text(middle, str(count), fill=ink, font=font, anchor="mm")
    return np.asarray(image)
