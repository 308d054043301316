"""Stills within a byte budget: a picture at the best quality of AVIF, WebP or JPEG that so many bytes pay for.

What counts is what goes on the air: by default the stripped picture, see the modules `avif`, `webp` and `jpeg`.
Pillow writes and reads the files (the extra `vision`).
"""

import io
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

import semlink.source.codec.avif as avif
import semlink.source.codec.jpeg as jpeg
import semlink.source.codec.webp as webp
from semlink.source.codec.head import Head

if TYPE_CHECKING:
    from PIL import Image

WORST_QUALITY, BEST_QUALITY = 1, 95
TYPICAL_QUALITY, TYPICAL_GROWTH = 70, 0.04
"""First quality of the search, and growth of the logarithm of a file's length with quality."""
SIDES = (224, 192, 160, 128, 96, 64, 48, 32, 24, 16, 8)
"""Sides to which a picture is scaled down where even the worst quality is too long for its budget."""


@dataclass(frozen=True)
class Codec:
    """A codec of today.

    Attributes:
        name: avif, webp or jpeg.
        format: Pillow's name for its files.
        strip: takes the container off a file that `write` has written.
        rebuild: makes the file anew, with the same pixels.
        has_settings: whether a head's settings are some that the codec knows.
        options: of Pillow, beside quality: AV1 by one thread gives the same bytes on any number of cores.
    """

    name: str
    format: str
    strip: Callable[[bytes], bytes]
    rebuild: Callable[[bytes], bytes]
    has_settings: Callable[[int], bool]
    options: tuple[tuple[str, Any], ...] = ()

    def write(self, picture: "Image.Image", quality: int) -> bytes:
        """The file of a picture at a quality of 1..95, as short as Pillow's defaults make it."""
        buffer = io.BytesIO()
        picture.save(buffer, self.format, quality=quality, **dict(self.options))
        return buffer.getvalue()


AV1_OPTIONS = (("speed", 6), ("subsampling", "4:2:0"), ("max_threads", 1))
"""Of Pillow. One thread gives the same bytes on any number of cores."""
PADDING_BYTES = 4096
"""Zeros behind the data of a still that is read. A decoder that runs out of data, as it does where some are lost
or damaged, gives up on the whole picture; with zeros it shows what came before. They change no sound picture."""
CODECS = {
    codec.name: codec
    for codec in (
        Codec("avif", "AVIF", avif.strip, avif.rebuild, avif.has_settings, AV1_OPTIONS),
        Codec("webp", "WEBP", webp.strip, webp.rebuild, webp.has_settings),
        Codec("jpeg", "JPEG", jpeg.strip, jpeg.rebuild, jpeg.has_settings),
    )
}
"""By their names, in the order of their numbers on the wire."""
CodecName = Literal["avif", "webp", "jpeg"]


def codec_of(name: str) -> Codec:
    """The codec of a name.

    Raises:
        ValueError: there is no such codec.
    """
    if name not in CODECS:
        raise ValueError(f"codec must be one of {', '.join(CODECS)}, not {name!r}")
    return CODECS[name]


def encode_within(pixels: NDArray[np.uint8], codec: str, most_bytes: int, side: int | None = None) -> bytes:
    """The stripped picture of the best quality that a budget pays for.

    Args:
        pixels: (H, W, 3) 8-bit pixels, each side at most 4096.
        codec: avif, webp or jpeg.
        most_bytes: budget, head included; it is met.
        side: longer side to which a larger picture is scaled down first; None: it stays as it is. Where even the
            worst quality is too long, the picture becomes smaller than that: the next of `SIDES`.

    Returns:
        A head of 4 bytes and the compressed data: what `CODECS[codec].rebuild` takes.

    Raises:
        ValueError: there is no such codec, or the budget pays for no picture.

    >>> grey = np.full((64, 64, 3), 128, np.uint8)
    >>> len(encode_within(grey, "webp", 100)) <= 100
    True
    """
    from PIL import Image

    chosen = codec_of(codec)
    whole = Image.fromarray(pixels)
    if side is not None and side < 1:
        raise ValueError(f"side must be 1 or more, not {side}")
    longest = min(side or max(whole.size), max(whole.size))
    sides = (longest, *(smaller for smaller in SIDES if smaller < longest))
    return best_within(whole, most_bytes, lambda *still: chosen.strip(chosen.write(*still)), sides)


def best_within(
    whole: "Image.Image",
    most_bytes: int,
    write: Callable[["Image.Image", int], bytes],
    sides: Iterable[int] = SIDES,
) -> bytes:
    """What `write` gives at the highest quality within a budget; smaller only where it must be.

    Args:
        whole: the picture.
        most_bytes: budget.
        write: a picture and a quality of 1..95 -> the bytes that count.
        sides: longer sides of the picture to try one after the other; it is never enlarged.

    Raises:
        ValueError: the budget is below all of them.
    """
    for side in sides if most_bytes > 0 else ():
        scale = side / max(whole.size)
        sizes = max(round(whole.width * scale), 1), max(round(whole.height * scale), 1)
        picture = whole if scale >= 1 else whole.resize(sizes)
        if (best := _best_quality(picture, most_bytes, write)) is not None:
            return best
    raise ValueError(f"budget: {most_bytes} bytes are too few for this picture at any quality and side")


def _best_quality(
    picture: "Image.Image", most_bytes: int, write: Callable[["Image.Image", int], bytes]
) -> bytes | None:
    """What fits the budget at the highest quality, if anything; lengths nearly always rise with quality.

    Narrows down where it lies between a quality that fits and one that does not, guided by a straight line through
    the logarithms of lengths: AVIF is slow, and this takes fewer files than bisection.
    """
    best = None
    low, high = WORST_QUALITY - 1, BEST_QUALITY + 1  # what is known to fit, and not to
    excess: dict[int, float] = {}  # of a quality's length over the budget, as a logarithm
    quality = TYPICAL_QUALITY
    while high - low > 1:
        data = write(picture, quality)
        excess[quality] = math.log(len(data) / most_bytes)
        if excess[quality] <= 0:
            low, best = quality, data
        else:
            high = quality
        if low in excess and high in excess:
            step = (high - low) * excess[low] / (excess[low] - excess[high])
            guess = low + round(step)
        else:
            guess = quality - math.ceil(excess[quality] / TYPICAL_GROWTH)
        quality = min(max(guess, low + 1), high - 1)
    return best


def read(stripped: bytes, codec: Codec, padding: int = PADDING_BYTES) -> NDArray[np.uint8]:
    """(h, w, 3) pixels of a still, as far as its data go.

    Args:
        stripped: what `codec.strip` gave, its data perhaps cut off or damaged.
        codec: that it is of.
        padding: how many zeros are appended to the data.

    Raises:
        ValueError: nothing can be made of it.
    """
    from PIL import Image

    head, file = Head.from_bytes(stripped), codec.rebuild(stripped + bytes(padding))
    try:
        with Image.open(io.BytesIO(file), formats=(codec.format,)) as picture:
            if picture.size != (head.width, head.height):
                raise ValueError(f"a picture of {picture.size} pixels where {head.width, head.height} were told")
            return np.asarray(picture.convert("RGB"))
    except Exception as error:  # decoders raise nearly anything when fed damage
        raise ValueError(str(error) or type(error).__name__) from None


def scaled(still: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """(height, width, 3) pixels of a still, bicubic."""
    from PIL import Image

    if still.shape[:2] == (height, width):
        return still
    return np.asarray(Image.fromarray(still).resize((width, height), Image.Resampling.BICUBIC))
