import io
import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

import semlink.vision.images
from semlink.vision.containers import MAX_SCANS
from semlink.vision.images import (
    FORMATS,
    MAX_IMAGE_BYTES,
    MAX_PIXELS,
    ImageError,
    model_pixels,
    open_image,
)
from semlink.vision.photos import PhotosError, find_photos


def stored(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photo(name: str = "chelsea") -> Image.Image:
    return open_image(find_photos([name])[0])


def png_that_claims(width: int, height: int, data: bytes = b"\0" * 1000) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", size), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


class TestRefused:
    @pytest.mark.parametrize(
        "data", [b"", b"\0", b"not a picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"SL\1\0" + bytes(200)]
    )
    def test_no_picture(self, data):
        with pytest.raises(ImageError, match="can't be read as JPEG, PNG, WEBP"):
            open_image(data)

    def test_reason_is_fit_to_be_shown(self):
        with pytest.raises(ImageError) as caught:
            open_image(b"not a picture")
        assert "0x" not in str(caught.value)
        assert "BytesIO" not in str(caught.value)

    @pytest.mark.parametrize("kind", FORMATS)
    @pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
    def test_truncated(self, kind, part):
        data = stored(photo(), kind)
        with pytest.raises(ImageError):
            open_image(data[: int(part * len(data))])

    @pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "ICO"])
    def test_formats_outside_the_list(self, kind):
        with pytest.raises(ImageError, match="none of these"):
            open_image(stored(Image.new("RGB", (32, 32)), kind))

    def test_list_of_formats_can_be_shorter(self):
        webp = stored(Image.new("RGB", (32, 32)), "WEBP")
        open_image(webp)
        with pytest.raises(ImageError, match="JPEG, PNG: it is none of these"):
            open_image(webp, ("JPEG", "PNG"))

    @pytest.mark.parametrize("size", [(100_000, 100_000), (50_000_001, 1), (10_000, 10_000), (7072, 7072)])
    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
    def test_huge_pictures_are_not_decoded(self, size, monkeypatch):
        monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoding was begun"))
        tracemalloc.start()
        try:
            with pytest.raises(ImageError, match="pixels"):
                open_image(png_that_claims(*size))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 1 << 20

    def test_a_picture_just_small_enough_is_decoded(self):
        width, height = MAX_PIXELS // 1000, 1000
        with pytest.raises(ImageError, match="truncated"):
            open_image(png_that_claims(width, height))

    @pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)])
    def test_no_pixels(self, size):
        with pytest.raises(ImageError):
            open_image(png_that_claims(*size))

    def test_too_many_bytes(self, tmp_path):
        data = stored(Image.new("RGB", (8, 8))) + bytes(MAX_IMAGE_BYTES)
        with pytest.raises(ImageError, match=f"at most {MAX_IMAGE_BYTES}"):
            open_image(data)
        (tmp_path / "long.png").write_bytes(data)
        with pytest.raises(ImageError, match=r"long\.png"):
            open_image(tmp_path / "long.png")

    def test_bytes_are_counted_before_they_are_looked_at(self, monkeypatch):
        monkeypatch.setattr(semlink.vision.images, "MAX_IMAGE_BYTES", 10)
        monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("the picture was opened"))
        with pytest.raises(ImageError, match="at most 10"):
            open_image(bytes(11))

    def test_a_jpeg_of_many_scans_is_not_decoded(self):
        """Forty kilobytes that would take a minute: each scan is a pass over all pixels."""
        data = stored(Image.new("L", (1600, 1600), 128), "JPEG", progressive=True)
        head, last = data[: data.rindex(b"\xff\xda")], data[data.rindex(b"\xff\xda") : -2]
        scans = data.count(b"\xff\xda")
        most = head + last * (MAX_SCANS - scans + 1)
        assert open_image(most + b"\xff\xd9").size == (1600, 1600)
        for rest in (last, last * 2000):
            with pytest.raises(ImageError, match="30 scans"):
                open_image(most + rest + b"\xff\xd9")

    def test_what_merely_looks_like_scans_is_none(self):
        """In metadata, and after the picture, where cameras put films."""
        exif = Image.Exif()
        exif[0x927C] = b"\xff\xda" * 1000
        data = stored(photo(), "JPEG", progressive=True, exif=exif, comment=b"\xff\xda" * 1000)
        assert data.count(b"\xff\xda") > 1000
        assert open_image(data + b"\xff\xda\0\0" * 1000).size == photo().size

    def test_only_the_first_picture_of_several_is_decoded(self):
        frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "lime", "blue")]
        for kind in ("PNG", "WEBP"):
            buffer = io.BytesIO()
            frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], lossless=True)
            assert open_image(buffer.getvalue()).getpixel((0, 0)) == (255, 0, 0)

    def test_no_file(self, tmp_path):
        with pytest.raises(ImageError, match="absent"):
            open_image(tmp_path / "absent.png")
        with pytest.raises(ImageError):
            open_image(tmp_path)

    @settings(max_examples=200, deadline=None)
    @given(data=st.data())
    def test_mutated_pictures_are_read_or_refused(self, data):
        kind = data.draw(st.sampled_from(FORMATS))
        picture = bytearray(SMALL[kind])
        for _ in range(data.draw(st.integers(1, 8))):
            picture[data.draw(st.integers(0, len(picture) - 1))] = data.draw(st.integers(0, 255))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                pixels = model_pixels(open_image(bytes(picture)))
            except ImageError:
                return
        assert pixels.shape == (224, 224, 3)


SMALL = {kind: stored(photo().resize((48, 32)), kind) for kind in FORMATS}


class TestModes:
    """Whatever the picture's mode, the same picture comes out in RGB."""

    @pytest.fixture
    def grey(self):
        return photo("camera").convert("L")

    @pytest.mark.parametrize("kind", FORMATS)
    def test_grey(self, grey, kind):
        read = np.array(open_image(stored(grey, kind, quality=95))).astype(int)
        assert read.shape == (512, 512, 3)
        assert np.abs(read - np.array(grey)[..., None]).mean() < 2

    def test_sixteen_bit_grey(self, grey):
        """Pillow by itself would clip it: nearly all of it to white."""
        deep = Image.fromarray(np.array(grey).astype(np.uint16) * 257)
        assert deep.mode == "I;16"
        read = open_image(stored(deep))
        np.testing.assert_array_equal(np.array(read), np.array(grey.convert("RGB")))

    def test_black_and_white(self, grey):
        flat = grey.point(lambda value: 255 * (value > 128)).convert("1")
        np.testing.assert_array_equal(np.array(open_image(stored(flat)))[..., 0], 255 * np.array(flat))

    def test_alpha(self):
        cat = photo()
        see_through = cat.copy()
        see_through.putalpha(100)
        np.testing.assert_array_equal(np.array(open_image(stored(see_through))), np.array(cat))

    def test_grey_alpha(self, grey):
        see_through = grey.copy()
        see_through.putalpha(100)
        assert see_through.mode == "LA"
        np.testing.assert_array_equal(np.array(open_image(stored(see_through)))[..., 1], np.array(grey))

    def test_palette(self):
        few = photo().quantize(64)
        assert few.mode == "P"
        np.testing.assert_array_equal(np.array(open_image(stored(few))), np.array(few.convert("RGB")))
        clear = open_image(stored(few, transparency=3))
        np.testing.assert_array_equal(np.array(clear), np.array(few.convert("RGB")))

    def test_cmyk(self):
        cat = photo()
        read = np.array(open_image(stored(cat.convert("CMYK"), "JPEG", quality=95))).astype(int)
        assert np.abs(read - np.array(cat)).mean() < 4

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    def test_orientation(self, orientation, kind):
        """A camera held sideways says so in the file; the picture is read upright."""
        upright = Image.new("RGB", (64, 32))
        upright.paste((255, 0, 0), (0, 0, 16, 16))  # the upper left corner is red
        turns = {
            2: Image.Transpose.FLIP_LEFT_RIGHT,
            3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_90,  # stored so, it must be turned by 270 degrees to stand upright
            7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270,
        }
        as_stored = upright.transpose(turns[orientation]) if orientation in turns else upright
        exif = Image.Exif()
        exif[0x0112] = orientation
        read = open_image(stored(as_stored, kind, exif=exif))
        assert read.size == upright.size
        assert np.abs(np.array(read).astype(int) - np.array(upright)).mean() < 5

    def test_a_picture_in_pictures(self):
        """Many telephones store MPO: a JPEG with more behind it."""
        cat = photo()
        file = io.BytesIO()
        cat.save(file, "MPO", save_all=True, append_images=[cat.rotate(180)], quality=95)
        read = np.array(open_image(file.getvalue())).astype(int)
        assert np.abs(read - np.array(cat)).mean() < 4


class TestModelPixels:
    @pytest.mark.parametrize("name", ["chelsea", "coffee", "retina", "rocket", "astronaut"])
    def test_close_to_resize_then_centre_crop(self, name):
        image = photo(name)
        scale = 256 / min(image.size)
        width, height = (round(scale * side) for side in image.size)
        left, top = (width - 224) / 2, (height - 224) / 2
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        expected = np.array(resized.crop((int(left), int(top), int(left) + 224, int(top) + 224))).astype(float)
        pixels = model_pixels(image)
        assert pixels.dtype == np.uint8
        assert np.abs(pixels - expected).mean() < 5  # the crop's middle may lie half a pixel beside
        assert np.corrcoef(pixels.ravel(), expected.ravel())[0, 1] > 0.99

    def test_of_256_pixels_the_middle_224_as_they_are(self):
        image = photo("astronaut").resize((256, 256))
        np.testing.assert_array_equal(model_pixels(image), np.array(image)[16:240, 16:240])

    @pytest.mark.parametrize("size", [(40_000, 2), (2, 40_000), (40_000, 1), (1, 1), (3, 5), (1, 2)])
    def test_any_shape(self, size):
        pixels = model_pixels(open_image(stored(Image.new("RGB", size, (9, 8, 7)))))
        assert pixels.shape == (224, 224, 3)
        assert (pixels == (9, 8, 7)).all()

    def test_other_sizes(self):
        assert model_pixels(photo(), 96).shape == (96, 96, 3)


class TestFindPhotos:
    def test_by_name(self):
        assert [path.name for path in find_photos(["chelsea", "retina"])] == ["chelsea.png", "retina.jpg"]

    def test_files_and_folders_in_order(self, tmp_path):
        for name in ("b.png", "a.JPG", "c.webp", "notes.txt"):
            (tmp_path / name).touch()
        assert [path.name for path in find_photos([str(tmp_path)])] == ["a.JPG", "b.png", "c.webp"]
        assert find_photos([str(tmp_path / "b.png")]) == [tmp_path / "b.png"]

    def test_unknown(self, tmp_path):
        with pytest.raises(PhotosError, match="chelsea"):
            find_photos(["no_such_photo"])
        with pytest.raises(PhotosError, match="holds no pictures"):
            find_photos([str(tmp_path)])
