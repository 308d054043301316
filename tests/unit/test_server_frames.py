"""Frames as a server takes them, beside the segments that are said to be lost."""

import numpy as np
import pytest

from semlink.decision.belief import Belief
from semlink.source.codec.frame import CodecFrame
from semlink.source.codec.head import Head
from semlink.source.opinion import opinion_frame
from server.frames import parse_frame
from server.refusals import BadFrame

OPINION = opinion_frame(Belief.of(np.array([0.5, 0.3, 0.2])))
STILL = CodecFrame("jpeg", 224, 224, Head(64, 64, 50), bytes(130))


@pytest.mark.parametrize(("frame", "lost"), [(OPINION, []), (STILL, []), (STILL, [2, 0, 2])])
def test_segments_of_the_frame_may_be_lost(frame, lost):
    assert parse_frame(frame.to_bytes(), lost).to_bytes() == frame.to_bytes()


@pytest.mark.parametrize(
    ("frame", "lost", "word"),
    [
        (OPINION, [0], "none: the frame has none"),
        (STILL, [3], "at most 3 numbers within 0..2"),
        (STILL, [0, 0, 0, 0], "at most 3 numbers"),
    ],
)
def test_others_are_refused(frame, lost, word):
    with pytest.raises(BadFrame, match=word) as refusal:
        parse_frame(frame.to_bytes(), lost)
    assert refusal.value.reason == "lost_patches"
