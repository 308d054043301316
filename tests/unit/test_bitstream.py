import ast
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hostile_frames import mutated, mutated_header, read_or_refused
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from channel_emulator.metrics import Metrics as ChannelMetrics
from semlink.frame import MAX_VALUES, FrameError
from semlink.source.iaq.frame import Geometry, IaqFrame
from semlink.source.registry import frame_rules
from server.metrics import Metrics as ServerMetrics

ROOT = Path(__file__).parents[2]
FIXED_BYTES = 11  # the header before the bit map


def bits_of(value: int, width: int) -> str:
    return format(value, f"0{width}b") if width else ""


def as_bytes(bits: str) -> bytes:
    """A string of zeros and ones, padded with zeros to whole bytes."""
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[start : start + 8], 2) for start in range(0, len(bits), 8))


def crc32(data: bytes) -> int:
    """CRC-32 as in IEEE 802.3, bit by bit."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0xEDB88320 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def seal(header: bytes, payload: bytes = b"") -> bytes:
    return header + crc32(header).to_bytes(4, "big") + payload


def naive_frame(frame: IaqFrame, codes: np.ndarray) -> bytes:
    """The frame's bytes, straight from the description of the format."""
    geometry = frame.geometry
    fixed = [1, 0, geometry.rows, geometry.columns, geometry.patch_size, geometry.channels, frame.max_bits]
    width = int(np.ceil(np.log2(frame.max_bits + 1)))
    header = b"SL" + bytes([*fixed, frame.low, frame.high])
    header += as_bytes("".join(bits_of(bits, width) for bits in frame.bits.tolist()))
    payload = "".join(
        bits_of(code, bits)
        for patch, bits in zip(codes.tolist(), frame.bits.tolist(), strict=True)
        for code in patch
    )
    return seal(header, as_bytes(payload))


@st.composite
def coded_images(draw):
    """Arguments of `IaqFrame.from_codes`: any geometry, bit map and codes, but few values."""
    geometry = Geometry(
        draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(1, 4)), draw(st.sampled_from([1, 3]))
    )
    max_bits = draw(st.integers(1, 8))
    low, high = sorted((draw(st.integers(0, 255)), draw(st.integers(0, 255))))
    dtype = draw(st.sampled_from([np.uint8, np.int64]))
    bits = draw(arrays(dtype, geometry.patches, elements=st.integers(0, max_bits)))
    seed = draw(st.integers(0, 2**32 - 1))
    shape = geometry.patches, geometry.values_per_patch
    codes = np.random.default_rng(seed).integers(0, 1 << bits.astype(np.int64)[:, None], shape)
    return codes, bits, {"geometry": geometry, "low": low, "high": high, "max_bits": max_bits}


def frame_of(case) -> IaqFrame:
    codes, bits, rest = case
    return IaqFrame.from_codes(codes, bits, **rest)


def small_frame(bits=(0, 1, 5, 8), max_bits: int = 8) -> IaqFrame:
    """2×2 patches of 2×2 grey pixels, payload of 56 bits."""
    bits = np.array(bits)
    codes = np.random.default_rng(0).integers(0, 1 << bits[:, None], (4, 4))
    return IaqFrame.from_codes(codes, bits, geometry=Geometry(2, 2, 2, 1), low=3, high=200, max_bits=max_bits)


def forge(position: int, value: int, *, length: int = 0) -> bytes:
    """A header of one patch of one grey pixel, changed at `position`, with a map of zeros and a right CRC."""
    header = bytearray(b"SL" + bytes([1, 0, 1, 1, 1, 1, 8, 10, 20]) + b"\0" * (length or 1))
    header[position] = value
    return seal(bytes(header))


def reason_of(data: bytes) -> str:
    with pytest.raises(FrameError) as caught:
        IaqFrame.from_bytes(data)
    return caught.value.reason


class TestRoundTrip:
    @given(coded_images())
    def test_any_frame_comes_back(self, case):
        codes, bits, rest = case
        sent = frame_of(case)
        received = IaqFrame.from_bytes(sent.to_bytes())
        assert received.geometry == rest["geometry"]
        assert (received.low, received.high, received.max_bits) == (rest["low"], rest["high"], rest["max_bits"])
        for frame in (sent, received):
            np.testing.assert_array_equal(frame.bits, bits)
            np.testing.assert_array_equal(frame.codes, codes)
            assert frame.bits.dtype == frame.codes.dtype == np.uint8
        assert received.to_bytes() == sent.to_bytes()

    @given(coded_images())
    def test_bytes_are_the_formats(self, case):
        frame = frame_of(case)
        assert frame.to_bytes() == naive_frame(frame, case[0])

    @given(coded_images())
    def test_a_received_frame_can_be_packed_again(self, case):
        frame = frame_of(case)
        rest = {"geometry": frame.geometry, "low": frame.low, "high": frame.high, "max_bits": frame.max_bits}
        assert IaqFrame.from_codes(frame.codes, frame.bits, **rest).to_bytes() == frame.to_bytes()

    @given(coded_images())
    def test_lengths_and_ratios(self, case):
        frame = frame_of(case)
        values = frame.geometry.values
        payload_bits = sum(int(bits) * frame.geometry.values_per_patch for bits in case[1])
        assert frame.payload_bits == payload_bits
        assert frame.rho == payload_bits / (8 * values)
        assert frame.header_bits == 8 * (len(frame.to_bytes()) - len(frame.payload))
        assert frame.true_ratio == 8 * len(frame.to_bytes()) / (8 * values)

    @pytest.mark.parametrize(("rows", "columns", "size"), [(255, 255, 1), (255, 1, 3), (1, 255, 2), (1, 1, 255)])
    def test_largest_fields(self, rows, columns, size):
        geometry = Geometry(rows, columns, size, 1)
        bits = np.arange(geometry.patches) % 3
        codes = np.zeros((geometry.patches, geometry.values_per_patch), int) + (bits == 2)[:, None] * 2
        sent = IaqFrame.from_codes(codes, bits, geometry=geometry, low=0, high=255, max_bits=2)
        np.testing.assert_array_equal(IaqFrame.from_bytes(sent.to_bytes()).codes, codes)

    def test_reads_any_buffer(self):
        data = small_frame().to_bytes()
        for buffer in (bytearray(data), memoryview(data)):
            assert IaqFrame.from_bytes(buffer).to_bytes() == data

    def test_crc_of_the_test_is_crc_32(self):
        assert crc32(b"123456789") == 0xCBF43926


class TestSizes:
    def test_header_of_the_papers_image(self):
        geometry = Geometry(14, 14, 16, 3)
        frame = IaqFrame(geometry, 8, 0, 255, np.full(196, 2, np.uint8), bytes(196 * 768 * 2 // 8))
        assert frame.header_bits == 8 * (11 + 98 + 4) == 904
        assert frame.payload_bits == 196 * 768 * 2
        assert frame.rho == 0.25
        assert frame.true_ratio == 0.25 + 904 / (8 * 224 * 224 * 3)

    @pytest.mark.parametrize(("max_bits", "width"), [(1, 1), (2, 2), (3, 2), (4, 3), (7, 3), (8, 4)])
    def test_bit_map_is_as_narrow_as_max_bits_allows(self, max_bits, width):
        frame = IaqFrame(Geometry(3, 3, 1, 1), max_bits, 0, 0, np.zeros(9, np.uint8), b"")
        assert frame.header_bits == 8 * (FIXED_BYTES + -(-9 * width // 8) + 4)

    def test_padding_counts_in_the_true_ratio_only(self):
        frame = IaqFrame(Geometry(1, 1, 1, 1), 8, 0, 9, np.array([3], np.uint8), b"\xe0")
        assert frame.payload_bits == 3
        assert frame.rho == 3 / 8
        assert frame.true_ratio == (8 * 16 + 8) / 8


class TestDamage:
    @given(st.integers(0, 55))
    def test_a_flipped_payload_bit_damages_one_value(self, position):
        sent = small_frame()
        payload = bytearray(sent.payload)
        payload[position // 8] ^= 0x80 >> position % 8
        received = IaqFrame.from_bytes(replace(sent, payload=bytes(payload)).to_bytes())
        assert np.count_nonzero(received.codes != sent.codes) == 1

    @pytest.mark.parametrize("padding", range(32))
    def test_padding_of_the_payload_is_ignored(self, padding):
        header = IaqFrame(Geometry(1, 1, 1, 1), 8, 0, 9, np.array([3], np.uint8), b"\0").to_bytes()[:-1]
        assert IaqFrame.from_bytes(header + bytes([0b10100000 | padding])).codes == 5

    @given(st.integers(0, 8 * 17 - 1))
    def test_a_flipped_header_bit_is_always_noticed(self, position):
        data = bytearray(small_frame().to_bytes())
        data[position // 8] ^= 0x80 >> position % 8
        reason_of(bytes(data))


class TestWithout:
    @given(coded_images(), st.data())
    def test_is_the_frame_in_which_these_patches_were_not_sent(self, case, data):
        codes, bits, rest = case
        gone = data.draw(st.lists(st.integers(0, bits.size - 1), max_size=2 * bits.size))
        sent = IaqFrame.from_codes(codes, bits, **rest)
        before = sent.to_bytes()
        left = sent.without(gone)
        others = ~np.isin(np.arange(bits.size), gone)
        expected = IaqFrame.from_codes(codes * others[:, None], bits * others, **rest)
        assert left.to_bytes() == expected.to_bytes()
        assert sent.to_bytes() == before

    @given(coded_images())
    def test_none_or_all(self, case):
        frame = frame_of(case)
        assert frame.without([]) is frame
        assert frame.without(range(frame.bits.size)).payload == b""

    @pytest.mark.parametrize("patches", [[4], [-1], [0, 2**32 - 1], [2**63], [0.0], ["1"]])
    def test_there_must_be_such_patches(self, patches):
        with pytest.raises(ValueError, match=r"^segments must be integers within 0\.\.3$"):
            small_frame().without(patches)


class TestRules:
    """Each rule of the format, by the reason that its breach is given."""

    def test_the_forgery_itself_is_valid(self):
        assert IaqFrame.from_bytes(forge(4, 1)).payload == b""

    @pytest.mark.parametrize("length", [0, 1, 2, 10])
    def test_shorter_than_the_fixed_fields(self, length):
        assert reason_of(small_frame().to_bytes()[:length]) == "truncated"

    @pytest.mark.parametrize("length", [11, 13, 16])
    def test_ends_within_bit_map_or_crc(self, length):
        assert len(small_frame().to_bytes()) == 17 + 7
        assert reason_of(small_frame().to_bytes()[:length]) == "truncated"

    @pytest.mark.parametrize("position", [0, 1])
    def test_magic(self, position):
        assert reason_of(forge(position, ord("X"))) == "magic"

    @pytest.mark.parametrize("version", [0, 2, 255])
    def test_version(self, version):
        assert reason_of(forge(2, version)) == "version"

    @pytest.mark.parametrize("profile", [1, 255])
    def test_profile(self, profile):
        assert reason_of(forge(3, profile)) == "profile"

    @pytest.mark.parametrize("position", [4, 5])
    def test_no_rows_or_no_columns(self, position):
        header = bytearray(b"SL" + bytes([1, 0, 1, 1, 1, 1, 8, 10, 20]))
        header[position] = 0
        assert reason_of(seal(bytes(header))) == "geometry"

    def test_patches_of_no_pixels(self):
        assert reason_of(forge(6, 0)) == "geometry"

    @pytest.mark.parametrize("channels", [0, 2, 4, 255])
    def test_channels(self, channels):
        assert reason_of(forge(7, channels)) == "geometry"

    @pytest.mark.parametrize("max_bits", [0, 9, 255])
    def test_max_bits(self, max_bits):
        assert reason_of(forge(8, max_bits)) == "max_bits"

    def test_low_above_high(self):
        assert reason_of(forge(9, 21)) == "value_range"

    def test_crc(self):
        data = bytearray(forge(4, 1))
        data[-1] ^= 1
        assert reason_of(bytes(data)) == "crc"

    def test_more_bits_than_the_most(self):
        header = b"SL" + bytes([1, 0, 1, 2, 1, 1, 4, 0, 9]) + as_bytes("100" + "101")
        assert reason_of(seal(header, bytes(2))) == "bit_map"

    def test_bit_map_padding(self):
        assert reason_of(forge(11, 0b00000001)) == "bit_map"
        assert reason_of(forge(11, 0b00001000)) == "bit_map"

    def test_too_many_values(self):
        # 127×129 patches of 16×16 pixels: just above, with a map of 8192 bytes and no payload.
        header = b"SL" + bytes([1, 0, 127, 129, 16, 1, 8, 0, 9])
        assert 127 * 129 * 256 < MAX_VALUES < 128 * 129 * 256
        assert IaqFrame.from_bytes(seal(header + bytes(-(-127 * 129 // 2)))).geometry.patches == 127 * 129
        header = b"SL" + bytes([1, 0, 128, 129, 16, 1, 8, 0, 9])
        assert reason_of(seal(header + bytes(128 * 129 // 2))) == "too_many_values"

    def test_as_many_values_as_allowed(self):
        geometry = Geometry(128, 128, 16, 1)
        assert geometry.values == MAX_VALUES
        frame = IaqFrame(geometry, 1, 0, 0, np.zeros(128 * 128, np.uint8), b"")
        assert IaqFrame.from_bytes(frame.to_bytes()).geometry == geometry

    @pytest.mark.parametrize("cut", [1, 3, 7])
    def test_payload_too_short(self, cut):
        assert reason_of(small_frame().to_bytes()[:-cut]) == "payload_length"

    @pytest.mark.parametrize("extra", [1, 8, 4096])
    def test_bytes_after_the_payload(self, extra):
        assert reason_of(small_frame().to_bytes() + bytes(extra)) == "payload_length"

    def test_every_error_says_what_is_wrong(self):
        with pytest.raises(FrameError, match=r"version 7 is unknown; this reads version 1") as caught:
            IaqFrame.from_bytes(forge(2, 7))
        assert isinstance(caught.value, ValueError)


class TestBuilding:
    """A `Frame` that is built here obeys the same rules."""

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"geometry": Geometry(0, 2, 2, 1)}, "geometry"),
            ({"geometry": Geometry(256, 1, 2, 1)}, "geometry"),
            ({"geometry": Geometry(2, 2, 2, 2)}, "geometry"),
            ({"geometry": Geometry(255, 255, 255, 3)}, "too_many_values"),
            ({"max_bits": 0}, "max_bits"),
            ({"max_bits": 9}, "max_bits"),
            ({"low": -1}, "value_range"),
            ({"high": 256}, "value_range"),
            ({"low": 201}, "value_range"),
            ({"max_bits": 7}, "bit_map"),
            ({"bits": np.zeros(3, np.uint8)}, "bit_map"),
            ({"bits": np.zeros(4, np.int64)}, "bit_map"),
            ({"payload": bytes(8)}, "payload_length"),
        ],
    )
    def test_refuses(self, changes, reason):
        with pytest.raises(FrameError) as caught:
            replace(small_frame(), **changes)
        assert caught.value.reason == reason

    @pytest.mark.parametrize(
        ("bits", "geometry", "reason"),
        [
            ([0, 0, 0, 9], Geometry(2, 2, 2, 1), "bit_map"),
            ([0, 0, 0, -1], Geometry(2, 2, 2, 1), "bit_map"),
            ([0, 0, 0], Geometry(2, 2, 2, 1), "bit_map"),
            ([[0, 0], [0, 0]], Geometry(2, 2, 2, 1), "bit_map"),
            ([[0, 0, 0, 0]], Geometry(2, 2, 2, 1), "bit_map"),
            ([], Geometry(0, 2, 2, 1), "geometry"),
            ([0, 0, 0, 0], Geometry(2, 2, 0, 1), "geometry"),
        ],
    )
    def test_from_codes_refuses(self, bits, geometry, reason):
        bits = np.array(bits, int)
        codes = np.zeros((bits.size, geometry.values_per_patch), int)
        with pytest.raises(FrameError) as caught:
            IaqFrame.from_codes(codes, bits, geometry=geometry, low=0, high=9)
        assert caught.value.reason == reason

    @pytest.mark.parametrize("dtype", [np.uint8, np.int64])
    @pytest.mark.parametrize(
        "codes", [np.full((4, 4), 4), np.full((4, 4), 256), np.full((4, 4), -1), np.zeros((4, 3)), np.zeros(16)]
    )
    def test_from_codes_refuses_codes(self, codes, dtype):
        with pytest.raises(ValueError, match=r"^codes must"):
            IaqFrame.from_codes(
                codes.astype(int), np.full(4, 2, dtype), geometry=Geometry(2, 2, 2, 1), low=0, high=9
            )


class TestHostileBytes:
    """Whatever comes in, the parser answers with a frame or a FrameError, and takes little memory for it."""

    @given(st.binary(max_size=200))
    def test_arbitrary_bytes(self, data):
        read_or_refused(IaqFrame, data)

    @given(st.lists(st.integers(0, 255), min_size=9, max_size=9), st.binary(max_size=100), st.binary(max_size=60))
    @settings(max_examples=200)
    def test_arbitrary_fields_behind_a_right_crc(self, fields, bit_map, payload):
        read_or_refused(IaqFrame, seal(b"SL" + bytes([1, 0, *fields[2:]]) + bit_map, payload))

    @given(coded_images(), st.data())
    def test_mutated_frames(self, case, data):
        read_or_refused(IaqFrame, data.draw(mutated(frame_of(case).to_bytes())))

    @given(coded_images(), st.data())
    def test_mutated_headers_behind_a_right_crc(self, case, data):
        frame = frame_of(case)
        read_or_refused(IaqFrame, seal(data.draw(mutated_header(frame)), frame.payload))

    def test_largest_map(self):
        read_or_refused(IaqFrame, seal(b"SL" + bytes([1, 0, 255, 255, 1, 1, 8, 0, 9]) + bytes(-(-255 * 255 // 2))))

    def test_a_tiny_frame_unpacks_into_bounded_memory(self):
        data = IaqFrame(Geometry(1, 64, 255, 1), 1, 0, 9, np.zeros(64, np.uint8), b"").to_bytes()
        assert len(data) < 30
        tracemalloc.start()
        codes = IaqFrame.from_bytes(data).codes
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert codes.size <= MAX_VALUES
        assert peak < 10 * MAX_VALUES


def test_the_rules_are_those_that_frames_are_refused_for():
    files = [ROOT / "semlink" / "frame.py", *(ROOT / "semlink" / "source").rglob("*.py")]
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text())))
    calls = (node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "FrameError")
    assert {call.args[0].value for call in calls} == set(frame_rules())


@pytest.mark.parametrize(("metrics", "name", "own"), [
    (ChannelMetrics, "semlink_channel_frames_rejected", set()),
    (ServerMetrics, "semlink_server_frames_rejected", {"layer", "lost_patches", "no_decoder", "tag"}),
])  # fmt: skip
def test_every_rule_is_counted(metrics, name, own):
    (family,) = [family for family in metrics().registry.collect() if family.name == name]
    assert {sample.labels["reason"] for sample in family.samples} == {*frame_rules(), *own}
