"""Pictures of countless parts are refused before a decoder opens them; ordinary ones are not."""

import io
import random
import re
import struct
import zlib
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile

from semlink.vision.containers import (
    _MARKER_IN_SCAN,
    MAX_DATA_CHUNKS,
    MAX_FILL_BYTES,
    MAX_SEGMENTS,
    ContainerError,
    _next_in_scan,
    check_container,
)
from semlink.vision.images import MAX_IMAGE_BYTES, ImageError, open_image


def stored(kind: str, size: int = 64, **options: object) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((size, size), 50).save(file, kind, **options)
    return file.getvalue()


def segment(code: int, content: bytes = b"") -> bytes:
    return struct.pack(">BBH", 0xFF, code, len(content) + 2) + content


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def riff(kind: bytes, content: bytes = b"") -> bytes:
    return kind + struct.pack("<I", len(content)) + content


JPEG, PNG, WEBP = stored("JPEG"), stored("PNG"), stored("WEBP")
AT_SCAN = JPEG.index(b"\xff\xda") + 14
AT_DATA = PNG.index(b"IDAT") - 4


def in_head(parts: bytes) -> bytes:
    return JPEG[:2] + parts + JPEG[2:]


def in_scan(parts: bytes) -> bytes:
    return JPEG[:AT_SCAN] + parts + JPEG[AT_SCAN:]


def in_png(parts: bytes) -> bytes:
    return PNG[:AT_DATA] + parts + PNG[AT_DATA:]


def exif(entries: int, claim: int) -> bytes:
    """EXIF data whose entries all claim the same bytes."""
    head = b"II*\0" + struct.pack("<IH", 8, entries)
    body = b"".join(struct.pack("<HHII", number, 7, claim, 8) for number in range(entries))
    return head + body + bytes(4)


APP1 = segment(0xE1, b"Exif\0\0" + bytes(10))
ATTACKS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a million APP1": (lambda: in_head(1_000_000 * APP1), "picture_segments"),
    "half a million COM": (lambda: in_head(500_000 * segment(0xFE, bytes(30))), "picture_segments"),
    "half a million APP5": (lambda: in_head(500_000 * segment(0xE5, bytes(30))), "picture_segments"),
    "ten million SOI": (lambda: in_head(10_000_000 * b"\xff\xd8"), "picture_segments"),
    "COM within a scan": (lambda: in_scan(5_000_000 * segment(0xFE)), "picture_segments"),
    "scans": (lambda: in_head(segment(0xDA) * 31), "picture_scans"),
    "fill bytes": (lambda: in_head(20_000_000 * b"\xff"), "picture_fill"),
    "fill bytes within a scan": (lambda: in_scan(20_000_000 * b"\xff"), "picture_fill"),
    "escaped bytes": (lambda: in_head(10_000_000 * b"\xff\0"), "picture_fill"),
    "no marker": (lambda: in_head(b"\xff\xd9" + bytes(20_000_000)), "picture_fill"),
    "EXIF data": (lambda: in_head(20 * segment(0xE1, b"Exif\0\0" + bytes(60_000))), "picture_metadata"),
    "claims in EXIF data": (lambda: in_head(segment(0xE1, b"Exif\0\0" + exif(5_000, 60_000))), "picture_metadata"),
    "colour profiles": (
        lambda: in_head(100 * segment(0xE2, b"ICC_PROFILE\0" + bytes(60_000))),
        "picture_metadata",
    ),
    "image resources": (
        lambda: in_head(100 * segment(0xED, b"Photoshop 3.0\0" + bytes(60_000))),
        "picture_metadata",
    ),
    "empty chunks": (lambda: in_png(1_700_000 * chunk(b"teXt")), "picture_segments"),
    "empty chunks of data": (lambda: in_png(1_700_000 * chunk(b"IDAT")), "picture_segments"),
    "compressed profiles": (
        lambda: in_png(9 * chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(1000)))),
        "picture_metadata",
    ),
    "EXIF data in PNG": (lambda: in_png(chunk(b"eXIf", exif(25_000, 1))), "picture_metadata"),
    "claims in PNG": (lambda: in_png(chunk(b"eXIf", exif(5_000, 60_000))), "picture_metadata"),
    "chunks of WebP": (lambda: WEBP + 2_000_000 * riff(b"JUNK"), "picture_segments"),
    "claims in WebP": (lambda: WEBP + riff(b"EXIF", exif(5_000, 60_000)), "picture_metadata"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_refused_before_a_decoder_opens_it(name, monkeypatch):
    make, reason = ATTACKS[name]
    data = make()
    assert len(data) <= MAX_IMAGE_BYTES
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("the picture was opened"))
    with pytest.raises(ImageError) as caught:
        open_image(data)
    assert caught.value.reason == reason
    assert str(caught.value).startswith("the image has ")


def test_claims_in_a_profile_that_imagemagick_writes(monkeypatch):
    """Compressed text of a PNG, which is known only once it is loaded."""
    hexadecimal = "\nexif\n  1\n" + exif(5_000, 60_000).hex()
    text = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(hexadecimal.encode()))
    with pytest.raises(ImageError, match="entries claim") as caught:
        open_image(in_png(text))
    assert caught.value.reason == "picture_metadata"


def test_too_little_memory(monkeypatch):
    def load(image: ImageFile.ImageFile) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(ImageError, match="memory") as caught:
        open_image(PNG)
    assert caught.value.reason == "picture_memory"


def test_only_so_much_is_walked():
    """The caps themselves are allowed."""
    before_the_scan = len(re.findall(rb"\xff[\xdb\xc0-\xc4\xe0]", JPEG[:AT_SCAN]))
    check_container(in_head((MAX_SEGMENTS - before_the_scan - 1) * segment(0xFE)))
    check_container(in_head(MAX_FILL_BYTES * b"\xff"))
    check_container(in_png((MAX_SEGMENTS - 1) * chunk(b"teXt")))
    check_container(in_png((MAX_DATA_CHUNKS - 1) * chunk(b"IDAT")))
    with pytest.raises(ContainerError):
        check_container(in_head(MAX_SEGMENTS * segment(0xFE)))
    with pytest.raises(ContainerError):
        check_container(in_head((MAX_FILL_BYTES + 1) * b"\xff"))


def ordinary() -> dict[str, bytes]:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags = Image.Exif()
    tags[0x010F], tags[0x0112], tags[0x927C] = "camera", 1, bytes(60_000)
    options = {"exif": tags, "icc_profile": profile}
    several = io.BytesIO()
    first, *others = (Image.effect_noise((32, 32), 50).convert("RGB") for _ in range(3))
    first.save(several, "MPO", save_all=True, append_images=others)
    return {
        "JPEG": stored("JPEG", quality=95, **options),
        "progressive": stored("JPEG", progressive=True, **options),
        "long profile": stored("JPEG", icc_profile=profile + bytes(1 << 20)),
        "restarts": stored("JPEG", restart_marker_blocks=1),
        "several pictures": several.getvalue(),
        "depth map": in_head(200 * segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(60_000))),
        "PNG": stored("PNG", **options),
        "PNG in many chunks": PNG[:AT_DATA] + b"".join(_split(PNG)) + chunk(b"IEND"),
        "WebP": stored("WEBP", **options),
    }


def _split(png: bytes) -> list[bytes]:
    """The data of a PNG in chunks of one byte."""
    data = png[AT_DATA + 8 : png.index(b"IEND") - 8]
    return [chunk(b"IDAT", data[each : each + 1]) for each in range(len(data))]


@pytest.mark.parametrize(
    "name",
    [
        "JPEG",
        "progressive",
        "long profile",
        "restarts",
        "several pictures",
        "depth map",
        "PNG",
        "PNG in many chunks",
        "WebP",
    ],
)
def test_ordinary_pictures_are_read(name):
    picture = open_image(ordinary()[name])
    assert picture.mode == "RGB"


def test_both_searches_find_the_same_markers():
    """Within near and far entropy-coded data, at the edges of blocks too."""
    generator = random.Random(1)
    for _ in range(200):
        gaps = [generator.randrange(2_000) for _ in range(20)]
        codes = [generator.choice((b"\xff\0", b"\xff\xd0", b"\xff\xd7", b"\xff", b"\xff\xc4")) for _ in gaps]
        data = b"".join(bytes(gap) + code for gap, code in zip(gaps, codes, strict=True)) + b"\xff\xd9"
        expected = [found.start() for found in _MARKER_IN_SCAN.finditer(data)]
        values = np.frombuffer(data, np.uint8)
        for before, after in pairwise([-1, *expected]):
            assert _next_in_scan(data, values, before + 1) == after
        assert _next_in_scan(data, values, expected[-1] + 1) == -1


def test_cut_pictures_are_walked_to_their_end():
    for data in (JPEG, PNG, WEBP, stored("JPEG", exif=exif(3, 4))):
        for end in range(0, len(data), 7):
            check_container(data[:end])
