"""Coder of profile 4: the best still within a byte budget, and the picture of what arrived of one."""

from typing import Annotated

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

from semlink.frame import FrameError
from semlink.parameters import Notation, Option
from semlink.source.codec.frame import HEADER_BYTES, MAX_PAYLOAD_BYTES, CodecFrame
from semlink.source.codec.head import HEAD_BYTES, MAX_SIDE, Head
from semlink.source.codec.stills import CodecName, codec_of, encode_within, read, scaled
from semlink.source.registry import CodedImage

MIN_BUDGET_BYTES, MAX_BUDGET_BYTES = 100, 1 << 20
"""Of a frame: it pays for a still of 8 pixels at the worst quality, whatever they are."""


def encode(
    image: NDArray[np.uint8],
    seen: None = None,
    *,
    codec: Annotated[CodecName, Option("codec of the still")] = "avif",
    side: Annotated[
        int,
        Interval(ge=1, le=MAX_SIDE),
        Option("longer side that a larger picture is scaled down to, in pixels"),
        Notation("S", "pixel", "max(W, H) ≤ S", "W, H: sides of the still"),
    ] = 160,
    budget_bytes: Annotated[
        int,
        Interval(ge=MIN_BUDGET_BYTES, le=MAX_BUDGET_BYTES),
        Option("most bytes of a frame, its header included"),
        Notation("L", "byte", "L_header + L_still ≤ L", "of the highest quality for which it holds"),
    ] = 1505,
) -> CodedImage[CodecFrame]:
    """The still of the highest quality that a budget pays for, as a frame.

    Args:
        image: (H, W, 3) 8-bit pixels, at most 2^22 values, sides at most 4096.
        seen: nothing; the vision transformer is not asked.
        codec: avif, webp or jpeg.
        side: of the still, 1..4096; a picture that is smaller stays as it is. Where even the worst quality is too
            long, the still is smaller.
        budget_bytes: of header and payload together, 100 or more; it is met. What a payload may have at most,
            65,535 bytes, is a bound too.

    Raises:
        ValueError: an argument is outside these ranges.
        FrameError: the picture is too large for a frame.

    >>> coded = encode(np.full((64, 64, 3), 128, np.uint8), codec="jpeg", side=32, budget_bytes=100)
    >>> coded.frame.head.width, coded.frame.shape, coded.frame.header_bits // 8
    (32, (64, 64, 3), 18)
    """
    return _coded(image, codec, side, budget_bytes, no_more_than_enough=False)


def encode_look(
    image: NDArray[np.uint8], *, codec: CodecName, side: int, budget_bytes: int
) -> CodedImage[CodecFrame]:
    """A still for a model's look: as `encode`, but of no better quality than is enough for one.

    So the bytes follow the picture: a plain one takes few, and a budget that is generous bounds the others.
    """
    return _coded(image, codec, side, budget_bytes, no_more_than_enough=True)


def _coded(
    image: NDArray[np.uint8], codec: CodecName, side: int, budget_bytes: int, *, no_more_than_enough: bool
) -> CodedImage[CodecFrame]:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be 8-bit of three channels, not {image.dtype} of {image.shape}")
    if budget_bytes < MIN_BUDGET_BYTES:
        raise ValueError(f"budget_bytes must be {MIN_BUDGET_BYTES} or more, not {budget_bytes}")
    height, width, _ = image.shape
    most = min(budget_bytes - HEADER_BYTES, MAX_PAYLOAD_BYTES)
    stripped = encode_within(image, codec, most + HEAD_BYTES, side, no_more_than_enough=no_more_than_enough)
    frame = CodecFrame(codec, height, width, Head.from_bytes(stripped), stripped[HEAD_BYTES:])
    return CodedImage(frame, frame.importance)


def decode(frame: CodecFrame) -> NDArray[np.float64]:
    """(H, W, 3) pixels of a frame, 0..255, the still enlarged to the picture.

    The codec's library reads the payload. Of one that strangers have sent it may crash, or not come back: decode
    theirs in a process that may be killed.

    Raises:
        FrameError: the payload is damaged beyond decoding ("undecodable").
    """
    try:
        still = read(frame.stripped, codec_of(frame.codec))
    except ValueError as error:
        raise FrameError("undecodable", f"the payload can't be decoded as {frame.codec}: {error}") from None
    return scaled(still, frame.height, frame.width).astype(np.float64)
