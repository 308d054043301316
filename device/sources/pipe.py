"""Standard input: JPEG, PNG and WebP pictures, one after the other, as from `ffmpeg -f image2pipe`."""

import os
import sys
import threading
from collections.abc import Iterator

from device.sources.boundaries import split_pictures
from device.sources.source import Picture, SourceError

CHUNK_BYTES = 1 << 16


class Pipe:
    """A file descriptor from which pictures are read until its end."""

    def __init__(self, descriptor: int, name: str) -> None:
        """`name` is what its pictures are called, with their number."""
        self._descriptor, self._name = descriptor, name

    def pictures(self, stop: threading.Event) -> Iterator[Picture]:
        """Reads on when the last picture was taken, so that whoever writes waits."""

        # Not through sys.stdin, whose lock a thread that stands in a read would hold at the process's end.
        def read() -> bytes:
            return b"" if stop.is_set() else os.read(self._descriptor, CHUNK_BYTES)

        try:
            for number, data in enumerate(split_pictures(read)):
                yield Picture(f"{self._name} {number}", data)
        except OSError as error:
            raise SourceError(f"{self._name} cannot be read: {error.strerror}") from None


def standard_input() -> Pipe:
    """The process's standard input.

    Raises:
        SourceError: it is a terminal.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise SourceError("--images - reads pictures from standard input: pipe them in, as in cat *.jpg | ...")
    return Pipe(sys.stdin.fileno(), "standard input")
