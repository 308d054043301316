"""Captures of several layers: what may follow each frame, and rows of a spool."""

import json

import numpy as np
import pytest

from device.capture import COLUMNS, Capture, Encoded, from_row, to_row
from device.stills import still
from semlink.decision.belief import Belief
from semlink.source.codec.frame import CodecFrame
from semlink.source.opinion import opinion_frame
from semlink.v1 import link_pb2 as pb

PIXELS = np.random.default_rng(5).integers(0, 256, (224, 224, 3), np.uint8)
OPINION = opinion_frame(Belief.of(np.full(1000, 1e-3))).to_bytes()


def encoded(**about):
    return Encoded(OPINION, np.ones(196, np.float32), PIXELS.ravel(), 5.0, 2.0, **about)


def stored(view):
    return from_row(list(to_row(Capture(3, "cup", "left", 2, "id", "cup.png", None, view))))


def test_what_may_follow_each_layer():
    first, second, third = encoded(following=(b"second", b"third")).layers
    assert (first.data, second.data, third.data) == (OPINION, b"second", b"third")
    more = [each.more for each in (first, second, third)]
    assert more == [pb.ClassifyRequest.FOLLOWS, pb.ClassifyRequest.FOLLOWS, pb.ClassifyRequest.NOTHING]
    assert sum(each.encode_ms for each in (first, second, third)) == 2
    (alone,) = encoded(on_wish="avif").layers
    assert alone.more == pb.ClassifyRequest.ON_WISH
    assert encoded().more == pb.ClassifyRequest.NOTHING


@pytest.mark.parametrize("about", [{}, {"following": (b"second", b"third")}, {"on_wish": "webp"}], ids=str)
def test_a_row_gives_the_same_layers_and_pixels(about):
    view = encoded(**about)
    back = stored(view).view
    assert (back.data, back.following, back.on_wish) == (view.data, view.following, view.on_wish)
    np.testing.assert_array_equal(back.pixels, PIXELS)


def test_a_row_of_before_there_were_layers_is_one_frame():
    row = dict(zip(COLUMNS, to_row(Capture(3, "cup", "left", 2, "id", "cup.png", None, encoded())), strict=True))
    details = json.loads(row["details"])
    row["details"] = json.dumps({name: details[name] for name in details.keys() - {"lengths", "on_wish"}})
    view = from_row(list(row.values())).view
    assert (view.data, view.following, view.on_wish) == (OPINION, (), "")


def test_a_still_on_wish_is_the_same_before_and_after_the_spool():
    view = encoded(on_wish="webp")
    made, again = (still(each, "webp", 64, 900) for each in (view, stored(view).view))
    assert made.data == again.data
    assert len(made.data) <= 900
    assert (made.more, made.attention_ms) == (pb.ClassifyRequest.ON_WISH, 0)
    assert CodecFrame.from_bytes(made.data).codec == "webp"
    with pytest.raises(ValueError, match="pixels were not stored"):
        still(Encoded(OPINION, None, None, 0, 0), "webp", 64, 900)
