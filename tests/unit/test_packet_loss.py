"""Packet loss: which segments a lost packet takes along, how many that are, and what a header's loss is."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel_emulator.randomness import FrameRandomness
from channel_emulator.transmission import transmit
from semlink.channel.base import RawBits
from semlink.channel.packet_loss import PacketLoss
from semlink.channel.segments import lost_segments
from semlink.frame import FrameError
from semlink.source.iaq.coder import encode
from semlink.source.registry import read_frame


@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=30),
    packet_bytes=st.integers(1, 7),
    seed=st.integers(0, 2**32),
)
def test_a_segment_is_lost_with_any_of_its_bits(sizes, packet_bytes, seed):
    """Beside the packet of every single bit."""
    packets = -(-sum(sizes) // (8 * packet_bytes))
    lost = np.random.default_rng(seed).random(packets) < 0.3
    segment_of_bit = np.repeat(np.arange(len(sizes)), sizes)
    packet_of_bit = np.arange(sum(sizes)) // (8 * packet_bytes)
    expected = np.unique(segment_of_bit[lost[packet_of_bit]]) if packets else []
    np.testing.assert_array_equal(lost_segments(np.array(sizes), lost, 8 * packet_bytes), expected)


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    return encode(rng.integers(0, 256, (224, 224, 3), np.uint8), rng.random(196), rho=0.25).frame


def test_segments_are_lost_as_often_as_their_packets_say(frame):
    """A segment in k packets is lost with probability 1 - (1 - p)^k."""
    channel, draws = PacketLoss(loss=0.1, packet_bytes=100), 400
    end = np.cumsum(frame.segment_bits)
    touched = np.where(frame.segment_bits, (end - 1) // 800 - (end - frame.segment_bits) // 800 + 1, 0)
    probability = 1 - 0.9**touched
    lost = [channel.transmit(frame, None, None, np.random.default_rng(seed)).lost.size for seed in range(draws)]
    # Neighbours share packets: at most so many segments of a frame are lost by one packet.
    shared = np.unique((end - 1) // 800, return_counts=True)[1].max() + 1
    deviation = math.sqrt(shared * (probability * (1 - probability)).sum() / draws)
    assert abs(np.mean(lost) - probability.sum()) < 6 * deviation


def test_what_a_lost_packet_carries_arrives_as_zeros_and_is_known_to_be_lost(frame):
    data = frame.to_bytes()
    received, report = transmit(data, None, PacketLoss(loss=0.3), FrameRandomness(0, "camera", 0))
    assert 0 < len(report.lost_blocks) < frame.segment_bits.size
    assert report.bits_flipped == 0
    assert report.bits_lost == frame.segment_bits[report.lost_blocks].sum()
    arrived = read_frame(received)
    assert arrived.without(report.lost_blocks).payload_bits == frame.payload_bits - report.bits_lost
    intact = np.setdiff1d(np.arange(frame.segment_bits.size), report.lost_blocks)
    assert arrived.without(report.lost_blocks).to_bytes() == frame.without(report.lost_blocks).to_bytes()
    assert intact.size


@pytest.mark.parametrize(("loss", "lost"), [(0.0, 0), (1.0, 196)])
def test_certainties(frame, loss, lost):
    sent = frame.segment_bits > 0
    arrival = PacketLoss(loss=loss).transmit(frame, None, None, np.random.default_rng(0))
    assert arrival.lost.size == (sent.sum() if lost else 0)


def test_a_payload_without_bits():
    assert PacketLoss(loss=1).transmit(RawBits(b""), None, None, np.random.default_rng(0)).lost.size == 0


def test_where_the_header_is_exposed_its_packets_can_be_lost_too(frame):
    """Patches keep their numbers; a frame whose header is lost can't be read, as one whose header is damaged."""
    data, channel = frame.to_bytes(), PacketLoss(loss=0.05, packet_bytes=200)
    unreadable = lost_without_header = 0
    for number in range(60):
        received, report = transmit(data, None, channel, FrameRandomness(0, "camera", number), impair_header=True)
        assert report.bits_exposed == frame.header_bits + frame.payload_bits
        lost = report.lost_blocks
        if not any(received[: frame.header_bits // 8]):
            with pytest.raises(FrameError) as refused:
                read_frame(received)
            assert refused.value.reason == "magic"
            unreadable += 1
        else:
            assert read_frame(received).without(lost).to_bytes() == frame.without(lost).to_bytes()
            lost_without_header += bool(lost)
    assert unreadable
    assert lost_without_header
