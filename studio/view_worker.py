"""View worker: a picture from standard input to what cameras see of it, within limits on memory and time.

`python -m studio.view_worker` decodes one picture that a stranger may have made, in a process that may be killed
at any time, and ends. Its answer is one of `semlink.vision.picture_worker`: PIXELS and (1 + V, 224, 224, 3) bytes,
the whole picture and what each of the V viewpoints shows of it; or REFUSED.
"""

import os
import sys

from device.camera import VIEWPOINTS, take_view
from semlink.vision.images import IMAGE_SIZE, open_image
from semlink.vision.picture_worker import answer_of, limit_computing, limit_memory, own_output, write

LOW_PRIORITY = 10
SHORT_SIDE = 4 * IMAGE_SIZE
"""In pixels, of a photo that is turned: one that is twice as large, or more, is made smaller before."""


def _seen(data: bytes) -> bytes:
    limit_computing()
    photo = open_image(data)
    limit_computing()  # as much again, for the views
    whole, smaller = take_view(photo), photo.reduce(max(min(photo.size) // SHORT_SIDE, 1))
    return b"".join(view.tobytes() for view in (whole, *(take_view(smaller, each) for each in VIEWPOINTS)))


def main() -> None:
    """Answers the picture that standard input holds."""
    os.nice(LOW_PRIORITY)  # frames come first
    answers = own_output()
    limit_memory()
    data = sys.stdin.buffer.read()
    write(answers, answer_of(lambda: _seen(data)))


if __name__ == "__main__":
    main()
