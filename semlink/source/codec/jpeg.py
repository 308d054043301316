"""JPEG with the tables of its standard: all but the scan taken off for the air, and made anew from four bytes.

A small baseline JPEG file is mostly tables (ITU-T T.81): some 620 bytes before its scan. The Huffman tables here
are those of its Annex K.3, and the quantization tables those of K.1, scaled by quality as the Independent JPEG
Group's library does; a quality stands for them.

Settings: quality, 1..100; plus 128 where chroma has full resolution (4:4:4 instead of 4:2:0).
"""

import struct

from semlink.source.codec.head import HEAD_BYTES, Head, StripError

FULL_CHROMA = 128
_LUMINANCE = bytes.fromhex(
    "100b0c0e0c0a100e0d0e1211101318281a181616183123251d283a333d3c3933383740485c4e404457453738506d51575f626768673e4d71"
    "797064785c656763"
)
_CHROMINANCE = bytes.fromhex("1112121815182f1a1a2f634238426363" + 48 * "63")
"""Quantization at quality 50, in zigzag order."""
_DC_SYMBOLS = bytes(range(12))
_AC_LUMINANCE = bytes.fromhex(
    "01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a343536373839"
    "3a434445464748494a535455565758595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7"
    "a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa"
)
_AC_CHROMINANCE = bytes.fromhex(
    "000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f11718191a262728292a35363738"
    "393a434445464748494a535455565758595a636465666768696a737475767778797a82838485868788898a92939495969798999aa2a3a4a5"
    "a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa"
)
_HUFFMAN = (
    (0x00, "00010501010101010100000000000000", _DC_SYMBOLS),
    (0x10, "0002010303020403050504040000017d", _AC_LUMINANCE),
    (0x01, "00030101010101010101010000000000", _DC_SYMBOLS),
    (0x11, "00020102040403040705040400010277", _AC_CHROMINANCE),
)
"""Class and number of each Huffman table, how many codes it has of each length, and their symbols."""
_BEGINNING = b"\xff\xd8\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0"
_END = b"\xff\xd9"


def strip(file: bytes) -> bytes:
    """Takes all but the scan off a baseline JPEG file of three components, as Pillow writes it by default.

    Returns:
        Head and scan.

    Raises:
        StripError: the file has what `rebuild` would not write, such as Huffman tables of its own.
    """
    frame = _segment(file, 0xC0)
    if len(frame) != 15 or frame[5] != 3:
        raise StripError("no baseline JPEG file of three components")
    height, width = struct.unpack_from(">HH", frame, 1)
    luminance = _segment(file, 0xDB)[1:]
    qualities = [quality for quality in range(1, 101) if _scaled(_LUMINANCE, quality) == luminance]
    # The lowest and the highest qualities share tables.
    for quality in qualities[:1]:
        for chroma in (0, FULL_CHROMA):
            try:
                start = _start(Head(height, width, quality | chroma))
            except ValueError as error:
                raise StripError(str(error)) from None
            if file.startswith(start) and file.endswith(_END):
                return Head(height, width, quality | chroma).to_bytes() + file[len(start) : -len(_END)]
    raise StripError("a JPEG file with tables, segments or a subsampling that a head can't tell")


def rebuild(stripped: bytes) -> bytes:
    """The JPEG file of a stripped one.

    Args:
        stripped: what `strip` gave, its scan perhaps damaged.

    Raises:
        ValueError: it is shorter than a head, or its quality is not within 1..100.
    """
    return _start(Head.from_bytes(stripped)) + stripped[HEAD_BYTES:] + _END


def has_settings(settings: int) -> bool:
    """Whether the quality is within 1..100."""
    return 1 <= settings & ~FULL_CHROMA <= 100


def _start(head: Head) -> bytes:
    """All that is before the scan."""
    quality = head.settings & ~FULL_CHROMA
    if not has_settings(head.settings):
        raise ValueError(f"quality must be 1 to 100, not {quality}")
    sampling = 0x11 if head.settings & FULL_CHROMA else 0x22
    frame = struct.pack(">BHHB", 8, head.height, head.width, 3) + bytes([1, sampling, 0, 2, 0x11, 1, 3, 0x11, 1])
    tables = ((_LUMINANCE, 0), (_CHROMINANCE, 1))
    return (
        _BEGINNING
        + b"".join(_marked(0xDB, bytes([number]) + _scaled(table, quality)) for table, number in tables)
        + _marked(0xC0, frame)
        + b"".join(
            _marked(0xC4, bytes([number]) + bytes.fromhex(lengths) + symbols)
            for number, lengths, symbols in _HUFFMAN
        )
        + _marked(0xDA, bytes([3, 1, 0x00, 2, 0x11, 3, 0x11, 0, 63, 0]))
    )


def _scaled(table: bytes, quality: int) -> bytes:
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return bytes(min(max((value * percent + 50) // 100, 1), 255) for value in table)


def _marked(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content


def _segment(file: bytes, marker: int) -> bytes:
    """Content of the first segment with this marker; empty where there is none before the first scan."""
    position = 2
    while file[position : position + 1] == b"\xff" and len(file) >= position + 4:
        code, length = file[position + 1], int.from_bytes(file[position + 2 : position + 4])
        if code == marker:
            return file[position + 4 : position + 2 + length]
        if code == 0xDA or length < 2:
            break
        position += 2 + length
    return b""
