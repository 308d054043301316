"""Decoder process: pictures from standard input to a model's pixels, within limits on memory and computing time.

`python -m semlink.vision.picture_worker JPEG PNG` decodes hostile pictures in a process that may be killed at any
time; with `FRAME` instead of formats it decodes frames of those source coders that hand a payload to a codec's
library, such as AVIF's. It knows no secrets, loads no torch, and writes nothing but its answers. Of each answer
the first byte is its kind: READY once, when the process has started; BEGUN when it has read the length of a
picture; then PIXELS with (224, 224, 3) bytes, or REFUSED with the length (4 bytes) and the text of a JSON object
`message`, `reason`.
"""

import contextlib
import fcntl
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from semlink.frame import FrameError
from semlink.vision.images import IMAGE_SIZE, ImageError, model_pixels, open_image

MAX_MEMORY_BYTES = 1 << 30
"""Address space of the process; a progressive JPEG in CMYK of 50 million pixels takes 0.7 GB."""
MAX_CPU_SECONDS = 10
"""Computing time of one picture; a progressive JPEG of 50 million pixels takes some four."""
MAX_HELD_BYTES = 192 << 20
"""Memory that the process may hold when it has answered; above, it ends, so that the memory comes back."""
FRAME = "FRAME"
"""In place of formats: frames."""
READY, BEGUN, PIXELS, REFUSED = b"S", b"B", b"P", b"R"
LENGTH_BYTES = 4
"""Of the length before each picture, and before each refusal; big-endian."""


def main(formats: tuple[str, ...]) -> None:
    """Answers pictures until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; who started this process decides when it ends
    # Whatever a library prints must not get between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    pictures = sys.stdin.buffer
    with contextlib.suppress(AttributeError, OSError):  # of Linux; an answer is then written at once
        fcntl.fcntl(answers, fcntl.F_SETPIPE_SZ, 1 << 18)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(
        ValueError, OSError
    ):  # where less is allowed already, or the system knows no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    with contextlib.suppress(BrokenPipeError):
        _write(answers, READY)
        while _held_bytes() <= MAX_HELD_BYTES and (length := pictures.read(LENGTH_BYTES)):
            _write(answers, BEGUN)
            _write(answers, _answer(pictures.read(int.from_bytes(length)), formats))


def _answer(data: bytes, formats: tuple[str, ...]) -> bytes:
    limit = int(time.process_time()) + MAX_CPU_SECONDS + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))  # then SIGXCPU ends the process
    try:
        pixels = _frame(data) if formats == (FRAME,) else model_pixels(open_image(data, formats))
        return PIXELS + pixels.tobytes()
    except (FrameError, ImageError) as error:
        refusal = {"message": str(error), "reason": error.reason}
    except MemoryError:
        refusal = {"message": "the image needs more memory than there is", "reason": "picture_memory"}
    text = json.dumps(refusal).encode()
    return REFUSED + len(text).to_bytes(LENGTH_BYTES) + text


def _frame(data: bytes) -> NDArray[np.uint8]:
    from PIL import AvifImagePlugin

    from semlink.source.registry import decode, read_frame

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # else one a core, each with address space of its own
    frame = read_frame(data)
    if frame.shape != (IMAGE_SIZE, IMAGE_SIZE, 3):
        raise FrameError("sides", f"the model takes pictures of {IMAGE_SIZE} x {IMAGE_SIZE}, not {frame.shape}")
    return np.clip(np.rint(decode(frame)), 0, 255).astype(np.uint8)


def _write(answers: BinaryIO, data: bytes) -> None:
    while data:
        data = data[answers.write(data) :]


def _held_bytes() -> int:
    """Memory in use; 0 where no /proc tells."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


if __name__ == "__main__":
    main(tuple(sys.argv[1:]))
