"""Pictures from outside into the pixels a model takes (Pillow). Whatever they hold, the cost is bounded."""

import io
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

IMAGE_SIZE = 224
"""Height and width of what the vision transformers take, in pixels."""
MAX_IMAGE_BYTES = 20 << 20
MAX_PIXELS = 50_000_000
"""Most pixels a picture may have; checked before any of them is decoded."""
MAX_SCANS = 30
"""Most scans of a JPEG: each costs a pass over all pixels, and may take but a few bytes. Usual are 1 to 10."""
FORMATS = ("JPEG", "PNG", "WEBP")

_MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")
"""Of a segment with a length (ITU-T T.81, B.1.1); between scans, \\xff also stands before \\x00 and restarts."""
_START_OF_SCAN, _END_OF_IMAGE = b"\xda", b"\xd9"


class ImageError(ValueError):
    """A picture that can't be used; the message says why."""


def open_image(source: Path | bytes, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Reads a picture as upright RGB.

    Raises:
        ImageError: no picture in one of `formats`, or one above MAX_IMAGE_BYTES or MAX_PIXELS.
    """
    name = str(source) if isinstance(source, Path) else "the image"
    try:
        data = source.read_bytes() if isinstance(source, Path) else source
        if len(data) > MAX_IMAGE_BYTES:
            raise ImageError(f"{name} has {len(data)} bytes; at most {MAX_IMAGE_BYTES} are taken")
        with Image.open(io.BytesIO(data), formats=formats) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageError(f"{name} has {width} x {height} pixels; at most {MAX_PIXELS} are taken")
            if _scans(data) > MAX_SCANS:
                raise ImageError(f"{name} has more than {MAX_SCANS} scans")
            return _eight_bit(ImageOps.exif_transpose(image)).convert("RGB")
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{name} can't be read as {', '.join(formats)}: it is none of these") from None
    except Exception as error:  # decoders raise nearly anything when fed nonsense
        raise ImageError(f"{name} can't be read as {', '.join(formats)}: {error}") from error


def model_pixels(image: Image.Image, size: int = IMAGE_SIZE) -> NDArray[np.uint8]:
    """(size, size, 3) 8-bit RGB pixels of the picture's centre, 7/8 of its short side wide, bicubic.

    The same picture as scaling the short side to 256 and cutting out the middle 224, the way DeiT is evaluated,
    but in one step, whose cost does not depend on how elongated the picture is.
    """
    side = min(image.size) * 7 / 8
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return np.array(image.resize((size, size), Image.Resampling.BICUBIC, box=box))


def _scans(data: bytes) -> int:
    """How many scans the first picture of a JPEG has, MAX_SCANS + 1 standing for any more; 0 for other formats."""
    position, scans = 2, 0
    if not data.startswith(b"\xff\xd8"):
        return 0
    while scans <= MAX_SCANS and (marker := _MARKER.search(data, position)) and marker[1] != _END_OF_IMAGE:
        scans += marker[1] == _START_OF_SCAN
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
    return scans


def _eight_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, which Pillow would clip to white at 255, as grey of 8; any other picture as it is."""
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
