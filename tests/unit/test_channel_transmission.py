"""One frame over the air: what is exposed, what arrives, and that the damage can be repeated."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel_emulator.randomness import FrameRandomness
from channel_emulator.transmission import transmit
from semlink.channel.base import invert_bits
from semlink.channel.bsc import BinarySymmetricChannel, flip_positions
from semlink.channel.none import NoImpairment
from semlink.frame import MAX_FRAME_BYTES, FrameError
from semlink.source.iaq.frame import Geometry, IaqFrame


def frame_of(bits_per_patch: int = 3, seed: int = 0) -> bytes:
    """3×3 patches of 3×3 pixels: 81 values, so that 1 or 3 bits each leave padding."""
    rng = np.random.default_rng(seed)
    bits = np.full(9, bits_per_patch)
    codes = rng.integers(0, 1 << bits_per_patch, (9, 9))
    return IaqFrame.from_codes(codes, bits, geometry=Geometry(3, 3, 3, 1), low=0, high=255).to_bytes()


def flipped(sent: bytes, received: bytes) -> np.ndarray:
    assert len(sent) == len(received)
    difference = np.frombuffer(sent, np.uint8) ^ np.frombuffer(received, np.uint8)
    return np.flatnonzero(np.unpackbits(difference))


def send(frame: bytes, ber: float, *, impair_header: bool = False, seed: int = 0):
    bsc = BinarySymmetricChannel(ber=ber)
    return transmit(frame, None, bsc, FrameRandomness(seed, "camera", 0), impair_header=impair_header)


@given(data=st.binary(max_size=200), random=st.randoms())
def test_inverting_equals_unpack_xor_pack(data, random):
    positions = np.array(sorted(random.sample(range(8 * len(data)), random.randint(0, 8 * len(data)))), np.int64)
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    bits[positions] ^= 1
    inverted = bytearray(data)
    invert_bits(inverted, positions)
    assert bytes(inverted) == np.packbits(bits).tobytes()


@pytest.mark.parametrize("bits_per_patch", [0, 1, 3, 8])
def test_exactly_the_payload_is_exposed(bits_per_patch):
    frame = frame_of(bits_per_patch)
    sent = IaqFrame.from_bytes(frame)
    received, report = send(frame, ber=1)
    np.testing.assert_array_equal(flipped(frame, received), sent.header_bits + np.arange(sent.payload_bits))
    assert (report.impairment, report.bits_exposed, report.bits_flipped) == (
        "bsc",
        81 * bits_per_patch,
        81 * bits_per_patch,
    )


def test_the_header_is_exposed_on_demand():
    frame = frame_of(3)
    sent = IaqFrame.from_bytes(frame)
    received, report = send(frame, ber=1, impair_header=True)
    np.testing.assert_array_equal(flipped(frame, received), np.arange(sent.header_bits + sent.payload_bits))
    assert report.bits_exposed == sent.header_bits + sent.payload_bits


def test_the_report_counts_the_flips_that_were_made():
    frame = frame_of(8)
    received, report = send(frame, ber=0.2)
    assert 0 < report.bits_flipped == flipped(frame, received).size < 81 * 8
    assert report.channel_ms > 0


def test_no_impairment_changes_nothing_and_says_so():
    frame = frame_of()
    received, report = transmit(frame, None, NoImpairment(), FrameRandomness(0, "camera", 0))
    assert received == frame
    assert (report.impairment, report.bits_flipped, report.bits_exposed) == ("none", 0, 243)


def test_only_seed_device_and_frame_number_decide_the_flips():
    frames = [
        (device, number) for device in ("", "camera-1", "camera-2", "é" * 64) for number in (0, 1, 2**64 - 1)
    ]

    def damage(order, seed):
        bsc = BinarySymmetricChannel(ber=0.1)
        frame = frame_of(8)
        return {key: transmit(frame, None, bsc, FrameRandomness(seed, *key))[0] for key in order}

    once = damage(frames, seed=0)
    assert once == damage(reversed(frames), seed=0)
    assert len(set(once.values())) == len(frames)
    other_seed = damage(frames, seed=1)
    assert all(once[key] != other_seed[key] for key in frames)


def test_a_longer_frame_meets_the_same_flips():
    rng = [FrameRandomness(7, "camera", 3).stream() for _ in range(2)]
    few, many = (flip_positions(n, 0.01, r) for n, r in zip((5_000, 50_000), rng, strict=True))
    np.testing.assert_array_equal(few, many[: few.size])


def test_the_longest_frame_is_taken_and_one_byte_more_is_not():
    rows, patch, bits = 4, 255, 4
    geometry = Geometry(rows, 8, patch, 1)
    codes = np.zeros((geometry.patches, patch * patch), np.uint8)
    allotted = np.full(geometry.patches, bits)
    frame = IaqFrame.from_codes(codes, allotted, geometry=geometry, low=0, high=1).to_bytes()
    assert len(frame) < MAX_FRAME_BYTES
    assert send(frame, ber=0.5)[1].bits_exposed == bits * geometry.values
    with pytest.raises(FrameError) as error:
        send(frame.ljust(MAX_FRAME_BYTES + 1, b"\0"), ber=0)
    assert error.value.reason == "oversized"


@pytest.mark.parametrize("broken", [b"", b"SL", b"XX" + bytes(40), frame_of()[:-1], frame_of() + b"\0"])
def test_a_malformed_frame_is_refused(broken):
    with pytest.raises(FrameError):
        send(broken, ber=0)
