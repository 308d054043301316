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
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

import semlink
from semlink.frame import FrameError
from semlink.vision.images import IMAGE_SIZE, ImageError, model_pixels, open_image

if TYPE_CHECKING:
    from asyncio import StreamReader

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
MAX_REFUSAL_BYTES = 1 << 16
"""Of a refusal's text; a process that a picture has taken over may announce gigabytes."""


def main(formats: tuple[str, ...]) -> None:
    """Answers pictures until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; who started this process decides when it ends
    answers, pictures = own_output(), sys.stdin.buffer
    limit_memory()
    if formats == (FRAME,):
        _load_coders()
    with contextlib.suppress(BrokenPipeError):
        write(answers, READY)
        while _held_bytes() <= MAX_HELD_BYTES and (length := pictures.read(LENGTH_BYTES)):
            write(answers, BEGUN)
            write(answers, _answer(pictures.read(int.from_bytes(length)), formats))


def own_output() -> BinaryIO:
    """Standard output for answers alone: what a library prints goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with contextlib.suppress(AttributeError, OSError):  # of Linux; an answer is then written at once
        fcntl.fcntl(answers, fcntl.F_SETPIPE_SZ, 1 << 18)
    return answers


def limit_memory() -> None:
    """Keeps this process to MAX_MEMORY_BYTES, where the system can, and has it write no core."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(
        ValueError, OSError
    ):  # where less is allowed already, or the system knows no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))


def limit_computing() -> None:
    """Gives this process MAX_CPU_SECONDS from now on; then SIGXCPU ends it."""
    limit = int(time.process_time()) + MAX_CPU_SECONDS + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


def answer_of(pixels: Callable[[], bytes]) -> bytes:
    """PIXELS and what `pixels` gives, or REFUSED and why it gives nothing."""
    try:
        return PIXELS + pixels()
    except (FrameError, ImageError) as error:
        refusal = {"message": str(error), "reason": error.reason}
    except MemoryError:
        refusal = {"message": "the image needs more memory than there is", "reason": "picture_memory"}
    text = json.dumps(refusal).encode()
    return REFUSED + len(text).to_bytes(LENGTH_BYTES) + text


async def read_answer(answers: "StreamReader", size: int) -> bytes | ImageError:
    """Reads what `answer_of` makes of pixels of `size` bytes, in the process that asked.

    Raises:
        EOFError: it broke off.
        TypeError, ValueError: no such process says that.
    """
    if await answers.readexactly(1) == PIXELS:
        return await answers.readexactly(size)
    length = int.from_bytes(await answers.readexactly(LENGTH_BYTES))
    if length > MAX_REFUSAL_BYTES:
        raise ValueError(f"a refusal of {length} bytes, and no more than {MAX_REFUSAL_BYTES} are read")
    return ImageError(**json.loads(await answers.readexactly(length)))


def environment() -> dict[str, str]:
    """What such a process needs; it decodes what strangers sent, and knows no secrets."""
    root = str(Path(semlink.__file__).parents[1])
    found = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    passed_on = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return passed_on | {"PYTHONPATH": found, "OPENBLAS_NUM_THREADS": "1"}


def _answer(data: bytes, formats: tuple[str, ...]) -> bytes:
    limit_computing()
    return answer_of(
        lambda: (_frame(data) if formats == (FRAME,) else model_pixels(open_image(data, formats))).tobytes()
    )


def _load_coders() -> None:
    """Before the first frame, which would take several times as long as others, and be taken for a slow one."""
    from PIL import AvifImagePlugin

    import semlink.source.registry  # noqa: F401

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # else one a core, each with address space of its own


def _frame(data: bytes) -> NDArray[np.uint8]:
    from semlink.source.registry import decode, read_frame

    frame = read_frame(data)
    if frame.shape != (IMAGE_SIZE, IMAGE_SIZE, 3):
        raise FrameError("sides", f"the model takes pictures of {IMAGE_SIZE} x {IMAGE_SIZE}, not {frame.shape}")
    return np.clip(np.rint(decode(frame)), 0, 255).astype(np.uint8)


def write(answers: BinaryIO, data: bytes) -> None:
    """Writes all of it to a pipe."""
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
