"""Uploads: pictures of the page's reader, decoded apart, and held as what cameras see of them."""

import asyncio
import contextlib
import signal
import sys
from asyncio.subprocess import PIPE, Process

from device.camera import VIEWPOINTS
from semlink.vision import picture_worker
from semlink.vision.images import IMAGE_SIZE, ImageError
from studio import view_worker

MOST_AT_ONCE, MOST_WAITING = 2, 8
"""Pictures that are decoded at once, and those that may wait for it beside them."""
MAX_SECONDS = 30.0
"""Longest time for one picture; its process computes for no longer than 20 s."""
END_SECONDS = 1.0
"""How long a process whose output has ended may take to end."""
VIEW_BYTES = IMAGE_SIZE * IMAGE_SIZE * 3


class TooManyPictures(Exception):
    """As many pictures wait to be decoded as may."""


class Uploads:
    """Decodes pictures in processes of their own, a few at once."""

    def __init__(self) -> None:
        """No process is started yet."""
        self._places = asyncio.Semaphore(MOST_AT_ONCE)
        self._inside = 0

    async def seen_of(self, data: bytes) -> list[bytes]:
        """What cameras see of a picture: (224, 224, 3) bytes of the whole of it, then of each viewpoint.

        Raises:
            ImageError: no such picture, or one that costs too much to decode.
            TooManyPictures: as many wait as may.
        """
        if self._inside >= MOST_AT_ONCE + MOST_WAITING:
            raise TooManyPictures("as many pictures wait to be decoded as may: try again")
        self._inside += 1
        try:
            async with self._places:
                return await _seen_of(data)
        finally:
            self._inside -= 1


async def _seen_of(data: bytes) -> list[bytes]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-W", "ignore", "-m", view_worker.__name__),
        stdin=PIPE, stdout=PIPE, env=picture_worker.environment(), start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(MAX_SECONDS):
            answer = await _answer(process, data)
    except TimeoutError:
        raise ImageError("the image takes too long to be decoded", "picture_slow") from None
    except (EOFError, OSError, TypeError, ValueError):  # it has died, or says what no worker does
        is_slow = await _status(process) == -signal.SIGXCPU
        why = "takes too long to be decoded" if is_slow else "ended the process that decoded it"
        raise ImageError(f"the image {why}", "picture_slow" if is_slow else "picture_malformed") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await _status(process)
    if isinstance(answer, ImageError):
        raise answer
    return [answer[at : at + VIEW_BYTES] for at in range(0, len(answer), VIEW_BYTES)]


async def _answer(process: Process, data: bytes) -> bytes | ImageError:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(data)
    process.stdin.write_eof()
    return await picture_worker.read_answer(process.stdout, (1 + len(VIEWPOINTS)) * VIEW_BYTES)


async def _status(process: Process) -> int | None:
    """The exit status, or None if it has none after `END_SECONDS`; to kill it before might lose the status."""
    assert process.stdout is not None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            while await process.stdout.read(VIEW_BYTES):  # while much is unread, `wait` does not return
                pass
            await process.wait()
    return process.returncode
