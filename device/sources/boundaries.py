"""Boundaries of JPEG, PNG and WebP pictures in a stream of bytes: found by markers and chunks, not decoded."""

import re
from collections.abc import Callable, Generator, Iterator

from device.sources.source import SourceError
from semlink.vision.containers import MAX_DATA_CHUNKS, MAX_SEGMENTS
from semlink.vision.images import MAX_IMAGE_BYTES

MAX_PARTS = MAX_SEGMENTS + MAX_DATA_CHUNKS
"""Segments and fill bytes of a JPEG, or chunks of a PNG: with more, which decoders are not given, it is none."""

_PNG = b"\x89PNG\r\n\x1a\n"
_START = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP", re.DOTALL)
_START_BYTES = 12
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""Of a JPEG, within a scan (ITU-T T.81, B.1.1.2): neither a stuffed byte nor a restart."""
_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN, _FILL = 0xD8, 0xD9, 0xDA, 0xFF

_Scan = Generator[None, None, int | None]
"""Looks for the end of a picture that begins at 0; yields where it needs more bytes; None where there is none."""


def split_pictures(read: Callable[[], bytes]) -> Iterator[bytes]:
    """Single pictures of a stream in which they follow each other, as from `cat a.jpg b.png` or `image2pipe`.

    What stands between two pictures, is cut off at the end, or is longer than a picture may be, is given too: it
    is refused where it is decoded, by a message that says why.

    Args:
        read: gives some bytes, or none at the end.

    Raises:
        SourceError: no picture begins within as many bytes as one may have.
    """
    data, other = bytearray(), bytearray()
    while True:
        piece, is_picture = _next_piece(data, read)
        if not is_picture:
            other += piece
        if len(other) > MAX_IMAGE_BYTES:
            raise SourceError(f"no JPEG, PNG or WebP picture begins within {len(other)} bytes")
        if other and (is_picture or not piece):
            yield bytes(other)
            other.clear()
        if not piece:
            return
        if is_picture:
            yield piece


def _next_piece(data: bytearray, read: Callable[[], bytes]) -> tuple[bytes, bool]:
    """Takes a picture off `data`, or what stands before one, and says whether it is one; nothing at the end."""
    scan = _end_of_picture(data)
    try:
        while True:
            next(scan)
            if len(data) > MAX_IMAGE_BYTES:  # one that is too long is refused as such
                end, is_picture = len(data), _START.match(data) is not None
                break
            if not (more := read()):
                end, is_picture = len(data), False
                break
            data += more
    except StopIteration as found:
        end, is_picture = found.value
    piece = bytes(data[:end])
    del data[:end]
    return piece, is_picture


def is_whole(data: bytes) -> bool:
    """Whether a file begins with a picture whose end is there too; False while it is being written."""
    if not _START.match(data):
        return False
    try:
        next(_end_of_picture(bytearray(data)))
    except StopIteration as found:
        _, is_picture = found.value
        return bool(is_picture)
    return False


def _end_of_picture(data: bytearray) -> Generator[None, None, tuple[int, bool]]:
    """Where the picture ends, or where the next one may begin, and which of both."""
    yield from _until(data, _START_BYTES)
    end: int | None = None
    if data.startswith(b"\xff\xd8\xff"):
        end = yield from _jpeg(data)
    elif data.startswith(_PNG):
        end = yield from _png(data)
    elif _START.match(data):
        size = int.from_bytes(data[4:8], "little")
        end = 8 + size + size % 2
        yield from _until(data, end)
    if end is not None:
        return end, True
    position = 1
    while not (found := _START.search(data, position)):
        position = max(len(data) - _START_BYTES + 1, 1)
        yield
    return found.start(), False


def _jpeg(data: bytearray) -> _Scan:
    position = 2
    for _ in range(MAX_PARTS):
        yield from _until(data, position + 4 if len(data) > position + 4 else position + 2)
        if data[position] != _FILL:
            return None
        marker = data[position + 1]
        if marker == _END_OF_IMAGE:
            return position + 2
        if marker == _START_OF_IMAGE:  # the last picture was cut off
            return None
        if marker == _FILL:
            position += 1
            continue
        yield from _until(data, position + 4)
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
        if marker == _START_OF_SCAN:
            while not (found := _MARKER.search(data, position)):
                position = max(len(data) - 1, position)
                yield
            position = found.start()
    return None


def _png(data: bytearray) -> _Scan:
    position = len(_PNG)
    for _ in range(MAX_PARTS):
        yield from _until(data, position + 8)
        length, name = int.from_bytes(data[position : position + 4]), data[position + 4 : position + 8]
        if length > MAX_IMAGE_BYTES or not name.isalpha():
            return None
        position += 12 + length
        if name == b"IEND":
            yield from _until(data, position)
            return position
    return None


def _until(data: bytearray, length: int) -> Generator[None, None, None]:
    while len(data) < length:
        yield
