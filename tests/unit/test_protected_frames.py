"""Frames that the emulator codes: what a device asks for and may not, lost headers, errors of layers and tries."""

from dataclasses import MISSING
from hashlib import sha256

import numpy as np
import pytest

from channel_emulator.randomness import FrameRandomness
from channel_emulator.transmission import FrameLost, transmit
from semlink.access.symbol_link import AccessRefused
from semlink.channel.awgn import Awgn
from semlink.channel.base import channels
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.channel.none import NoImpairment
from semlink.decision.belief import Belief
from semlink.frame import read_profile
from semlink.parameters import parameters
from semlink.source.codec.frame import SEGMENT_BYTES, CodecFrame
from semlink.source.codec.head import Head
from semlink.source.iaq.frame import Geometry, IaqFrame
from semlink.source.opinion import opinion_frame
from semlink.v1.link_pb2 import Protection

RANDOMNESS = FrameRandomness(0, "camera", 0)
OPINION = opinion_frame(Belief.of([0.1, 0.6, 0.3])).to_bytes()
STILL = CodecFrame("avif", 224, 224, Head(160, 160, 1 << 6), np.random.default_rng(0).bytes(1500)).to_bytes()
CODED = BinarySymmetricChannel(ber=0.05, access="ldpc")


def test_a_frame_is_reported_with_all_that_was_on_the_air():
    received, report = transmit(STILL, None, CODED, RANDOMNESS)
    assert received == STILL
    assert (report.bits_exposed, report.bits_flipped) == (8 * len(STILL), 0)
    assert 8 * len(STILL) < report.air_bits < 2 * 8 * len(STILL)
    assert report.measured_ber == pytest.approx(0.05, rel=0.2)
    uncoded = transmit(STILL, None, NoImpairment(), RANDOMNESS)[1]
    assert uncoded.air_bits == 0
    assert not uncoded.HasField("measured_ber")


def test_what_a_device_asks_for_goes_before_the_channel_s_own():
    spent = [
        transmit(OPINION, None, CODED, RANDOMNESS, protection=Protection(design_ber=ber))[1].air_bits
        for ber in (0.0, 0.05, 0.1, 0.2)
    ]
    assert spent == sorted(spent)
    assert spent[0] == spent[1] < spent[2] < spent[3]


def test_a_lost_header_says_what_was_spent_and_a_stronger_try_arrives():
    worse = BinarySymmetricChannel(ber=0.2, access="ldpc", design_ber=0.01)
    with pytest.raises(FrameLost, match=r"for a bit error rate of 0\.01") as lost:
        transmit(OPINION, None, worse, RANDOMNESS)
    assert lost.value.air_bits > 8 * len(OPINION)
    assert lost.value.design_ber == 0.01
    again = FrameRandomness(0, "camera", 0, attempt=1)
    received, _ = transmit(OPINION, None, worse, again, protection=Protection(design_ber=0.2, attempt=1))
    assert received == OPINION


def test_a_still_of_which_nothing_is_left_is_lost_and_a_stronger_try_arrives():
    """The header, coded for twice the errors, gets through; of the picture's one block nothing does."""
    worse = BinarySymmetricChannel(ber=0.04, access="ldpc", design_ber=0.01)
    with pytest.raises(FrameLost) as lost:
        transmit(STILL, None, worse, RANDOMNESS)
    assert lost.value.air_bits > 8 * len(STILL)
    again = FrameRandomness(0, "camera", 0, attempt=1)
    received, _ = transmit(STILL, None, worse, again, protection=Protection(design_ber=0.08, attempt=1))
    assert received == STILL


def test_lost_blocks_are_segments_of_the_payload_and_what_came_before_them_stays():
    worse = BinarySymmetricChannel(ber=0.056, access="ldpc", design_ber=0.05)
    some = []
    for number in range(10):
        try:
            received, report = transmit(STILL, None, worse, FrameRandomness(0, "camera", number))
        except FrameLost:  # of some nothing is left
            continue
        lost = list(report.lost_blocks)
        segments = -(-1500 // SEGMENT_BYTES)
        assert all(0 <= block < segments for block in lost)
        begin = len(STILL) - 1500
        for block in set(range(segments)) - set(lost):
            here = slice(begin + block * SEGMENT_BYTES, min(begin + (block + 1) * SEGMENT_BYTES, len(STILL)))
            assert received[here] == STILL[here]
        assert received[:begin] == STILL[:begin]
        some.append(len(lost))
    assert any(0 < count < segments for count in some)


@pytest.mark.parametrize("design_ber", [-0.1, 0.21, 1e300, float("inf"), float("-inf"), float("nan")])
def test_protection_that_no_code_gives_is_refused(design_ber):
    with pytest.raises(AccessRefused, match="within") as refused:
        transmit(OPINION, None, CODED, RANDOMNESS, protection=Protection(design_ber=design_ber))
    assert refused.value.reason == "design_ber"


@pytest.mark.parametrize("design_ber", [5e-324, 1e-12, 0.2])
def test_protection_at_its_bounds_is_given(design_ber):
    clear = NoImpairment(access="ldpc")
    assert transmit(STILL, None, clear, RANDOMNESS, protection=Protection(design_ber=design_ber))[0] == STILL


@pytest.mark.parametrize(
    "channel", [NoImpairment(), BinarySymmetricChannel(ber=0.1), Awgn(), Awgn(access="ldpc-qam")]
)
def test_protection_where_nothing_is_coded_is_refused(channel):
    with pytest.raises(AccessRefused, match="send the frame without") as refused:
        transmit(OPINION, None, channel, RANDOMNESS, protection=Protection())
    assert refused.value.reason == "uncoded"


def test_layers_and_tries_meet_errors_of_their_own_and_the_first_those_that_it_always_met():
    of = [
        FrameRandomness(1, "camera", 7, layer, attempt).stream().integers(0, 2**63)
        for layer in range(3)
        for attempt in range(3)
    ]
    assert len(set(of)) == 9
    digest = int.from_bytes(sha256(b"camera").digest())
    assert of[0] == np.random.default_rng(np.random.SeedSequence([1, digest, 7])).integers(0, 2**63)
    states = {FrameRandomness(1, "camera", 7, layer, 1).stream(0).integers(0, 2**63) for layer in range(3)}
    assert len(states) == 1, "the state is what a device asks for, without layers"


@pytest.mark.parametrize("access", ["none", "ldpc"])
@pytest.mark.parametrize("name", list(channels()))
def test_an_opinion_passes_every_channel(name, access):
    kind = channels()[name]
    if kind.takes_plan and access == "ldpc":
        pytest.skip("frames with plans are not coded")
    given = {each.name: each.initial for each in parameters(kind) if each.default is MISSING}
    if not kind.takes_plan:
        given["access"] = (
            "qam" if access == "none" and "order" in {each.name for each in parameters(kind)} else access
        )
    received, report = transmit(OPINION, None, kind(**given), RANDOMNESS)
    assert received == OPINION
    assert read_profile(received) == 3
    assert list(report.lost_blocks) == []


def test_a_frame_that_would_take_too_long_to_decode_is_refused():
    cells = np.full(64, 8, np.uint8)
    long = IaqFrame(Geometry(8, 8, 64, 3), 8, 0, 255, cells, bytes(64 * 64 * 64 * 3)).to_bytes()
    with pytest.raises(AccessRefused, match="bits; at most 2,000,000") as refused:
        transmit(long, None, CODED, RANDOMNESS)
    assert refused.value.reason == "length"
