"""Pictures from outside into the pixels a model takes (Pillow). Whatever they hold, the cost is bounded."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from semlink.vision.containers import ContainerError, check_container, check_exif

IMAGE_SIZE = 224
"""Height and width of what the vision transformers take, in pixels."""
MAX_IMAGE_BYTES = 20 << 20
MAX_PIXELS = 50_000_000
"""Most pixels a picture may have; checked before any of them is decoded."""
FORMATS = ("JPEG", "PNG", "WEBP")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation."""


class ImageError(ValueError):
    """A picture that can't be used; the message says why, and `reason` is a slug for programs."""

    def __init__(self, message: str, reason: str = "picture_malformed") -> None:
        """The message names the picture."""
        super().__init__(message)
        self.reason = reason


def open_image(source: Path | bytes, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Reads a picture as upright RGB.

    Raises:
        ImageError: no picture in one of `formats`, one above MAX_IMAGE_BYTES or MAX_PIXELS, or one of more parts
            than `check_container` allows.
    """
    name = str(source) if isinstance(source, Path) else "the image"
    try:
        data = source.read_bytes() if isinstance(source, Path) else source
        if len(data) > MAX_IMAGE_BYTES:
            raise ImageError(f"{name} has {len(data)} bytes; at most {MAX_IMAGE_BYTES} are taken", "picture_bytes")
        check_container(data)
        with Image.open(io.BytesIO(data), formats=formats) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageError(
                    f"{name} has {width} x {height} pixels; at most {MAX_PIXELS} are taken", "picture_pixels"
                )
            image.load()
            return _eight_bit(_upright(image)).convert("RGB")
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(f"{name} needs more memory to be decoded than there is", "picture_memory") from None
    except ContainerError as error:
        raise ImageError(f"{name} {error}", error.reason) from None
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


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF data say; unlike `ImageOps.exif_transpose`, without reading and writing all of them."""
    in_hexadecimal = image.info.get("Raw profile type exif", "")  # ImageMagick's way in PNG
    check_exif(bytes.fromhex("".join(in_hexadecimal.split("\n")[3:])))
    turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if turn is None else image.transpose(turn)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, which Pillow would clip to white at 255, as grey of 8; any other picture as it is."""
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
