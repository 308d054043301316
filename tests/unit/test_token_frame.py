"""Frame of profile 1: its bytes as they are described, every rule, hostile bytes, golden files."""

import tracemalloc
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from golden_files import assert_no_others, write_anew
from hostile_frames import mutated, mutated_header, read_or_refused
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from semlink.frame import MAX_VALUES, FrameError
from semlink.source.iaq.frame import Geometry
from semlink.source.registry import read_frame
from semlink.source.transformer_aided.frame import TokenFrame

GOLDEN = Path(__file__).parents[1] / "golden" / "transformer_aided"
FIXED_BYTES = 15
"""The header before the mask."""
ID = b"\xde\xc0\xde\x01"


def as_bytes(bits: str) -> bytes:
    """A string of zeros and ones, padded with zeros to whole bytes."""
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[start : start + 8], 2) for start in range(0, len(bits), 8))


def seal(header: bytes, payload: bytes = b"") -> bytes:
    return header + zlib.crc32(header).to_bytes(4, "big") + payload


def naive_frame(frame: TokenFrame, codes: np.ndarray) -> bytes:
    """The frame's bytes, straight from the description of the format."""
    grid = frame.geometry
    header = b"SL" + bytes([1, 1, grid.rows, grid.columns, grid.patch_size, grid.channels])
    header += frame.dimension.to_bytes(2, "big") + bytes([frame.bits]) + frame.decoder
    header += as_bytes("".join("01"[int(each)] for each in frame.sent))
    payload = "".join(format(code, f"0{frame.bits}b") for token in codes.tolist() for code in token)
    return seal(header, as_bytes(payload))


@st.composite
def coded_tokens(draw):
    """Arguments of `TokenFrame.from_codes`: any grid, mask, dimension and bits, but few values."""
    geometry = Geometry(
        draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(1, 4)), draw(st.sampled_from([1, 3]))
    )
    sent = draw(arrays(bool, geometry.patches))
    bits, dimension = draw(st.integers(2, 8)), draw(st.integers(1, 9))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    codes = random.integers(0, 1 << bits, (np.count_nonzero(sent), dimension)).astype(np.uint8)
    return codes, sent, {"geometry": geometry, "bits": bits, "decoder": draw(st.binary(min_size=4, max_size=4))}


def frame_of(case) -> TokenFrame:
    codes, sent, rest = case
    return TokenFrame.from_codes(codes, sent, **rest)


def small_frame(sent=(1, 0, 1, 1), bits: int = 3) -> TokenFrame:
    """2×2 patches, of which three have tokens of 5 values: a payload of 45 bits."""
    mask = np.array(sent, bool)
    codes = np.random.default_rng(0).integers(0, 1 << bits, (np.count_nonzero(mask), 5)).astype(np.uint8)
    return TokenFrame.from_codes(codes, mask, geometry=Geometry(2, 2, 16, 3), bits=bits, decoder=ID)


def reason_of(data: bytes) -> str:
    with pytest.raises(FrameError) as caught:
        TokenFrame.from_bytes(data)
    return caught.value.reason


class TestRoundTrip:
    @given(coded_tokens())
    def test_any_frame_comes_back(self, case):
        codes, mask, rest = case
        sent = frame_of(case)
        received = read_frame(sent.to_bytes())
        assert isinstance(received, TokenFrame)
        assert (received.geometry, received.bits, received.decoder) == tuple(rest.values())
        for frame in (sent, received):
            np.testing.assert_array_equal(frame.sent, mask, strict=True)
            np.testing.assert_array_equal(frame.codes, codes, strict=True)
        assert received.to_bytes() == sent.to_bytes()

    @given(coded_tokens())
    def test_bytes_are_the_formats(self, case):
        frame = frame_of(case)
        assert frame.to_bytes() == naive_frame(frame, case[0])

    @given(coded_tokens())
    def test_lengths_and_ratios(self, case):
        codes, mask, rest = case
        frame = frame_of(case)
        values = mask.size * rest["geometry"].patch_size ** 2 * rest["geometry"].channels
        assert frame.payload_bits == frame.segment_bits.sum() == codes.size * rest["bits"]
        np.testing.assert_array_equal(frame.segment_bits > 0, mask)
        np.testing.assert_array_equal(frame.importance, mask)
        assert frame.shape == rest["geometry"].shape
        assert frame.rho == codes.size * rest["bits"] / (8 * values)
        assert frame.header_bits == 8 * (FIXED_BYTES + -(-mask.size // 8) + 4)
        assert frame.true_ratio == len(frame.to_bytes()) / values

    def test_the_mask_counts_in_the_true_ratio(self):
        """Half of DeiT-Tiny's tokens, 4 bits a value."""
        sent = np.arange(196) % 2 == 0
        codes = np.zeros((98, 192), np.uint8)
        frame = TokenFrame.from_codes(codes, sent, geometry=Geometry(14, 14, 16, 3), bits=4, decoder=ID)
        assert frame.rho == 98 * 192 * 4 / (8 * 224 * 224 * 3) == 1 / 16
        assert frame.true_ratio == 1 / 16 + (FIXED_BYTES + 25 + 4) / (224 * 224 * 3)


class TestDamage:
    @given(coded_tokens(), st.data())
    def test_a_flipped_payload_bit_damages_one_value_of_one_token(self, case, data):
        sent = frame_of(case)
        if not sent.payload_bits:
            return
        position = data.draw(st.integers(0, sent.payload_bits - 1))
        payload = bytearray(sent.payload)
        payload[position // 8] ^= 0x80 >> position % 8
        received = TokenFrame.from_bytes(sent.with_payload(bytes(payload)).to_bytes())
        damaged = np.argwhere(received.codes != sent.codes)
        np.testing.assert_array_equal(damaged, [divmod(position // sent.bits, sent.dimension)])

    @pytest.mark.parametrize("padding", range(8))
    def test_padding_of_the_payload_is_ignored(self, padding):
        sent = small_frame()
        payload = sent.payload[:-1] + bytes([sent.payload[-1] | padding])
        np.testing.assert_array_equal(sent.with_payload(payload).codes, sent.codes)

    @given(st.integers(0, 8 * (FIXED_BYTES + 1 + 4) - 1))
    def test_a_flipped_header_bit_is_always_noticed(self, position):
        data = bytearray(small_frame().to_bytes())
        data[position // 8] ^= 0x80 >> position % 8
        reason_of(bytes(data))


class TestWithout:
    @given(coded_tokens(), st.data())
    def test_is_the_frame_in_which_these_patches_were_not_selected(self, case, data):
        codes, mask, rest = case
        gone = data.draw(st.lists(st.integers(0, mask.size - 1), max_size=2 * mask.size))
        sent = frame_of(case)
        before = sent.to_bytes()
        others = ~np.isin(np.arange(mask.size), gone)
        expected = TokenFrame.from_codes(codes[others[mask]], mask & others, **rest)
        assert sent.without(gone).to_bytes() == expected.to_bytes()
        assert sent.to_bytes() == before

    def test_none_or_all(self):
        frame = small_frame()
        assert frame.without([]) is frame
        assert frame.without(range(4)).payload == b""

    @pytest.mark.parametrize("patches", [[4], [-1], [0, 2**32 - 1], [0.0], ["1"]])
    def test_there_must_be_such_patches(self, patches):
        with pytest.raises(ValueError, match=r"^segments must be integers within 0\.\.3$"):
            small_frame().without(patches)


def forge(position: int, value: int) -> bytes:
    """The header of a small frame without tokens, one byte changed, behind a right CRC."""
    header = bytearray(small_frame((0, 0, 0, 0)).to_bytes()[:-4])
    header[position] = value
    return seal(bytes(header))


class TestRules:
    """Each rule of the format, by the reason that its breach is given."""

    def test_the_forgery_itself_is_valid(self):
        assert TokenFrame.from_bytes(forge(2, 1)).payload == b""

    @pytest.mark.parametrize("length", [0, 3, 8, FIXED_BYTES, FIXED_BYTES + 1, FIXED_BYTES + 4])
    def test_truncated(self, length):
        assert reason_of(small_frame().to_bytes()[:length]) == "truncated"

    @pytest.mark.parametrize(
        ("position", "value", "reason"),
        [
            (0, 0, "magic"),
            (2, 2, "version"),
            (3, 0, "profile"),
            (3, 255, "profile"),
            (6, 0, "geometry"),
            (7, 0, "geometry"),
            (7, 2, "geometry"),
            (8, 255, "token_dimension"),
            (9, 0, "token_dimension"),
            (10, 0, "token_bits"),
            (10, 1, "token_bits"),
            (10, 9, "token_bits"),
            (15, 0b00001000, "mask"),
            (15, 0b10000001, "mask"),
            (15, 0b10000000, "payload_length"),
        ],
    )
    def test_fields(self, position, value, reason):
        assert reason_of(forge(position, value)) == reason

    @pytest.mark.parametrize("position", [4, 5])
    def test_no_grid(self, position):
        header = bytearray(forge(2, 1)[:FIXED_BYTES])
        header[position] = 0
        assert reason_of(seal(bytes(header))) == "geometry"

    def test_crc(self):
        data = bytearray(small_frame().to_bytes())
        data[FIXED_BYTES + 1] ^= 1
        assert reason_of(bytes(data)) == "crc"

    @pytest.mark.parametrize(("size", "dimension"), [(9, 1), (1, 65)])
    def test_too_many_values(self, size, dimension):
        """Of pixels or of tokens."""
        header = b"SL" + bytes([1, 1, 255, 255, size, 1]) + dimension.to_bytes(2, "big") + b"\2" + ID
        assert 255 * 255 * 8**2 < MAX_VALUES < 255 * 255 * 65
        assert reason_of(seal(header + bytes(-(-255 * 255 // 8)))) == "too_many_values"

    def test_as_many_values_as_allowed(self):
        header = b"SL" + bytes([1, 1, 255, 255, 8, 1]) + (64).to_bytes(2, "big") + b"\2" + ID
        assert TokenFrame.from_bytes(seal(header + bytes(-(-255 * 255 // 8)))).sent.size == 255 * 255

    @pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0"])
    def test_payload_of_another_length(self, change):
        assert reason_of(change(small_frame().to_bytes())) == "payload_length"

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"geometry": Geometry(0, 2, 2, 1)}, "geometry"),
            ({"geometry": Geometry(256, 1, 2, 1)}, "geometry"),
            ({"dimension": 0}, "token_dimension"),
            ({"dimension": 4097}, "token_dimension"),
            ({"bits": 1}, "token_bits"),
            ({"bits": 9}, "token_bits"),
            ({"decoder": b"abc"}, "decoder"),
            ({"sent": np.ones(3, bool)}, "mask"),
            ({"sent": np.ones(4, np.uint8)}, "mask"),
            ({"payload": b""}, "payload_length"),
        ],
    )
    def test_building_obeys_them_too(self, changes, reason):
        with pytest.raises(FrameError) as caught:
            replace(small_frame(), **changes)
        assert caught.value.reason == reason

    @pytest.mark.parametrize(
        "codes",
        [np.full((3, 5), 8, np.uint8), np.zeros((2, 5), np.uint8), np.zeros((3, 5), int), np.zeros(15, np.uint8)],
    )
    def test_codes_must_fit(self, codes):
        sent = small_frame()
        with pytest.raises(ValueError, match=r"^codes must be"):
            TokenFrame.from_codes(codes, sent.sent, geometry=sent.geometry, bits=3, decoder=ID)


class TestHostileBytes:
    """Whatever comes in, the parser answers with a frame or a FrameError, and takes little memory for it."""

    @given(st.binary(max_size=200))
    def test_arbitrary_bytes(self, data):
        read_or_refused(TokenFrame, data)

    @given(st.binary(min_size=11, max_size=11), st.binary(max_size=40), st.binary(max_size=60))
    @settings(max_examples=200)
    def test_arbitrary_fields_behind_a_right_crc(self, fields, mask, payload):
        read_or_refused(TokenFrame, seal(b"SL\1\1" + fields + mask, payload))

    @given(coded_tokens(), st.data())
    def test_mutated_frames(self, case, data):
        read_or_refused(TokenFrame, data.draw(mutated(frame_of(case).to_bytes())))

    @given(coded_tokens(), st.data())
    def test_mutated_headers_behind_a_right_crc(self, case, data):
        frame = frame_of(case)
        read_or_refused(TokenFrame, seal(data.draw(mutated_header(frame)), frame.payload))

    def test_a_tiny_frame_unpacks_into_bounded_memory(self):
        """One token of the largest grid: `codes` has its values alone."""
        sent = np.arange(255 * 255) == 7
        data = TokenFrame.from_codes(
            np.zeros((1, 64), np.uint8), sent, geometry=Geometry(255, 255, 1, 1), bits=2, decoder=ID
        ).to_bytes()
        tracemalloc.start()
        codes = TokenFrame.from_bytes(data).codes
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert codes.shape == (1, 64)
        assert peak < 64 * 1024 + 32 * len(data)


def _cases() -> Iterator[tuple[str, TokenFrame]]:
    rng = np.random.default_rng(1)
    for name, grid, share, dimension, bits in (
        ("one-value", Geometry(1, 1, 1, 1), 1.0, 1, 2),
        ("no-tokens", Geometry(2, 3, 16, 3), 0.0, 7, 8),
        ("three-bits", Geometry(3, 3, 4, 1), 0.5, 5, 3),
        ("whole-bytes", Geometry(5, 2, 2, 3), 0.7, 300, 8),
        ("half-of-a-picture", Geometry(14, 14, 16, 3), 0.5, 192, 4),
    ):
        sent = rng.permutation(grid.patches) < share * grid.patches
        codes = rng.integers(0, 1 << bits, (np.count_nonzero(sent), dimension)).astype(np.uint8)
        yield name, TokenFrame.from_codes(codes, sent, geometry=grid, bits=bits, decoder=rng.bytes(4))


def _contents(frame: TokenFrame) -> dict[str, np.ndarray]:
    grid = frame.geometry
    return {
        "geometry": np.array([grid.rows, grid.columns, grid.patch_size, grid.channels]),
        "bits": np.array(frame.bits),
        "decoder": np.frombuffer(frame.decoder, np.uint8),
        "sent": frame.sent,
        "codes": frame.codes,
    }


@pytest.fixture(scope="module")
def regenerated(request: pytest.FixtureRequest) -> None:
    """See tests/unit/test_golden.py."""
    write_anew(request, GOLDEN, ((name, frame.to_bytes(), _contents(frame)) for name, frame in _cases()))


@pytest.mark.usefixtures("regenerated")
class TestGolden:
    @pytest.mark.parametrize("name", [name for name, _ in _cases()])
    def test_stays_as_it_is(self, name):
        data = (GOLDEN / f"{name}.bin").read_bytes()
        contents = _contents(TokenFrame.from_bytes(data))
        with np.load(GOLDEN / f"{name}.npz") as golden:
            assert set(golden) == set(contents)
            for key, value in contents.items():
                np.testing.assert_array_equal(value, golden[key], err_msg=key, strict=True)
            frame = TokenFrame.from_codes(
                golden["codes"],
                golden["sent"],
                geometry=Geometry(*golden["geometry"].tolist()),
                bits=int(golden["bits"]),
                decoder=golden["decoder"].tobytes(),
            )
        assert frame.to_bytes() == data

    def test_no_file_without_a_case(self):
        assert_no_others(GOLDEN, (name for name, _ in _cases()))
