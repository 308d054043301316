"""Frame of profile 4 and its coder: bytes as they are described, every rule, budgets, damage, golden files."""

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from golden_files import assert_no_others, write_anew
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from semlink.frame import MAX_VALUES, FrameError
from semlink.source.codec import CodecFrame, coder, decode, encode
from semlink.source.codec.frame import HEADER_BYTES, MAX_PAYLOAD_BYTES, SEGMENT_BYTES
from semlink.source.codec.head import MAX_SIDE, Head
from semlink.source.codec.stills import CODECS
from semlink.source.registry import read_frame, source_coder

GOLDEN = Path(__file__).parents[1] / "golden" / "codec"
SETTINGS = {"avif": 0x5C, "webp": 0x10, "jpeg": 50}
"""Settings that a head of each codec may have."""


def photo(height: int = 224, width: int = 224) -> np.ndarray:
    """A picture with slopes, edges and noise."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:height, :width]
    picture = np.stack([row, column, (row // 32 + column // 32) % 2 * 200], axis=2)
    return np.clip(picture + rng.normal(0, 8, picture.shape), 0, 255).astype(np.uint8)


PHOTO = photo()


def frame(codec: str = "avif", payload: bytes = bytes(150), **changes: object) -> CodecFrame:
    fields = {"height": 30, "width": 40, "head": Head(15, 20, SETTINGS[codec])} | changes
    return CodecFrame(codec, payload=payload, **fields)


@pytest.fixture(scope="module")
def coded() -> dict[str, CodecFrame]:
    return {codec: encode(PHOTO, codec=codec).frame for codec in CODECS}


class TestFormat:
    @pytest.mark.parametrize(("number", "codec"), [(0, "avif"), (1, "webp"), (2, "jpeg")])
    def test_bytes_are_as_they_are_described(self, number, codec):
        made = frame(codec, b"payload", height=0x123, width=MAX_SIDE)
        head = struct.pack(">BBBB", 0, 14 << 4 & 0xFF, 19, SETTINGS[codec])
        header = b"SL\1\4" + bytes([number, 0x12, 0x2F, 0xFF]) + head + b"\0\7"
        assert made.to_bytes() == header + zlib.crc32(header).to_bytes(4) + b"payload"
        assert len(made.to_bytes()) == HEADER_BYTES + 7
        assert made.header_bits == 8 * HEADER_BYTES

    @given(st.sampled_from(sorted(CODECS)), st.binary(max_size=300), st.integers(1, 300), st.integers(1, 300))
    def test_comes_back(self, codec, payload, height, width):
        head = Head(-(-height // 2), width, SETTINGS[codec])
        made = frame(codec, payload, height=height, width=width, head=head)
        read = read_frame(made.to_bytes())
        assert isinstance(read, CodecFrame)
        assert (read.codec, read.shape, read.head, read.payload) == (codec, (height, width, 3), head, payload)
        assert read.to_bytes() == made.to_bytes()

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"codec": "gif"}, "codec"),
            ({"head": Head(15, 20, 0x01)}, "codec"),
            ({"codec": "webp", "head": Head(15, 20, 0x11)}, "codec"),
            ({"codec": "webp", "head": Head(15, 20, 0x00)}, "codec"),
            ({"codec": "webp", "head": Head(15, 20, 0x18)}, "codec"),
            ({"codec": "jpeg", "head": Head(15, 20, 0)}, "codec"),
            ({"codec": "jpeg", "head": Head(15, 20, 101)}, "codec"),
            ({"height": 0}, "sides"),
            ({"width": MAX_SIDE + 1}, "sides"),
            ({"head": Head(31, 20, 0)}, "sides"),
            ({"head": Head(15, 41, 0)}, "sides"),
            ({"height": MAX_SIDE, "width": MAX_VALUES // 3 // MAX_SIDE + 1}, "too_many_values"),
            ({"payload": bytes(MAX_PAYLOAD_BYTES + 1)}, "payload_length"),
        ],
    )
    def test_every_rule(self, changes, reason):
        with pytest.raises(FrameError) as caught:
            replace(frame(), **changes)
        assert caught.value.reason == reason

    @pytest.mark.parametrize(
        ("position", "value", "reason"),
        [(3, 9, "profile"), (4, 3, "codec"), (5, 0, "sides"), (13, 149, "payload_length"), (17, 0, "crc")],
    )
    def test_every_rule_on_the_wire(self, position, value, reason):
        data = bytearray(frame().to_bytes())
        data[position] = value
        if reason != "crc":
            data[14:18] = zlib.crc32(data[:14]).to_bytes(4)
        with pytest.raises(FrameError) as caught:
            read_frame(bytes(data))
        assert caught.value.reason == reason

    def test_cut_off(self):
        data = frame().to_bytes()
        for length in range(len(data)):
            with pytest.raises(FrameError) as caught:
                read_frame(data[:length])
            assert caught.value.reason == ("truncated" if length < HEADER_BYTES else "payload_length")

    @given(st.binary(max_size=200))
    def test_any_bytes(self, data):
        header = b"SL\1\4" + data[:10]
        with contextlib.suppress(FrameError):
            made = read_frame(header + zlib.crc32(header).to_bytes(4) + data[10:])
            assert read_frame(made.to_bytes()).to_bytes() == made.to_bytes()


class TestSegments:
    @given(st.integers(0, 1000))
    def test_add_up(self, length):
        made = frame(payload=bytes(length))
        assert made.payload_bits == 8 * length
        assert (made.segment_bits[:-1] == 8 * SEGMENT_BYTES).all()
        assert made.importance.shape == made.segment_bits.shape
        assert made.importance[0] == 1
        assert (np.diff(made.importance) < 0).all()
        assert made.importance.min() > 0

    def test_a_frame_ends_at_the_first_that_is_lost(self):
        payload = bytes(range(200))
        made = frame(payload=payload)
        assert made.without([]) is made
        assert made.without([3]).payload == payload[:192]
        assert made.without([2, 1, 1]).payload == payload[:64]
        assert made.without([0]).payload == b""
        assert made.without([0]).without([0]).payload == b""
        for wrong in ([4], [-1], [0.5]):
            with pytest.raises(ValueError, match=r"within 0\.\.3"):
                made.without(wrong)

    def test_payloads_keep_their_length(self):
        assert frame().with_payload(b"\1" * 150).payload == b"\1" * 150
        with pytest.raises(FrameError) as caught:
            frame().with_payload(bytes(151))
        assert caught.value.reason == "payload_length"


class TestCoder:
    def test_is_registered(self):
        coder = source_coder("codec")
        assert (coder.takes, coder.frame_type, coder.decodes_apart) == ("pixels", CodecFrame, True)
        assert [each.flag for each in coder.settings] == ["codec", "side", "budget_bytes"]

    @pytest.mark.parametrize("codec", CODECS)
    @pytest.mark.parametrize("side", [112, 160, 224])
    @pytest.mark.parametrize("budget", [400, 1505, 6020])
    def test_meets_its_budget(self, codec, side, budget):
        made = encode(PHOTO, codec=codec, side=side, budget_bytes=budget).frame
        assert len(made.to_bytes()) <= budget
        assert made.head.width <= side
        assert made.shape == PHOTO.shape
        assert decode(made).shape == PHOTO.shape

    @pytest.mark.parametrize("codec", CODECS)
    @pytest.mark.parametrize("shape", [(224, 224), (1, 300), (300, 7), (8, 8), (5, 5)])
    def test_the_least_budget_pays_for_some_still_of_noise(self, codec, shape):
        for seed in range(3):
            noise = np.random.default_rng(seed).integers(0, 2, (*shape, 3), np.uint8) * 255
            assert len(encode(noise, codec=codec, budget_bytes=100).frame.to_bytes()) <= 100

    @pytest.mark.parametrize("codec", CODECS)
    def test_the_largest_payload_bounds_the_budget(self, codec):
        noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
        made = encode(noise, codec=codec, side=400, budget_bytes=1 << 20).frame
        assert len(made.payload) <= MAX_PAYLOAD_BYTES

    @pytest.mark.parametrize("codec", CODECS)
    def test_more_bytes_are_closer_to_the_picture(self, codec):
        frames = [encode(PHOTO, codec=codec, side=224, budget_bytes=budget).frame for budget in (700, 3000, 12000)]
        errors = [np.square(decode(each) - PHOTO).mean() for each in frames]
        assert errors == sorted(errors, reverse=True)

    @pytest.mark.parametrize("codec", CODECS)
    def test_decodes_to_the_pixels_of_a_whole_file(self, codec, coded):
        """By Pillow, from the file that the still was taken out of, enlarged as it would be."""
        made = coded[codec]
        file = CODECS[codec].rebuild(made.stripped)
        with Image.open(io.BytesIO(file)) as picture:
            assert picture.format == CODECS[codec].format
            assert picture.size == (160, 160)
            expected = np.asarray(picture.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC))
        np.testing.assert_array_equal(decode(made), expected)

    def test_other_shapes(self):
        made = encode(photo(60, 100), codec="webp", side=50, budget_bytes=900).frame
        assert (made.head.height, made.head.width, made.shape) == (30, 50, (60, 100, 3))
        assert decode(made).shape == (60, 100, 3)
        whole = encode(photo(60, 100), codec="webp", side=224, budget_bytes=900).frame
        assert (whole.head.height, whole.head.width) == (60, 100)

    @pytest.mark.parametrize(
        "image", [np.zeros((32, 32, 3)), np.zeros((32, 32), np.uint8), np.zeros((32, 32, 1), np.uint8)]
    )
    def test_refuses_image(self, image):
        with pytest.raises(ValueError, match=r"^image must"):
            encode(image)

    def test_refuses_settings(self):
        with pytest.raises(ValueError, match="codec must be one of"):
            encode(PHOTO, codec="gif")
        with pytest.raises(ValueError, match="budget_bytes must be 100 or more, not 99"):
            encode(PHOTO, budget_bytes=99)


@pytest.mark.parametrize("codec", CODECS)
class TestDamage:
    def test_what_came_before_a_lost_segment_is_shown(self, codec, coded):
        """A still of 1,505 bytes without its last fifth: the rows before it are as they were."""
        made = coded[codec]
        arrived = made.without([int(0.8 * made.segment_bits.size)])
        assert arrived.payload
        upper = slice(0, 64)
        assert np.abs(decode(arrived)[upper] - decode(made)[upper]).mean() < 3

    def test_a_flipped_bit_seldom_costs_the_picture(self, codec, coded):
        """Behind the first bytes, which tell the decoder how to go on; WebP has more of these, its partition 0."""
        made, rng = coded[codec], np.random.default_rng(0)
        first = int.from_bytes(bytes([made.head.settings]) + made.payload[:2], "little") >> 5
        lost = 0
        for _ in range(60):
            payload = bytearray(made.payload)
            payload[rng.integers(first if codec == "webp" else 32, len(payload))] ^= 1 << rng.integers(8)
            try:
                assert decode(made.with_payload(bytes(payload))).shape == PHOTO.shape
            except FrameError:
                lost += 1
        assert lost <= 3

    @settings(deadline=None, max_examples=150)
    @given(payload=st.binary(max_size=400))
    def test_any_payload_is_a_picture_or_refused(self, codec, payload):
        made = frame(codec, payload)
        try:
            pixels = decode(made)
        except FrameError as error:
            assert error.reason == "undecodable"  # noqa: PT017
            return
        assert pixels.shape == (30, 40, 3)

    def test_nothing_is_left(self, codec, coded):
        rest = coded[codec].without([0])
        try:
            assert decode(rest).shape == PHOTO.shape  # JPEG: plain grey
        except FrameError as error:
            assert error.reason == "undecodable"  # noqa: PT017

    def test_a_payload_cannot_be_a_larger_picture(self, codec):
        """The container of another file in it changes nothing: the sides are the head's."""
        buffer = io.BytesIO()
        Image.fromarray(PHOTO).save(buffer, CODECS[codec].format)
        made = frame(codec, buffer.getvalue()[:MAX_PAYLOAD_BYTES])
        with contextlib.suppress(FrameError):
            assert decode(made).shape == (30, 40, 3)


def _cases() -> Iterator[tuple[str, CodecFrame]]:
    for codec in CODECS:
        yield f"{codec}-picture", encode(photo(64, 96), codec=codec, side=48, budget_bytes=700).frame
        yield f"{codec}-small", encode(photo(32, 24), codec=codec, side=32, budget_bytes=260).frame


def _contents(frame: CodecFrame) -> dict[str, np.ndarray]:
    return {
        "codec": np.array(frame.codec),
        "height_width": np.array([frame.height, frame.width]),
        "head": np.array([frame.head.height, frame.head.width, frame.head.settings]),
        "payload": np.frombuffer(frame.payload, np.uint8),
        "rebuilt": np.frombuffer(CODECS[frame.codec].rebuild(frame.stripped), np.uint8),
    }


NAMES = [f"{codec}-{what}" for codec in CODECS for what in ("picture", "small")]


@pytest.fixture(scope="module")
def regenerated(request: pytest.FixtureRequest) -> None:
    """See tests/unit/test_golden.py. Other releases of the codecs' libraries may encode in other ways."""
    cases = (
        (name, made.to_bytes(), _contents(made) | {"pixels": decode(made).astype(np.uint8)})
        for name, made in _cases()
    )
    write_anew(request, GOLDEN, cases)


@pytest.mark.usefixtures("regenerated")
class TestGolden:
    @pytest.mark.parametrize("name", NAMES)
    def test_stays_as_it_is(self, name):
        data = (GOLDEN / f"{name}.bin").read_bytes()
        made = CodecFrame.from_bytes(data)
        with np.load(GOLDEN / f"{name}.npz") as golden:
            contents = _contents(made)
            assert set(golden) == {*contents, "pixels"}
            for key, value in contents.items():
                np.testing.assert_array_equal(value, golden[key], err_msg=key, strict=True)
            # How chroma is enlarged and colours are converted is no part of the codecs' standards.
            assert np.abs(decode(made) - golden["pixels"]).mean() < 2
        assert made.to_bytes() == data

    def test_no_file_without_a_case(self):
        assert_no_others(GOLDEN, NAMES)


def test_a_still_for_a_look_is_of_the_quality_that_is_enough_or_within_its_budget():
    photo = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    enough = CODECS["avif"]
    still = enough.strip(enough.write(Image.fromarray(photo), enough.enough))
    assert coder.encode_look(photo, codec="avif", side=224, budget_bytes=60_000).frame.stripped == still
    tight = coder.encode_look(photo, codec="avif", side=224, budget_bytes=3000).frame
    assert 2000 < len(tight.to_bytes()) <= 3000
