"""Access schemes: uncoded QAM as ever, and unequal error protection within its channel uses."""

import math
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from semlink.access.ldpc_qam import MOST_LEVELS, importance_levels, protection
from semlink.channel.awgn import Awgn
from semlink.channel.base import RawBits
from semlink.channel.qam import ORDERS, bits_per_symbol
from semlink.channel.rayleigh import Rayleigh

pytestmark = pytest.mark.numeric


@dataclass(frozen=True)
class Segments:
    """A payload of random bits whose segments matter by their numbers, the first most."""

    segment_bits: np.ndarray
    importance: np.ndarray
    values: int = 32 * 32 * 3
    seed: int = 0
    payload: bytes = field(init=False)
    payload_bits: int = field(init=False)

    def __post_init__(self):
        count = int(self.segment_bits.sum())
        bits = np.random.default_rng(self.seed).integers(0, 2, count, np.uint8)
        object.__setattr__(self, "payload", np.packbits(bits).tobytes())
        object.__setattr__(self, "payload_bits", count)


LEARNED_LIKE = Segments(np.full(16, 384), np.linspace(1, 0.1, 16))


@pytest.mark.parametrize(
    ("channel", "digest"),
    [
        (Awgn(snr_db=7.0, order=16), "5eee85c9c6961e0b"),
        (Awgn(snr_db=15.0), "713626b9000299b7"),
        (Rayleigh(snr_db=12.0, order=256), "14104bf09cd40c62"),
        (Rayleigh(snr_db=5.0, order=4), "b0b737176d9c2499"),
    ],
    ids=str,
)
def test_uncoded_qam_flips_the_bits_that_it_always_did(channel, digest):
    sent = RawBits(np.random.default_rng(1).bytes(1001), 8001)
    arrival = channel.transmit(sent, None, None, np.random.default_rng(2))
    assert sha256(arrival.flips.astype(">i8").tobytes()).hexdigest().startswith(digest)
    assert arrival.channel_uses == math.ceil(8001 / bits_per_symbol(channel.order))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_levels_keep_the_order_of_importance(importance):
    levels = importance_levels(np.array(importance))
    assert levels.min() == 0
    assert levels.max() < MOST_LEVELS
    order = np.argsort(importance, kind="stable")[::-1]
    assert (np.diff(levels[order]) >= 0).all()
    assert len(set(zip(importance, levels, strict=True))) == len(set(importance))


@settings(max_examples=50, deadline=None, phases=[Phase.generate])
@given(st.data())
def test_protection_keeps_the_budget_and_gives_the_important_more(data):
    count = data.draw(st.integers(1, 40))
    importance = np.array(data.draw(st.lists(st.floats(0, 1), min_size=count, max_size=count)))
    segment_bits = np.array(data.draw(st.lists(st.integers(0, 3000), min_size=count, max_size=count)))
    channel_uses, order = data.draw(st.integers(0, 6000)), data.draw(st.sampled_from(ORDERS))
    levels = protection(
        importance,
        segment_bits,
        channel_uses,
        order=order,
        snr_db=data.draw(st.integers(-5, 30)),
        fades=data.draw(st.booleans()),
    )
    assert sum(level.coded_bits for level in levels) <= channel_uses * bits_per_symbol(order)
    sent = np.concatenate([level.segments for level in levels]) if levels else np.empty(0, int)
    assert np.unique(sent).size == sent.size
    assert (segment_bits[sent] > 0).all()
    for level in levels:
        assert level.blocks * level.code.k >= segment_bits[level.segments].sum()
    for more, less in pairwise(levels):
        # Blocks have whole numbers of bits: the rate of a code of n bits is within 1/n of the one that was chosen.
        assert more.code.rate <= less.code.rate + 1 / less.code.n
        assert importance[more.segments].min() > importance[less.segments].max()
    unsent = np.setdiff1d(np.flatnonzero(segment_bits), sent)
    if unsent.size and sent.size:
        assert importance[unsent].max() <= importance[sent].min()


@pytest.mark.parametrize("kind", [Awgn, Rayleigh])
@pytest.mark.parametrize("cbr", ["1/4", "1/8", "1/16", "1/24"])
def test_a_coded_payload_keeps_its_bandwidth_and_arrives_by_importance(kind, cbr):
    channel = kind(snr_db=20.0, access="ldpc-qam", cbr=cbr)
    uses = 3072 // int(cbr[2:])
    arrivals = [channel.transmit(LEARNED_LIKE, None, None, np.random.default_rng(seed)) for seed in range(5)]
    for arrival in arrivals:
        assert 0 < arrival.channel_uses <= uses
        assert arrival.flips.size == 0
    # What does not fit is lost at the end, always the same; the last level that fits may fail now and then.
    least = min(arrival.lost.size for arrival in arrivals)
    np.testing.assert_array_equal(arrivals[0].lost[-least:], np.arange(16 - least, 16))
    assert 16 - least >= 1
    if cbr == "1/24":
        assert least > 10


def test_the_worse_the_channel_the_fewer_levels_arrive():
    def lost(snr_db: float) -> int:
        channel = Awgn(snr_db=snr_db, order=16, access="ldpc-qam", cbr="1/4")
        return channel.transmit(LEARNED_LIKE, None, None, np.random.default_rng(0)).lost.size

    counts = [lost(snr_db) for snr_db in (30.0, 15.0, 10.0, 5.0, -30.0)]
    assert counts == sorted(counts)
    assert counts[0] < counts[2] < counts[3]
    assert counts[-1] == 16


def test_where_the_receiver_knows_a_block_to_have_failed_its_segments_are_lost_not_damaged():
    """Both ends believe 15 dB; the air has 6."""

    class Fooled(Awgn):
        def use(self, symbols, snr_db, generator):
            return super().use(symbols, snr_db - 9, generator)

    channel = Fooled(snr_db=15.0, order=16, access="ldpc-qam", cbr="1/4")
    arrival = channel.transmit(LEARNED_LIKE, None, None, np.random.default_rng(0))
    assert arrival.lost.size == 16
    assert arrival.flips.size == 0
    received = arrival.received(LEARNED_LIKE)
    assert received == bytes(len(received))


def test_a_payload_of_no_bits_or_no_room_takes_no_symbols():
    channel = Awgn(snr_db=20.0, access="ldpc-qam", cbr="1/24")
    nothing = Segments(np.zeros(3, int), np.ones(3))
    assert channel.transmit(nothing, None, None, np.random.default_rng(0)).lost.size == 0
    crowded = Segments(np.array([5000, 0, 5000]), np.ones(3), values=48)
    arrival = channel.transmit(crowded, None, None, np.random.default_rng(0))
    assert arrival.channel_uses == 0
    np.testing.assert_array_equal(arrival.lost, [0, 2])


def test_bits_of_no_picture_have_no_bandwidth_ratio():
    with pytest.raises(ValueError, match="values"):
        Awgn(access="ldpc-qam").transmit(RawBits(b"abc"), None, None, np.random.default_rng(0))
    sent = RawBits(bytes(range(100)), values=3072)
    channel = Awgn(snr_db=25.0, access="ldpc-qam", cbr="1/4")
    arrival = channel.transmit(sent, None, None, np.random.default_rng(0))
    assert arrival.received(sent) == sent.payload


def test_what_has_no_effect_is_told():
    assert set(Awgn().idle) == {"cbr", "design_ber"}
    assert set(Awgn(access="ldpc-qam").idle) == {"design_ber"}
    assert set(Awgn(access="ldpc").idle) == {"cbr"}
