"""WebP container of a VP8 key frame: taken off for the air, and made anew from four bytes at the receiver.

A simple lossy WebP file is 20 bytes of RIFF, then one VP8 frame (RFC 6386, section 9.1): a tag of 3 bytes, a start
code of 3 and the sides, 4. Start code and sides are left out too. The receiver writes the sides itself: no payload
can claim others than those of its head.

Settings: the tag's first byte, which says that the frame is a key frame and is shown, its version, and three bits
of the length of its first partition.
"""

import struct

from semlink.source.codec.head import HEAD_BYTES, Head, StripError

_START_CODE = b"\x9d\x01\x2a"
_RIFF = struct.Struct("<4sI4s4sI")
_TAG_BYTES, _SIDES_END = 3, 10
MAX_VERSION = 3


def strip(file: bytes) -> bytes:
    """Takes the container off a simple lossy WebP file.

    Returns:
        Head, the rest of the frame's tag, and the frame from behind its sides on.

    Raises:
        StripError: the file has what `rebuild` would not write.
    """
    if len(file) < _RIFF.size + _SIDES_END:
        raise StripError(f"{len(file)} bytes are too few for a lossy WebP file")
    riff, size, form, kind, length = _RIFF.unpack_from(file)
    if (riff, form, kind) != (b"RIFF", b"WEBP", b"VP8 ") or size + 8 != len(file):
        raise StripError("no simple lossy WebP file")
    frame = file[_RIFF.size : _RIFF.size + length]
    if len(frame) != length or len(file) != _RIFF.size + length + length % 2:
        raise StripError(f"a VP8 frame of {length} bytes in a file of {len(file)}")
    if not has_settings(frame[0]) or frame[_TAG_BYTES : _TAG_BYTES + 3] != _START_CODE:
        raise StripError("a VP8 frame that is no key frame")
    width, height = struct.unpack_from("<HH", frame, _TAG_BYTES + 3)
    try:
        head = Head(height, width, frame[0])  # two more bits of each side ask for scaling, and make it too long
    except ValueError as error:
        raise StripError(str(error)) from None
    return head.to_bytes() + frame[1:_TAG_BYTES] + frame[_SIDES_END:]


def rebuild(stripped: bytes) -> bytes:
    """The WebP file of a stripped one.

    Args:
        stripped: what `strip` gave, its content perhaps damaged.

    Raises:
        ValueError: it is shorter than a head.
    """
    head, content = Head.from_bytes(stripped), stripped[HEAD_BYTES:]
    tag = bytes([head.settings]) + content[: _TAG_BYTES - 1].ljust(_TAG_BYTES - 1, b"\0")
    sides = struct.pack("<HH", head.width, head.height)
    frame = tag + _START_CODE + sides + content[_TAG_BYTES - 1 :]
    padding = len(frame) % 2
    size = _RIFF.size - 8 + len(frame) + padding
    return _RIFF.pack(b"RIFF", size, b"WEBP", b"VP8 ", len(frame)) + frame + bytes(padding)


def has_settings(settings: int) -> bool:
    """Whether a frame whose tag begins with this byte is a key frame that is shown, of a known version."""
    return settings & 0b1_0001 == 0b1_0000 and settings >> 1 & 0b111 <= MAX_VERSION
