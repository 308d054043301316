"""AVIF container of an AV1 still: taken off for the air, and made anew from four bytes at the receiver.

An AVIF file of a small picture is mostly boxes (ISO/IEC 14496-12, 23000-22): some 280 bytes that say again what
the AV1 sequence header says. That header follows in turn from the sides and one byte, so that of the file's AV1
units (AV1 specification, section 5.3: open bitstream units, OBUs) only the content of the frame is sent. The
receiver writes the sequence header itself: no payload can claim other sides than those of its head.

Settings, most significant bit first: chroma 2 (0 none, 1 4:2:0, 2 4:2:2, 3 4:4:4), then one bit for each of
use_128x128_superblock, enable_filter_intra, enable_intra_edge_filter, enable_cdef, enable_restoration and
separate_uv_delta_q. All else is fixed: 8 bits, full range, the colours that libavif writes for sRGB, one frame.
"""

import struct
from collections.abc import Iterator

from semlink.source.codec.head import HEAD_BYTES, Head, StripError

SEQUENCE_HEADER, TEMPORAL_DELIMITER, FRAME = 1, 2, 6
"""Types of OBUs."""
GREY, YUV420, YUV422, YUV444 = range(4)
"""Chroma of the settings."""
COLOURS = 1, 13, 6
"""Primaries, transfer and matrix of ITU-T H.273: BT.709, sRGB, BT.601."""
_PROFILES = (0, 0, 2, 1)
"""seq_profile by chroma."""
_TIERS_AND_SUBSAMPLING = (0x1C, 0x0C, 0x08, 0x00)
"""Byte of av1C with monochrome and chroma subsampling, by chroma."""


def strip(file: bytes) -> bytes:
    """Takes the container off an AVIF file of one AV1 still, as Pillow writes it.

    Args:
        file: an AVIF file of 8 bits without transparency or turns.

    Returns:
        Head and content of the frame OBU.

    Raises:
        StripError: the file has what `rebuild` would not write.
    """
    units = list(_units(_item(file)))
    if units[:1] == [(TEMPORAL_DELIMITER, b"")]:
        units = units[1:]
    if [kind for kind, _ in units] != [SEQUENCE_HEADER, FRAME]:
        raise StripError(f"an AV1 still is a sequence header and a frame, not OBUs {[kind for kind, _ in units]}")
    sequence, frame = (content for _, content in units)
    return _read_sequence_header(sequence).to_bytes() + frame


def rebuild(stripped: bytes) -> bytes:
    """An AVIF file of a stripped one; it decodes to the same pixels.

    Args:
        stripped: what `strip` gave, its content perhaps damaged: whatever it is, it stays within one frame OBU.

    Raises:
        ValueError: it is shorter than a head.
    """
    head, frame = Head.from_bytes(stripped), stripped[HEAD_BYTES:]
    obus = _obu(TEMPORAL_DELIMITER, b"") + _obu(SEQUENCE_HEADER, _sequence_header(head)) + _obu(FRAME, frame)
    chroma = head.settings >> 6
    planes = 1 if chroma == GREY else 3
    properties = _box(
        b"ipco",
        _full_box(b"ispe", struct.pack(">II", head.width, head.height))
        + _full_box(b"pixi", bytes([planes]) + planes * b"\x08")
        + _box(b"av1C", bytes([0x81, _PROFILES[chroma] << 5, _TIERS_AND_SUBSAMPLING[chroma], 0]))
        + _box(b"colr", b"nclx" + struct.pack(">HHHB", *COLOURS, 0x80)),
    )
    associations = _full_box(b"ipma", struct.pack(">IHB4B", 1, 1, 4, 1, 2, 0x83, 4))
    beginning = _box(b"ftyp", b"avif" + bytes(4) + b"avifmif1miaf")

    def meta(start: int) -> bytes:
        """With the place of the frame's data in the file."""
        return _full_box(
            b"meta",
            _full_box(b"hdlr", bytes(4) + b"pict" + bytes(13))
            + _full_box(b"pitm", struct.pack(">H", 1))
            + _full_box(b"iloc", struct.pack(">BBHHHHII", 0x44, 0, 1, 1, 0, 1, start, len(obus)))
            + _full_box(b"iinf", struct.pack(">H", 1) + _box(b"infe", b"\2\0\0\0\0\1\0\0av01\0"))
            + _box(b"iprp", properties + associations),
        )

    start = len(beginning) + len(meta(0)) + 8
    return beginning + meta(start) + _box(b"mdat", obus)


def has_settings(settings: int) -> bool:
    """Whether settings are some that a still may have: any, but a flag of chroma without chroma."""
    return settings >> 6 != GREY or not settings & 1


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _full_box(kind: bytes, content: bytes) -> bytes:
    """Of version 0, without flags."""
    return _box(kind, bytes(4) + content)


def _item(file: bytes) -> bytes:
    """The AV1 data of the file's one item."""
    boxes = dict(_boxes(file))
    meta = dict(_boxes(boxes.get(b"meta", b"")[4:]))
    if boxes.get(b"ftyp", b"")[:4] != b"avif" or not {b"iinf", b"iprp"} <= set(meta) or b"mdat" not in boxes:
        raise StripError("no AVIF file of one still")
    if meta[b"iinf"][4:6] != b"\0\1":
        raise StripError("an AVIF file of one item is wanted: no transparency, EXIF data or thumbnail")
    properties = dict(_boxes(meta[b"iprp"])).get(b"ipco", b"")
    if other := {kind for kind, _ in _boxes(properties)} - {b"ispe", b"pixi", b"av1C", b"colr"}:
        raise StripError(f"an AVIF file with the properties {b', '.join(sorted(other)).decode('latin1')}")
    colours = [content for kind, content in _boxes(properties) if kind == b"colr"]
    if any(content != b"nclx" + struct.pack(">HHHB", *COLOURS, 0x80) for content in colours):
        raise StripError("an AVIF file of other colours than sRGB in full range")
    return boxes[b"mdat"]


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of boxes one behind the other."""
    position = 0
    while position < len(data):
        size, kind = struct.unpack_from(">I4s", data.ljust(position + 8, b"\0"), position)
        if not 8 <= size <= len(data) - position:
            raise StripError(f"a box of {size} bytes where {len(data) - position} are left")
        yield kind, data[position + 8 : position + size]
        position += size


def _obu(kind: int, content: bytes) -> bytes:
    """With its size (AV1 specification, 5.3.1 and 4.10.5)."""
    size, rest = bytearray(), len(content)
    while rest > 127:
        size.append(rest & 127 | 128)
        rest >>= 7
    return bytes([kind << 3 | 2, *size, rest]) + content


def _units(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and content of OBUs one behind the other, each with its size."""
    position = 0
    while position < len(data):
        first = data[position]
        if first & 0b1000_0111 != 2:
            raise StripError(f"an OBU whose header is {first:#04x}")
        size = shift = 0
        more = True
        while more:
            position += 1
            if position >= len(data) or shift > 28:
                raise StripError("an OBU without a size")
            size |= (data[position] & 127) << shift
            shift, more = shift + 7, data[position] > 127
        position += 1
        if size > len(data) - position:
            raise StripError(f"an OBU of {size} bytes where {len(data) - position} are left")
        yield first >> 3, data[position : position + size]
        position += size


def _sequence_header(head: Head, level: int = 0) -> bytes:
    """The one sequence header of a head (AV1 specification, 5.5): a still with a reduced header."""
    chroma = head.settings >> 6
    superblock, filter_intra, edge, cdef, restoration, separate = (
        head.settings >> bit & 1 for bit in range(5, -1, -1)
    )
    across, down = (head.width - 1).bit_length() or 1, (head.height - 1).bit_length() or 1
    fields = [(_PROFILES[chroma], 3), (0b11, 2), (level, 5), (across - 1, 4), (down - 1, 4)]
    fields += [(head.width - 1, across), (head.height - 1, down)]
    fields += [(superblock, 1), (filter_intra, 1), (edge, 1), (0, 1), (cdef, 1), (restoration, 1)]
    fields += [(0, 1)]  # 8 bits
    if chroma != YUV444:
        fields += [(int(chroma == GREY), 1)]
    fields += [(1, 1), *((number, 8) for number in COLOURS), (1, 1)]
    if chroma == YUV420:
        fields += [(0, 2)]  # chroma sample position
    if chroma != GREY:
        fields += [(separate, 1)]
    fields += [(0, 1), (1, 1)]  # film grain, and the bit that ends the header
    text = "".join(format(value, f"0{width}b") for value, width in fields)
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8))


def _read_sequence_header(content: bytes) -> Head:
    """The head whose sequence header this is, whatever its level, which decoders don't need."""
    bits = format(int.from_bytes(b"\1" + content), "b")[1:]

    def number(start: int, width: int) -> int:
        return int(bits[start : start + width].ljust(width, "0"), 2)

    across, down = number(10, 4) + 1, number(14, 4) + 1
    width, height = number(18, across) + 1, number(18 + across, down) + 1
    tools = 18 + across + down
    switches = number(tools, 3) << 3 | number(tools + 4, 2) << 1
    profile, grey = number(0, 3), number(tools + 7, 1)
    chroma = {0: GREY if grey else YUV420, 1: YUV444, 2: YUV422}.get(profile, GREY)
    separate = {YUV420: 36, YUV422: 34, YUV444: 33}.get(chroma)
    if separate is not None:
        switches |= number(tools + separate, 1)
    try:
        head = Head(height, width, chroma << 6 | switches)
    except ValueError as error:
        raise StripError(str(error)) from None
    if _sequence_header(head, level=number(5, 5)) != content:
        raise StripError("an AV1 sequence header that is not of a still of 8 bits in sRGB as libavif writes it")
    return head
