"""Bits on air, counted from what others say; whatever they say."""

import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from hypothesis import given
from hypothesis import strategies as st

from device.capture import Encoded
from device.sender import LEAST_DESIGN_BER, stronger
from device.sent import Layer, Sent
from semlink.access.protection import MOST_DESIGN_BER
from semlink.v1 import link_pb2 as pb

FRAME = pb.ClassifyRequest(frame=bytes(16))
TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.floats().map(repr) | st.integers().map(str)


@given(st.sampled_from([0.0, 0.001, 0.05, 0.2]), TEXTS)
def test_a_stronger_code_is_for_twice_the_errors_within_bounds(design_ber, told):
    found = stronger(design_ber, told)
    assert 2 * LEAST_DESIGN_BER <= found <= MOST_DESIGN_BER
    if design_ber:
        assert found == min(2 * design_ber, MOST_DESIGN_BER)


@given(TEXTS)
def test_a_failed_try_counts_what_the_channel_says_or_else_the_frame(told):
    sent = Sent()
    sent.count_failed(FRAME, ErrorInfo(reason="frame_lost", metadata={"air_bits": told}))
    assert 0 < sent.uplink_bits < 10**12
    assert sent.downlink_bits == 8


@pytest.mark.parametrize(("told", "bits"), [("512", 512), ("", 128), ("-5", 128), ("0", 128), ("9" * 13, 128)])
def test_bits_of_a_failed_try(told, bits):
    sent = Sent()
    sent.count_failed(FRAME, ErrorInfo(metadata={"air_bits": told}))
    assert (sent.uplink_bits, sent.downlink_bits) == (bits, 0)  # nobody gave a reason


def test_a_plan_is_counted_with_the_frame_and_a_wish_with_its_answer():
    sent, plan = Sent(), pb.TransmissionPlan(state_id=b"state", power=[1.0] * 196)
    sent.count(pb.ClassifyRequest(frame=bytes(16), plan=plan), 0)
    assert sent.uplink_bits == 128 + 8 * len(plan.SerializeToString())
    wish = pb.Wish(layer=1, side=160, most_bytes=1505)
    sent.hear(pb.ClassifyResponse(wish=wish))
    assert sent.downlink_bits == 8 * len(wish.SerializeToString())
    sent.hear(pb.WaitVoteResponse(missing_views=1))
    assert sent.downlink_bits == 8 * len(wish.SerializeToString()) + 8


def test_only_a_layer_that_is_not_there_is_a_wish():
    layer = Layer(2, Encoded(b"", None, None, 0, 0), None, pb.ClassifyResponse(), 1.0)
    sent = Sent(layers=[layer])
    for number, is_wish in ((1, False), (2, False), (3, True)):
        sent.hear(pb.WaitVoteResponse(wish=pb.Wish(layer=number)))
        assert (sent.wish is not None) == is_wish
    sent.has_declined = True
    assert sent.wish is None
