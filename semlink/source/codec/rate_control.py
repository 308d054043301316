"""Rate control: the best quality of a still that a budget of bytes pays for, found in few files.

Codecs are told a quality, not a length. Lengths nearly always rise with quality, their logarithms by nearly even
steps, so that a straight line through what is known guesses the next quality to try: fewer files than bisection.

AV1 is slow: a file of 160 pixels a side takes half of a vision transformer's forward pass. A draft by a faster
setting takes a tenth of that and is longer by nearly the same factor in any picture, so drafts find the place, and
slow files, one or two, settle it (benchmarks/opinion.py).
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

Write = Callable[["Image.Image", int], bytes]
"""A picture and a quality -> the bytes that count."""

QUALITIES = tuple(range(1, 96))
"""Of Pillow, ascending; above, files grow and nothing is seen."""
TYPICAL_QUALITY = 70
"""The first one to be tried."""
TYPICAL_GROWTH = 3.8
"""Of the logarithm of a file's length, from the worst quality to the best."""
SIDES = (224, 192, 160, 128, 96, 64, 48, 32, 24, 16, 8)
"""Sides to which a picture is scaled down where even the worst quality is too long for its budget."""
WORST_BYTES = 0.016
"""Of a draft of AV1 at the worst quality, for each pixel; of photos of 112 to 224 pixels a side 0.013 to 0.019."""
MOST_DRAFTS = 4
NEAR_PLACES = 2
"""From a draft that is so near, the straight line is as good as another draft."""
DRAFT_EXCESS = 0.07
"""Logarithm of the length of a draft of AV1 over that of the still at the same quality: 0.05 to 0.15 on photos."""
CLOSE = 0.07
"""Logarithm of the budget over the length of a still that is close enough where there are drafts: a step of AV1's
quality lengthens a file by 0.04 to 0.13, so that the next one would seldom fit."""


def best_within(
    whole: "Image.Image",
    most_bytes: int,
    write: Write,
    sides: Iterable[int] = SIDES,
    qualities: Sequence[int] = QUALITIES,
    draft: Write | None = None,
    enough: int = QUALITIES[-1],
) -> bytes:
    """What `write` gives at the highest quality within a budget; smaller only where it must be.

    Args:
        whole: the picture.
        most_bytes: budget.
        write: makes what counts.
        sides: longer sides of the picture to try one after the other; it is never enlarged.
        qualities: those to try, ascending.
        draft: as `write`, faster and longer by `DRAFT_EXCESS` or so; a still that is `CLOSE` to the budget is
            then good enough.
        enough: best quality to try.

    Raises:
        ValueError: the budget is below all of them.
    """
    for side in sides if most_bytes > 0 else ():
        scale = side / max(whole.size)
        sizes = max(round(whole.width * scale), 1), max(round(whole.height * scale), 1)
        picture = whole if scale >= 1 else whole.resize(sizes)
        if (best := _best_quality(picture, most_bytes, write, qualities, draft, enough)) is not None:
            return best
    raise ValueError(f"budget: {most_bytes} bytes are too few for this picture at any quality and side")


def _best_quality(
    picture: "Image.Image",
    most_bytes: int,
    write: Write,
    qualities: Sequence[int],
    draft: Write | None,
    enough: int,
) -> bytes | None:
    """What fits the budget at the highest quality, or is close enough; None where nothing fits."""
    growth = TYPICAL_GROWTH / len(qualities)
    best = None
    low, high = -1, bisect_right(qualities, enough)  # places that are known to fit, and not to
    excess: dict[int, float] = {}  # of a place's length over the budget, as a logarithm
    if draft is None:
        place = min(bisect_left(qualities, TYPICAL_QUALITY), high - 1)
    else:
        place = _drafted(picture, most_bytes, draft, qualities, high - 1)
    while high - low > 1:
        data = write(picture, qualities[place])
        excess[place] = math.log(len(data) / most_bytes)
        if excess[place] <= 0:
            low, best = place, data
            if draft is not None and excess[place] >= -CLOSE:
                break
        else:
            high = place
        if low in excess and high in excess:
            step = (high - low) * excess[low] / (excess[low] - excess[high])
            guess = low + round(step)
        else:
            guess = place - math.ceil(excess[place] / growth)
        place = min(max(guess, low + 1), high - 1)
    return best


def _drafted(picture: "Image.Image", most_bytes: int, draft: Write, qualities: Sequence[int], highest: int) -> int:
    """Place among the qualities, at most the highest, where drafts say that the budget is met."""
    growth = TYPICAL_GROWTH / len(qualities)
    excess = math.log(WORST_BYTES * picture.width * picture.height / most_bytes)  # as if of a draft at place 0
    place, drafts = 0, 0
    while True:
        guess = max(place - math.ceil((excess - DRAFT_EXCESS) / growth), 0)
        near = drafts and abs(min(guess, highest) - place) <= NEAR_PLACES
        if drafts == MOST_DRAFTS or near or (not drafts and guess > highest + NEAR_PLACES):
            return min(guess, highest)
        place = min(guess, highest)
        excess = math.log(len(draft(picture, qualities[place])) / most_bytes)
        drafts += 1
