"""One image over a binary symmetric channel: by importance-aware quantization, or by what people use today."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semlink import iaq
from semlink.bitstream import Frame
from semlink.bsc import flip_positions, invert_bits

CODECS = {"jpeg": "JPEG", "webp": "WEBP", "avif": "AVIF"}
"""Codecs of Pillow, by the names they go by here."""
WORST_QUALITY, BEST_QUALITY = 1, 95
LONGEST_SIDES = (224, 192, 160, 128, 96, 64, 48, 32)
"""Sides to which a picture is scaled down where even the worst quality is too long for its budget."""


@dataclass(frozen=True, eq=False)
class Received:
    """What arrived of one image.

    Attributes:
        pixels: (H, W, 3) in [0, 255].
        bits: everything that went on the air.
        bits_per_patch: (N,) payload bits M_i·P²·C of each patch; None for codecs, whose bits belong to no patch.
        lost: nothing could be decoded; the pixels are plain grey.
    """

    pixels: NDArray
    bits: int
    bits_per_patch: NDArray[np.int64] | None
    lost: bool


def send_frame(
    image: NDArray[np.uint8], scores: NDArray, ber: float, generator: np.random.Generator, **allocation: Any
) -> Received:
    """Sends an image as a frame, its payload exposed, its header protected, as in the papers.

    Args:
        image: (224, 224, 3) 8-bit pixels.
        scores: (196,) importance.
        ber: bit error rate μ of the channel.
        generator: the channel's randomness.
        allocation: as of `semlink.iaq.encode`.
    """
    frame = iaq.encode(image, scores, **allocation)
    payload = bytearray(frame.payload)
    invert_bits(payload, flip_positions(frame.payload_bits, ber, generator))
    arrived = Frame(frame.geometry, frame.max_bits, frame.low, frame.high, frame.bits, bytes(payload))
    return Received(
        iaq.decode(arrived),
        frame.header_bits + 8 * len(payload),
        frame.bits.astype(np.int64) * frame.geometry.values_per_patch,
        lost=False,
    )


def send_picture(
    image: NDArray[np.uint8], codec: str, budget: int, ber: float, generator: np.random.Generator
) -> Received:
    """Sends an image as a picture file, at the best quality that its budget pays for, all of it exposed.

    Args:
        image: (H, W, 3) 8-bit pixels.
        codec: jpeg, webp or avif.
        budget: bits that may go on the air.
        ber: bit error rate μ of the channel.
        generator: the channel's randomness.

    Raises:
        ValueError: no such codec, or a budget below the smallest file.
    """
    if codec not in CODECS:
        raise ValueError(f"codec must be one of {', '.join(CODECS)}, not {codec!r}")
    file = bytearray(_best_within(image, CODECS[codec], budget // 8))
    invert_bits(file, flip_positions(8 * len(file), ber, generator))
    try:
        with Image.open(io.BytesIO(file), formats=(CODECS[codec],)) as picture:
            # A damaged header may claim any size.
            if max(picture.size) > max(image.shape):
                raise ValueError("larger than what was sent")
            pixels = np.asarray(picture.convert("RGB").resize(image.shape[1::-1], Image.Resampling.BICUBIC))
        return Received(pixels, 8 * len(file), None, lost=False)
    except Exception:  # decoders raise nearly anything when fed damage
        return Received(np.full_like(image, 128), 8 * len(file), None, lost=True)


def _best_within(image: NDArray[np.uint8], codec: str, most_bytes: int) -> bytes:
    """The longest file within the budget, by bisection over the quality; scaled down only where it must be."""
    whole = Image.fromarray(image)
    for side in LONGEST_SIDES:
        scale = side / max(whole.size)
        picture = whole if scale >= 1 else whole.resize((round(whole.width * scale), round(whole.height * scale)))
        best = _file(picture, codec, WORST_QUALITY)
        if len(best) > most_bytes:
            continue
        low, high = WORST_QUALITY, BEST_QUALITY
        while low < high:
            middle = (low + high + 1) // 2
            file = _file(picture, codec, middle)
            if len(file) <= most_bytes:
                low, best = middle, file
            else:
                high = middle - 1
        return best
    raise ValueError(f"budget: {8 * most_bytes} bits are too few for any {codec} of this image")


def _file(picture: Image.Image, codec: str, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, codec, quality=quality)
    return buffer.getvalue()
