"""Bare picture files: AVIF and WebP of small square pictures without any byte that their receiver can rebuild.

`semlink.source.codec` takes a file's container off and leaves a head of four bytes, which says sides and settings.
Here both ends know codec, side and settings beforehand, so that the head goes too. Of a 32 x 32 AVIF file 289 or
290 bytes are left out (all boxes, and all of the AV1 bitstream but the content of its frame), and of a WebP file
28: 20 of RIFF, start code and sides, and the third byte of the frame's tag (RFC 6386, 9.1), which is 0 where the
first partition is below 2048 bytes.
"""

import functools
import io
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semlink.source.codec import stills
from semlink.source.codec.head import HEAD_BYTES

_SETTINGS: dict[str, dict[str, Any]] = {
    "webp": {"method": 6},
    "avif": {"speed": 6, "subsampling": "4:4:4", "max_threads": 1},
}
CODECS = {
    name: replace(stills.CODECS[name], options=tuple(options.items())) for name, options in _SETTINGS.items()
}
"""By their names, with the settings that both ends know. At 32 x 32 AVIF does better with all of the chroma."""
BEST_QUALITY = 95
"""At 100 AVIF is without loss, and its settings are others."""
_TAG = HEAD_BYTES - 1
"""Offset of the frame tag in a stripped WebP file: the head's last byte is its first."""


class BareFileError(ValueError):
    """A file with other settings than its receiver expects."""


def write(pixels: NDArray[np.uint8], codec: str, quality: int) -> bytes:
    """A picture file as it is usually kept.

    Args:
        pixels: (S, S, 3) 8-bit pixels.
        codec: one of `CODECS`.
        quality: 0 to `BEST_QUALITY`.
    """
    return CODECS[codec].write(Image.fromarray(pixels), quality)


def read(file: bytes) -> NDArray[np.uint8]:
    """(S, S, 3) 8-bit pixels of a picture file."""
    with Image.open(io.BytesIO(file), formats=[codec.format for codec in CODECS.values()]) as picture:
        return np.asarray(picture.convert("RGB"))


def bare(file: bytes, codec: str, side: int) -> bytes:
    """The bytes of a file that go on the air.

    >>> file = write(np.full((32, 32, 3), 128, np.uint8), "webp", 30)
    >>> sent = bare(file, "webp", 32)
    >>> len(file) - len(sent), rebuilt(sent, "webp", 32) == file
    (28, True)

    Raises:
        BareFileError: they are not all that is special about the file.
        StripError: it is not of the form that `write` gives.
    """
    stripped = CODECS[codec].strip(file)
    sent = stripped[HEAD_BYTES:] if codec == "avif" else stripped[_TAG : _TAG + 2] + stripped[_TAG + 3 :]
    if _stripped(sent, codec, side) != stripped:
        raise BareFileError(f"a {codec} of {side} x {side} has other headers than its receiver expects")
    return sent


def rebuilt(sent: bytes, codec: str, side: int) -> bytes:
    """A file with the same pixels, from the bytes that arrived of it."""
    return CODECS[codec].rebuild(_stripped(sent, codec, side))


def _stripped(sent: bytes, codec: str, side: int) -> bytes:
    head = _own_head(codec, side)
    return head + sent if codec == "avif" else head[:_TAG] + sent[:2] + b"\0" + sent[2:]


@functools.lru_cache(maxsize=64)
def _own_head(codec: str, side: int) -> bytes:
    """The head of the receiver's own grey picture of that size, which all others of it share."""
    grey = np.full((side, side, 3), 128, np.uint8)
    return CODECS[codec].strip(write(grey, codec, BEST_QUALITY // 2))[:HEAD_BYTES]
