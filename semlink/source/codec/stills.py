"""Stills within a byte budget: a picture at the best quality of AVIF, WebP or JPEG that so many bytes pay for.

What counts is what goes on the air: by default the stripped picture, see the modules `avif`, `webp` and `jpeg`.
Pillow writes and reads the files (the extra `vision`).
"""

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

import semlink.source.codec.avif as avif
import semlink.source.codec.jpeg as jpeg
import semlink.source.codec.webp as webp
from semlink.source.codec.head import Head
from semlink.source.codec.rate_control import QUALITIES, SIDES, best_within

if TYPE_CHECKING:
    from PIL import Image


Options = tuple[tuple[str, Any], ...]
SMALL_PIXELS = 160 * 160
"""Of a still that is coded with more care."""


@dataclass(frozen=True)
class Codec:
    """A codec of today.

    Attributes:
        name: avif, webp or jpeg.
        format: Pillow's name for its files.
        strip: takes the container off a file that `write` has written.
        rebuild: makes the file anew, with the same pixels.
        has_settings: whether a head's settings are some that the codec knows.
        options: of Pillow, beside quality.
        large_options: of Pillow, for pictures of more than `SMALL_PIXELS`; None: the same.
        draft_options: of Pillow, for drafts that are made much faster; None: all files are fast.
        qualities: those that differ, ascending.
        enough: quality at which a model sees nearly what it sees in the picture itself.
    """

    name: str
    format: str
    strip: Callable[[bytes], bytes]
    rebuild: Callable[[bytes], bytes]
    has_settings: Callable[[int], bool]
    options: Options = ()
    large_options: Options | None = None
    draft_options: Options | None = None
    qualities: tuple[int, ...] = QUALITIES
    enough: int = QUALITIES[-1]

    def write(self, picture: "Image.Image", quality: int) -> bytes:
        """The file of a picture at a quality of 1..95, as short as Pillow's defaults make it."""
        is_large = picture.width * picture.height > SMALL_PIXELS
        return self._file(picture, quality, (is_large and self.large_options) or self.options)

    def best_within(
        self, whole: "Image.Image", most_bytes: int, sides: Iterable[int], no_more_than_enough: bool = False
    ) -> bytes:
        """The stripped picture of the best quality within a budget, see `rate_control.best_within`."""

        def stripped(picture: "Image.Image", quality: int) -> bytes:
            return self.strip(self.write(picture, quality))

        def draft(picture: "Image.Image", quality: int) -> bytes:
            return self.strip(self._file(picture, quality, self.draft_options or self.options))

        drafts = draft if self.draft_options else None
        best = self.enough if no_more_than_enough else self.qualities[-1]
        return best_within(whole, most_bytes, stripped, sides, self.qualities, drafts, best)

    def _file(self, picture: "Image.Image", quality: int, options: Options) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, self.format, quality=quality, **dict(options))
        return buffer.getvalue()


def _av1_options(speed: int) -> Options:
    """Of Pillow. One thread gives the same bytes on any number of cores."""
    return ("speed", speed), ("subsampling", "4:2:0"), ("max_threads", 1)


SPEED, LARGE_SPEED, DRAFT_SPEED = 6, 8, 9
"""Of AV1's encoder, 0 (slowest) to 10: at the same length, speed 8 takes a third of 6's time. Behind an opinion, a
server is right as often with either where stills are larger than `SMALL_PIXELS`; in smaller ones 8 loses."""
_AV1_REPEATED = frozenset((
    1, 3, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22,
    24, 26, 28, 30, 32, 35, 37, 40, 42, 45, 47, 50,
    52, 56, 60, 64, 68, 72, 76, 80, 84, 88, 92,
))  # fmt: skip
AV1_QUALITIES = tuple(quality for quality in QUALITIES if quality not in _AV1_REPEATED)
"""Those that differ: libavif makes the same quantizer of some that lie side by side."""
AV1_ENOUGH = 65
"""At 224 pixels a side some 8,000 bytes, more for busy pictures and fewer for plain ones; with as many bytes for
every picture a server is right less often (docs/asking.md)."""
PADDING_BYTES = 4096
"""Zeros behind the data of a still that is read. A decoder that runs out of data, as it does where some are lost
or damaged, gives up on the whole picture; with zeros it shows what came before. They change no sound picture."""
CODECS = {
    codec.name: codec
    for codec in (
        Codec(
            *("avif", "AVIF", avif.strip, avif.rebuild, avif.has_settings),
            options=_av1_options(SPEED),
            large_options=_av1_options(LARGE_SPEED),
            draft_options=_av1_options(DRAFT_SPEED),
            qualities=AV1_QUALITIES,
            enough=AV1_ENOUGH,
        ),
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


def encode_within(
    pixels: NDArray[np.uint8],
    codec: str,
    most_bytes: int,
    side: int | None = None,
    *,
    no_more_than_enough: bool = False,
) -> bytes:
    """The stripped picture of the best quality that a budget pays for.

    Args:
        pixels: (H, W, 3) 8-bit pixels, each side at most 4096.
        codec: avif, webp or jpeg.
        most_bytes: budget, head included; it is met.
        side: longer side to which a larger picture is scaled down first; None: it stays as it is. Where even the
            worst quality is too long, the picture becomes smaller than that: the next of `SIDES`.
        no_more_than_enough: spend no more than a quality takes that is `enough` for a model.

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
    return chosen.best_within(whole, most_bytes, sides, no_more_than_enough)


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
