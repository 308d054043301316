"""Frame of profile 2 and its interface: round trips, levels, every rule, hostile bytes."""

import io
import itertools
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from golden_files import assert_no_others, write_anew
from hypothesis import given, settings
from hypothesis import strategies as st

from semlink.frame import FrameError
from semlink.source.learned.frame import LearnedFrame
from semlink.source.learned.interface import (
    BITS,
    LEVEL_BITS,
    LEVELS,
    POSITIONS,
    TOKENS,
    Interface,
    know_interface,
    known_interface,
    load_interface,
    to_bytes,
)  # fmt: skip
from semlink.source.registry import read_frame

GOLDEN = Path(__file__).parents[1] / "golden" / "learned"
EPSILON = np.random.default_rng(3).uniform(0.01, 0.4, (TOKENS, BITS)).astype(np.float32)
INTERFACE = Interface.from_bytes(to_bytes(EPSILON))
know_interface(INTERFACE)


def some_bits(tiles: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (tiles, TOKENS, BITS))


def header(rows: int, columns: int, interface: bytes, presence: int) -> bytes:
    start = b"SL\x01\x02" + struct.pack(">BB", rows, columns) + interface + struct.pack(">H", presence)
    return start + struct.pack(">I", zlib.crc32(start))


@given(
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
    present=st.lists(st.booleans(), min_size=LEVELS, max_size=LEVELS),
    seed=st.integers(0, 9),
)
@settings(deadline=None, max_examples=40)
def test_round_trip_of_bits_and_presence(rows, columns, present, seed):
    bits = some_bits(rows * columns, seed)
    frame = LearnedFrame.from_bits(bits, (rows, columns), INTERFACE, present)
    again = read_frame(frame.to_bytes())
    assert isinstance(again, LearnedFrame)
    assert again.shape == (32 * rows, 32 * columns, 3)
    assert again.present.tolist() == present
    assert again.to_bytes() == frame.to_bytes()
    flat, arrived = bits.reshape(-1, POSITIONS), again.bits.reshape(-1, POSITIONS)
    for level, positions in zip(present, INTERFACE.levels(), strict=True):
        np.testing.assert_array_equal(arrived[:, positions], flat[:, positions] if level else 0.5)
    assert again.payload_bits == sum(present) * LEVEL_BITS * rows * columns == 8 * len(again.payload)


def test_the_payload_is_level_by_level_tile_by_tile_position_by_position():
    """Bit by bit from the definition, without an array's help."""
    bits = some_bits(2)
    frame = LearnedFrame.from_bits(bits, (1, 2), INTERFACE)
    order = sorted(range(POSITIONS), key=lambda position: (EPSILON.ravel()[position], position))
    expected = ""
    for level in range(LEVELS):
        positions = sorted(order[level * LEVEL_BITS : (level + 1) * LEVEL_BITS])
        for tile in range(2):
            expected += "".join(str(bits[tile, position // BITS, position % BITS]) for position in positions)
    assert frame.payload == int(expected, 2).to_bytes(len(expected) // 8)


@given(seed=st.integers(0, 50), distinct=st.integers(1, 40))
@settings(deadline=None, max_examples=30)
def test_levels_partition_the_positions_by_importance(seed, distinct):
    """Also where many positions have the same ε."""
    values = np.linspace(0.01, 0.49, distinct).astype(np.float32)
    epsilon = np.random.default_rng(seed).choice(values, (TOKENS, BITS))
    interface = Interface.from_bytes(to_bytes(epsilon))
    levels = interface.levels()
    assert levels.shape == (LEVELS, LEVEL_BITS)
    assert sorted(levels.ravel()) == list(range(POSITIONS))
    assert (np.diff(levels, axis=1) > 0).all()
    of_levels = epsilon.ravel()[levels]
    assert (of_levels[:-1].max(axis=1) <= of_levels[1:].min(axis=1)).all()
    for upper, lower in itertools.pairwise(levels):
        boundary = epsilon.ravel()[upper].max()
        if boundary == epsilon.ravel()[lower].min():  # of equal ones the lower position is in the upper level
            equal = epsilon.ravel() == boundary
            assert upper[equal[upper]].max() < lower[equal[lower]].min()
    importance = interface.level_importance()
    assert (np.diff(importance) <= 1e-9).all()
    assert ((importance > 0) & (importance < 1)).all()


def test_levels_can_be_lost_and_the_others_stay():
    bits = some_bits(4)
    frame = LearnedFrame.from_bits(bits, (2, 2), INTERFACE)
    thinned = frame.without([15, 3]).without([3, 0])
    np.testing.assert_array_equal(np.flatnonzero(~thinned.present), [0, 3, 15])
    kept = INTERFACE.levels()[thinned.present].ravel()
    np.testing.assert_array_equal(
        thinned.bits.reshape(4, -1)[:, kept], bits.reshape(4, -1)[:, kept].astype(np.float32)
    )
    assert thinned.segment_bits.tolist() == [0 if level in (0, 3, 15) else 4 * 384 for level in range(16)]
    np.testing.assert_array_equal(thinned.importance, INTERFACE.level_importance())


def test_a_flipped_payload_bit_is_one_flipped_bit_of_one_tile():
    bits = some_bits(4)
    frame = LearnedFrame.from_bits(bits, (2, 2), INTERFACE)
    payload = bytearray(frame.payload)
    payload[1000] ^= 4
    assert (frame.with_payload(bytes(payload)).bits != bits).sum() == 1


def test_decisions_of_a_receiver_go_back_into_the_levels_that_there_are():
    frame = LearnedFrame.from_bits(some_bits(1), (1, 1), INTERFACE).without([5])
    decided = some_bits(1, seed=9)
    again = frame.with_bits(decided)
    assert again.present.tolist() == frame.present.tolist()
    np.testing.assert_array_equal(again.bits, np.where(frame.bits == 0.5, 0.5, decided))


def test_frames_of_an_unknown_interface_are_carried_but_not_read():
    frame = read_frame(header(1, 1, b"\xde\xad\xbe\xef", 0x8001) + bytes(96))
    assert frame.segment_bits.tolist() == [384, *[0] * 14, 384]
    assert (np.diff(frame.importance) < 0).all()
    assert frame.without([0]).payload == bytes(48)
    with pytest.raises(FrameError, match="deadbeef") as error:
        _ = frame.bits
    assert error.value.reason == "interface"
    assert known_interface(b"\xde\xad\xbe\xef") is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (header(0, 1, INTERFACE.id, 0), "tiles"),
        (header(1, 0, INTERFACE.id, 0), "tiles"),
        (header(255, 255, INTERFACE.id, 0), "too_many_values"),
        (header(1, 1, INTERFACE.id, 0xFFFF) + bytes(767), "payload_length"),
        (header(1, 1, INTERFACE.id, 0xFFFF) + bytes(769), "payload_length"),
        (header(1, 1, INTERFACE.id, 0) + b"\0", "payload_length"),
        (header(1, 1, INTERFACE.id, 0)[:-1], "truncated"),
        (b"SL\x01\x02\x01\x01" + bytes(4), "truncated"),
        (header(1, 1, INTERFACE.id, 0)[:-4] + bytes(4), "crc"),
    ],
)
def test_a_rule_that_is_broken_is_named(data, reason):
    with pytest.raises(FrameError) as error:
        read_frame(data)
    assert error.value.reason == reason


def test_the_largest_frame_is_within_the_bounds_and_one_tile_more_is_not():
    rows, columns = 5, 255
    assert rows * columns * 3072 <= 2**22 < (rows + 1) * columns * 3072
    assert read_frame(header(rows, columns, INTERFACE.id, 0)).shape == (160, 8160, 3)
    with pytest.raises(FrameError, match="values"):
        read_frame(header(rows + 1, columns, INTERFACE.id, 0))


@given(st.binary(max_size=40), st.binary(max_size=900))
@settings(deadline=None)
def test_bytes_of_any_kind_are_a_frame_or_a_frame_error(fields, payload):
    start = b"SL\x01\x02" + fields
    for data in (start + payload, start + struct.pack(">I", zlib.crc32(start)) + payload):
        try:
            frame = read_frame(data)
        except FrameError as error:
            reason = error.reason
        else:
            reason = ""
            assert frame.to_bytes() == data
        assert reason in {"", "tiles", "too_many_values", "payload_length", "truncated", "crc"}


def test_what_is_no_bits_is_refused():
    with pytest.raises(ValueError, match="must be 0 or 1"):
        LearnedFrame.from_bits(some_bits(1) * 0.5, (1, 1), INTERFACE)
    with pytest.raises(ValueError, match="bits must be"):
        LearnedFrame.from_bits(some_bits(2), (1, 1), INTERFACE)
    with pytest.raises(FrameError, match="rows and columns"):
        LearnedFrame((0, 1), INTERFACE.id, np.ones(16, bool), b"")
    with pytest.raises(FrameError, match="identity"):
        LearnedFrame((1, 1), b"abc", np.zeros(16, bool), b"")
    with pytest.raises(FrameError, match="presence"):
        LearnedFrame((1, 1), INTERFACE.id, np.zeros(15, bool), b"")


@pytest.mark.parametrize(
    "epsilon",
    [
        np.full((64, 96), 0.5, np.float32),
        np.zeros((64, 96), np.float32),
        np.full((64, 96), np.nan, np.float32),
        np.full((96, 64), 0.1, np.float32),
        np.full((64, 96), 0.1),
    ],
)
def test_what_is_no_interface_is_refused(epsilon):
    file = to_bytes(epsilon) if epsilon.dtype == np.float32 else _file(epsilon)
    with pytest.raises(ValueError, match=r"flip probabilities|interface is"):
        Interface.from_bytes(file)


def _file(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_an_interface_is_its_file(tmp_path):
    (tmp_path / "interface.npy").write_bytes(to_bytes(EPSILON))
    read = load_interface(tmp_path)
    assert read.id == INTERFACE.id
    np.testing.assert_array_equal(read.epsilon, EPSILON)
    other = EPSILON.copy()
    other[0, 0] = 0.2
    assert Interface.from_bytes(to_bytes(other)).id != INTERFACE.id
    for damaged in (b"", to_bytes(EPSILON)[:-1], b"\x93NUMPY\x01\x00"):
        (tmp_path / "interface.npy").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"no array|interface"):
            load_interface(tmp_path)


def golden_cases() -> dict[str, LearnedFrame]:
    """Bits by the position's number, so that they follow from no generator of random numbers."""
    ramp = np.linspace(0.4, 0.01, POSITIONS).astype(np.float32)
    interface = Interface.from_bytes(to_bytes(ramp.reshape(BITS, TOKENS).T))
    know_interface(interface)
    bits = np.arange(6 * POSITIONS).reshape(6, TOKENS, BITS) ** 2 // 7 % 3 == 0
    return {
        "all-levels": LearnedFrame.from_bits(bits[:1], (1, 1), interface),
        "some-levels": LearnedFrame.from_bits(bits, (2, 3), interface, np.arange(LEVELS) % 5 < 2),
        "no-levels": LearnedFrame.from_bits(bits, (3, 2), interface, False),
    }


@pytest.fixture(scope="module", autouse=True)
def regenerated(request: pytest.FixtureRequest) -> None:
    """See tests/unit/test_golden.py: a changed .bin means that the format has changed."""
    cases = ((name, frame.to_bytes(), contents(frame)) for name, frame in golden_cases().items())
    write_anew(request, GOLDEN, cases)


def contents(frame: LearnedFrame) -> dict[str, np.ndarray]:
    return {"bits": np.packbits(frame.bits == 1), "present": frame.present, "grid": np.array(frame.grid)}


@pytest.mark.parametrize("name", golden_cases())
def test_golden_frames_are_written_and_read_as_ever(name):
    data = (GOLDEN / f"{name}.bin").read_bytes()
    assert golden_cases()[name].to_bytes() == data
    read = read_frame(data)
    with np.load(GOLDEN / f"{name}.npz") as golden:
        for key, value in contents(read).items():
            np.testing.assert_array_equal(value, golden[key], err_msg=key)
        assert ((read.bits == 0.5).reshape(read.tiles, -1).sum(1) == (~golden["present"]).sum() * LEVEL_BITS).all()


def test_no_golden_file_without_a_case():
    assert_no_others(GOLDEN, golden_cases())
