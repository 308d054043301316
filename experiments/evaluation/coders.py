"""Binary symmetric channel: one image over it, as an IAQ frame or as a JPEG, WebP or AVIF file."""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments.evaluation.ldpc import Code, transmit
from semlink.channel.base import Carried, RawBits
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.source.iaq import coder as iaq

CODECS = {"jpeg": "JPEG", "webp": "WEBP", "avif": "AVIF"}
"""Codecs of Pillow, by the names they go by here."""
PROTECTED = {f"{codec}-ldpc": codec for codec in CODECS}
"""The same behind an LDPC code, by the names that they go by then."""
WORST_QUALITY, BEST_QUALITY = 1, 95
TYPICAL_QUALITY, TYPICAL_GROWTH = 70, 0.04
"""First quality of the search, and growth of the logarithm of a file's length with quality."""
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
        more: what else there is to tell of it, by names that all images of a cell share.
    """

    pixels: NDArray
    bits: int
    bits_per_patch: NDArray[np.int64] | None
    lost: bool
    more: Mapping[str, float] = field(default_factory=dict)


def send_frame(
    image: NDArray[np.uint8],
    scores: NDArray,
    ber: float,
    generator: np.random.Generator,
    **allocation: Any,
) -> Received:
    """Sends an image as a frame, its payload exposed, its header protected, as in the papers.

    Args:
        image: (224, 224, 3) 8-bit pixels.
        scores: (196,) importance.
        ber: bit error rate μ of the channel.
        generator: the channel's randomness.
        allocation: as of `semlink.source.iaq.coder.encode`.
    """
    frame = iaq.encode(image, scores, **allocation).frame
    arrived = frame.with_payload(_over_bsc(frame, ber, generator))
    return Received(
        iaq.decode(arrived),
        frame.header_bits + 8 * len(frame.payload),
        frame.segment_bits,
        lost=False,
    )


def send_picture(
    image: NDArray[np.uint8],
    codec: str,
    budget: int,
    ber: float,
    generator: np.random.Generator,
    code: Code | None = None,
) -> Received:
    """Sends an image as a picture file, at the best quality that its budget pays for, all of it exposed.

    The file's length is known at the other end. Damage that a code leaves is treated as that without one: what
    can be decoded of the file is.

    Args:
        image: (H, W, 3) 8-bit pixels.
        codec: jpeg, webp or avif.
        budget: bits that may go on the air.
        ber: bit error rate μ of the channel.
        generator: the channel's randomness.
        code: protects the file, filled up with zeros, where μ > 0; its bits are within the budget.

    Raises:
        ValueError: no such codec, or a budget below the smallest file or the code's bits.
        ModuleNotFoundError: sionna, which the codes come from, is not installed.
    """
    if codec not in CODECS:
        raise ValueError(f"codec must be one of {', '.join(CODECS)}, not {codec!r}")
    if code is not None and code.bits > budget:
        raise ValueError(f"budget: {budget} bits are fewer than the code's {code.bits}")
    file = _best_within(image, CODECS[codec], budget // 8 if code is None else code.file_bytes)
    if code is None:
        bits, arrived = 8 * len(file), _over_bsc(RawBits(file), ber, generator)
    else:
        bits, arrived = code.bits, _protected(file, code, ber, generator)
    try:
        with Image.open(io.BytesIO(arrived), formats=(CODECS[codec],)) as picture:
            # A damaged header may claim any size.
            if max(picture.size) > max(image.shape):
                raise ValueError("larger than what was sent")
            pixels = np.asarray(picture.convert("RGB").resize(image.shape[1::-1], Image.Resampling.BICUBIC))
        return Received(pixels, bits, None, lost=False)
    except Exception:  # decoders raise nearly anything when fed damage
        return Received(np.full_like(image, 128), bits, None, lost=True)


def _over_bsc(sent: Carried, ber: float, generator: np.random.Generator) -> bytes:
    """What arrives of a payload."""
    return BinarySymmetricChannel(ber=ber).transmit(sent, None, None, generator).received(sent)


def _protected(file: bytes, code: Code, ber: float, generator: np.random.Generator) -> bytes:
    """What arrives of a file that is sent in code blocks."""
    information = np.zeros(code.blocks * code.k, np.uint8)
    information[: 8 * len(file)] = np.unpackbits(np.frombuffer(file, np.uint8))
    decoded = transmit(
        information.reshape(code.blocks, code.k), code, BinarySymmetricChannel(ber=ber), ber, generator
    )
    return np.packbits(decoded.reshape(-1)[: 8 * len(file)]).tobytes()


def _best_within(image: NDArray[np.uint8], codec: str, most_bytes: int) -> bytes:
    """The file of the highest quality within the budget; scaled down only where it must be."""
    whole = Image.fromarray(image)
    for side in LONGEST_SIDES:
        scale = side / max(whole.size)
        picture = whole if scale >= 1 else whole.resize((round(whole.width * scale), round(whole.height * scale)))
        if (best := _best_quality(picture, codec, most_bytes)) is not None:
            return best
    raise ValueError(f"budget: {8 * most_bytes} bits are too few for any {codec} of this image")


def _best_quality(picture: Image.Image, codec: str, most_bytes: int) -> bytes | None:
    """The file of the highest quality within the budget, if any; lengths nearly always rise with quality.

    Narrows down where it lies between a quality that fits and one that does not, guided by a straight line through
    the logarithms of lengths: AVIF is slow, and this takes fewer files than bisection.
    """
    best = None
    low, high = WORST_QUALITY - 1, BEST_QUALITY + 1  # what is known to fit, and not to
    excess: dict[int, float] = {}  # of a quality's length over the budget, as a logarithm
    quality = TYPICAL_QUALITY
    while high - low > 1:
        file = _file(picture, codec, quality)
        excess[quality] = math.log(len(file) / most_bytes)
        if excess[quality] <= 0:
            low, best = quality, file
        else:
            high = quality
        if low in excess and high in excess:
            step = (high - low) * excess[low] / (excess[low] - excess[high])
            guess = low + round(step)
        else:
            guess = quality - math.ceil(excess[quality] / TYPICAL_GROWTH)
        quality = min(max(guess, low + 1), high - 1)
    return best


def _file(picture: Image.Image, codec: str, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, codec, quality=quality)
    return buffer.getvalue()
