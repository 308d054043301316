"""JPEG segments, PNG chunks, RIFF chunks: counted and capped before a decoder opens a picture.

A decoder walks through them one by one, in Python or in quadratic time, whatever the picture's size in pixels.
The walk here is that of Pillow, so that nothing can be hidden from it; it ends at the first cap, and searches
between segments are those of `bytes` and NumPy: 20 MiB take some hundredths of a second, whatever they hold.
"""

import re
import struct
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

MAX_SEGMENTS = 1_000
"""Most segments of a JPEG, chunks of a WebP, and chunks of a PNG beside its image data. Usual are 5 to 50."""
MAX_DATA_CHUNKS = 10_000
"""Most chunks of a PNG that hold its image data: writers make one of 8 KiB each, or larger ones."""
MAX_FILL_BYTES = 1_000
"""Most bytes of a JPEG before its first scan that belong to no segment, and at once in a scan. Usual are none."""
MAX_SCANS = 30
"""Most scans of a JPEG: each costs a pass over all pixels, and may take but a few bytes. Usual are 1 to 10."""
MAX_EXIF_BYTES = 256 << 10
MAX_CLAIMED_BYTES = 1 << 20
"""Most bytes that the entries of EXIF data claim together; they may overlap."""
MAX_PROFILE_BYTES = 4 << 20
"""Longest colour profile (ICC)."""
MAX_RESOURCE_BYTES = 1 << 20
"""Most bytes of Photoshop's image resources, of 12 bytes or more each."""
_MOST_METADATA = {
    "EXIF data": MAX_EXIF_BYTES,
    "colour profiles": MAX_PROFILE_BYTES,
    "image resources": MAX_RESOURCE_BYTES,
}

_EOI, _SOS, _EXIF, _ICC, _PHOTOSHOP = 0xD9, 0xDA, 0xE1, 0xE2, 0xED
_WITHOUT_LENGTH = frozenset((0x01, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)))
"""Markers that Pillow reads no length after."""
_FILL_AT_ONCE = MAX_FILL_BYTES // 2
"""Every longer run of fill bytes than MAX_FILL_BYTES fills a whole row of so many."""
_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_MARKER_IN_SCAN = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
"""Between scans, \xff also stands before \x00 and restarts (ITU-T T.81, B.1.1)."""
_FIRST = np.uint8(2)
_NEAR, _MOST_AT_ONCE = 256, 1 << 16
"""Bytes in which the next marker is searched for by a regular expression, and then at once in arrays."""
_TYPE_SIZES = np.zeros(1 << 16, np.int64)
_TYPE_SIZES[:13] = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8)
"""Bytes of a value by its type (TIFF 6.0, section 2)."""


class ContainerError(ValueError):
    """A picture that a decoder would spend too much on; `reason` is a slug, the message says what is too much."""

    def __init__(self, message: str, reason: str) -> None:
        """The message follows the picture's name."""
        super().__init__(message)
        self.reason = reason


def check_container(data: bytes) -> None:
    """Counts the parts of a JPEG, PNG or WebP; other data pass.

    Raises:
        ContainerError: there are more of some part than the constants above allow.

    >>> exif = b"\\xff\\xe1\\x00\\x12Exif\\0\\0" + bytes(10)
    >>> check_container(b"\\xff\\xd8" + 1_000_000 * exif)
    Traceback (most recent call last):
        ...
    semlink.vision.containers.ContainerError: has more than 1000 segments
    """
    for start, check in _CHECKS.items():
        if data.startswith(start):
            check(data)


def _check_jpeg(data: bytes) -> None:
    position, fill, metadata = 2, 0, _Metadata()
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(data, position, position + MAX_FILL_BYTES - fill + 2)
        if found is None:
            if len(data) - position > MAX_FILL_BYTES - fill + 1:
                raise _too_much_fill()
            metadata.check()
            return
        fill += found.start() - position
        code, position = data[found.end() - 1], found.end()
        if code == _SOS:
            break
        if code not in _WITHOUT_LENGTH:
            end = position + int.from_bytes(data[position : position + 2])
            metadata.add_jpeg(code, data, position + 2, end)
            position = max(end, position + 2)
    else:
        raise _too_many_segments()
    metadata.check()
    _check_scans(data, found.start())


def _check_scans(data: bytes, position: int) -> None:
    scans = 0
    values = np.frombuffer(data, np.uint8)
    rows = values[position:]
    rows = rows[: rows.size // _FILL_AT_ONCE * _FILL_AT_ONCE].reshape(-1, _FILL_AT_ONCE)
    if (rows.min(axis=1) == 0xFF).any():
        raise _too_much_fill()
    for _ in range(MAX_SEGMENTS):
        position = _next_in_scan(data, values, position)
        if position < 0 or data[position + 1] == _EOI:
            return
        scans += data[position + 1] == _SOS
        if scans > MAX_SCANS:
            raise ContainerError(f"has more than {MAX_SCANS} scans", "picture_scans")
        position += 2
        position += int.from_bytes(data[position : position + 2])
    raise _too_many_segments()


def _next_in_scan(data: bytes, values: np.ndarray, position: int) -> int:
    """Where the next marker that ends entropy-coded data is; -1: nowhere."""
    if near := _MARKER_IN_SCAN.search(data, position, position + _NEAR):
        return near.start()
    start, length = position, _NEAR
    while start < len(data) - 1:
        block = values[start : start + length + 1]
        codes = block[1:]
        marks = (block[:-1] == 0xFF) & (codes - _FIRST <= 0xFC) & (codes & 0xF8 != 0xD0)  # as _MARKER_IN_SCAN
        first = int(marks.argmax())
        if marks[first]:
            return start + first
        start += length
        length = min(2 * length, _MOST_AT_ONCE)
    return -1


def _too_much_fill() -> ContainerError:
    return ContainerError(f"has more than {MAX_FILL_BYTES} bytes that belong to no segment", "picture_fill")


def _too_many_segments() -> ContainerError:
    return ContainerError(f"has more than {MAX_SEGMENTS} segments", "picture_segments")


class _Metadata:
    """Metadata as they are met, and how long those of each kind are together."""

    def __init__(self) -> None:
        self._exif: list[bytes] = []
        self._bytes = dict.fromkeys(_MOST_METADATA, 0)

    def add_jpeg(self, code: int, data: bytes, start: int, end: int) -> None:
        """A segment's content, if it is metadata."""
        if code == _EXIF and data.startswith(b"Exif\0\0", start):
            self.add_exif(data[start + 6 : end])
        elif code == _ICC and data.startswith(b"ICC_PROFILE\0", start):
            self.add("colour profiles", end - start)
        elif code == _PHOTOSHOP:
            self.add("image resources", end - start)

    def add_exif(self, content: bytes) -> None:
        """EXIF data that follow those before."""
        self.add("EXIF data", len(content))
        self._exif.append(content)

    def add(self, kind: str, length: int) -> None:
        """So many bytes of a kind."""
        self._bytes[kind] += length
        if self._bytes[kind] > _MOST_METADATA[kind]:
            raise ContainerError(f"has more than {_MOST_METADATA[kind]} bytes of {kind}", "picture_metadata")

    def check(self) -> None:
        """Checks the EXIF data as a whole."""
        check_exif(b"".join(self._exif))


def check_exif(data: bytes) -> None:
    """Sums what the entries of the first directory claim: a decoder copies it, and each may claim all of the data.

    Raises:
        ContainerError: the data are too long, or the entries claim more than MAX_CLAIMED_BYTES.
    """
    orders: dict[bytes, Literal["<", ">"]] = {b"II": "<", b"MM": ">"}
    order = orders.get(data[:2])
    if order is None or len(data) < 8:
        return
    if len(data) > MAX_EXIF_BYTES:
        raise ContainerError(f"has more than {MAX_EXIF_BYTES} bytes of EXIF data", "picture_metadata")
    (first,) = struct.unpack_from(f"{order}I", data, 4)
    entry = np.dtype([("tag", "u2"), ("type", "u2"), ("count", "u4"), ("value", "u4")]).newbyteorder(order)
    (claimed,) = struct.unpack(f"{order}H", data[first : first + 2].ljust(2, b"\0"))
    number = min(claimed, max(len(data) - first - 2, 0) // entry.itemsize)
    entries = np.frombuffer(data, entry, number, first + 2) if number else np.empty(0, entry)
    if np.minimum(entries["count"] * _TYPE_SIZES[entries["type"]], len(data)).sum() > MAX_CLAIMED_BYTES:
        raise ContainerError(
            f"has EXIF data whose entries claim more than {MAX_CLAIMED_BYTES} bytes", "picture_metadata"
        )


def _check_png(data: bytes) -> None:
    position, others, image_data, metadata = 8, 0, 0, _Metadata()
    while position + 8 <= len(data):
        length, kind = int.from_bytes(data[position : position + 4]), data[position + 4 : position + 8]
        if kind == b"IEND":
            break
        if kind == b"IDAT":
            image_data += 1
        else:
            others += 1
        if others > MAX_SEGMENTS or image_data > MAX_DATA_CHUNKS:
            most = MAX_SEGMENTS if others > MAX_SEGMENTS else f"{MAX_DATA_CHUNKS} data"
            raise ContainerError(f"has more than {most} chunks", "picture_segments")
        if kind == b"eXIf":
            metadata.add_exif(data[position + 8 : position + 8 + length])
        elif kind == b"iCCP":  # compressed; Pillow inflates each to at most 1 MiB
            metadata.add("colour profiles", max(length, 1 << 20))
        position += 12 + length
    metadata.check()


def _check_webp(data: bytes) -> None:
    position, metadata = 12, _Metadata()
    for _ in range(MAX_SEGMENTS):
        if position + 8 > len(data):
            metadata.check()
            return
        kind, length = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        if kind == b"EXIF":
            metadata.add_exif(data[position + 8 : position + 8 + length].removeprefix(b"Exif\0\0"))
        elif kind == b"ICCP":
            metadata.add("colour profiles", length)
        position += 8 + length + length % 2
    raise ContainerError(f"has more than {MAX_SEGMENTS} chunks", "picture_segments")


_CHECKS: Mapping[bytes, Callable[[bytes], None]] = {
    b"\xff\xd8": _check_jpeg,
    b"\x89PNG\r\n\x1a\n": _check_png,
    b"RIFF": _check_webp,
}
