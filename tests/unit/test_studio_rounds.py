"""Unit tests of what the studio holds: as it was given, and within its bounds whatever that is."""

import base64
import json
import random
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.encoder import Encoder
from device.encoding import EncoderSettings
from device.sent import Layer, Sent
from semlink.v1 import link_pb2 as pb
from studio import events, views
from studio.rounds import MOST_RADIO, Images, Round, Rounds, digest_of
from studio.settings import StudioSettings
from studio.studio import Studio

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def view(random_bytes=b"", **more):
    return {
        "bits_on_air": {"uplink": 8}, "bits_flipped": 1, "stages_ms": {"encode": 1.0}, "images": {},
        "top1": {"name": "cat", "confidence": 0.5}, "received": digest_of(random_bytes), "maps": {},
    } | more  # fmt: skip


@given(JSON, JSON)
def test_a_past_round_is_as_it_was(maps, settings):
    held = Rounds()
    begun = held.begin({"knob": settings}, {"default": {}}, {"camera-1": {"picture": "p", "view": None}})
    begun.views["camera-1"] = view(maps=maps)
    begun.vote, begun.is_over = {"name": "cat"}, True
    assert held.get(1) is begun
    held.begin({}, None, {})
    past = held.get(1)
    assert past == begun
    assert (past.as_json(), past.received, past.summary()) == (begun.as_json(), begun.received, begun.summary())
    assert [each["number"] for each in held.summaries()] == [1, 2]


@given(st.lists(st.binary(max_size=400), max_size=40))
def test_rounds_stay_within_their_bounds(sizes):
    held = Rounds(most_rounds=10, most_bytes=4000)
    for data in sizes:
        begun = held.begin({}, None, {})
        begun.views["camera-1"] = view(data, maps={"flips": list(data)})
    numbers = [each["number"] for each in held.summaries()]
    assert numbers == list(range(len(sizes) - len(numbers) + 1, len(sizes) + 1))
    assert len(numbers) <= 10
    assert held.packed_bytes <= 4000
    assert [number for number in range(len(sizes) + 2) if held.get(number)] == numbers


def test_radio_views_are_of_the_newest_rounds():
    held = Rounds()
    for number in range(1, MOST_RADIO + 3):
        held.begin({}, None, {})
        held.put_radio(number, "camera-1", {"number": number})
    held.put_radio(MOST_RADIO, "camera-2", {})  # too late
    there = [number for number in range(MOST_RADIO + 3) if held.radio(number, "camera-1")]
    assert there == list(range(3, MOST_RADIO + 3))
    assert json.loads(held.radio(5, "camera-1")) == {"number": 5}
    assert held.radio(MOST_RADIO, "camera-2") is None


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=40))
def test_images_stay_within_their_bound(files):
    images = Images(most_bytes=500)
    for data in files:
        assert images.get(images.put(data)) == data
        held = {each for each in files if digest_of(each) in images}
        assert sum(map(len, held)) <= 500


@given(st.lists(st.text(max_size=200), max_size=40))
async def test_events_stay_within_their_bounds(texts):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(events, "MOST_EVENTS", 7)
        patched.setattr(events, "MOST_BYTES", 900)
        log = events.EventLog(dict)
        for text in texts:
            log.add("event", text=text)
        assert len(log) <= 7
        assert log.held_bytes <= 900


async def test_a_studio_that_runs_long_is_as_large_as_one_that_just_filled_up(monkeypatch):
    """Views as cameras tell of them, four a round; all that may fill up does so within 25 rounds."""
    monkeypatch.setattr(events, "MOST_BYTES", 100_000)
    studio = Studio(StudioSettings(), rounds=Rounds(most_rounds=20), images=Images(most_bytes=1 << 20))
    rng, sizes = random.Random(4), []
    tracemalloc.start()
    try:
        for _ in range(3):
            for _ in range(25):
                send_round(studio, rng)
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert max(sizes[1:]) < 1.1 * sizes[0]


def send_round(studio, rng):
    begun = studio.rounds.begin(studio.link.knobs(), {}, {})
    sending = studio.sending
    sending._under_way, sending._pending = begun, set(studio.names)
    studio.events.add("round", round=begun.as_json())
    for name in studio.names:
        arrived = rng.randbytes(20_000)
        told = view(
            arrived,
            maps={"flips": [rng.randrange(99) for _ in range(196)]},
            images={"arrived": digest_of(arrived)},
        )
        line = {
            "round": begun.number, "event": "view", "view": told,
            "data": {digest_of(arrived): base64.b64encode(arrived).decode()},
        }  # fmt: skip
        sending.hear(name, line)
        sending.hear(name, {"round": begun.number, "event": "radio", "radio": {"gains": [rng.random()] * 500}})
        sending.hear(name, {"round": begun.number, "event": "vote", "vote": None, "missing": []})
    studio.events.add("over", round=begun.number, summary=begun.summary(), identical=None)


@pytest.mark.parametrize(
    ("then", "now", "identical", "why"),
    [
        ({"camera-1": b"a", "camera-2": b"b"}, {"camera-2": b"b", "camera-1": b"a"}, True, ""),
        ({"camera-1": b"a"}, {"camera-1": b"b"}, False, ""),
        ({"camera-1": b"a", "camera-2": b"b", "camera-3": b"c"}, {"camera-2": b"b"}, None, "camera-1, camera-3"),
        ({"camera-1": b"a"}, {}, None, "missing: camera-1"),
        ({}, {}, None, "nothing arrived in round 1"),
    ],
)
def test_bits_are_compared_where_all_cameras_of_then_answered(then, now, identical, why):
    rounds = [Round(1, {}, None, {}), Round(2, {}, None, {}, of=1)]
    for each, answers in zip(rounds, (then, now), strict=True):
        each.views = {name: view(data) for name, data in answers.items()}
    again = rounds[1]
    again.compare_with(rounds[0])
    assert again.identical is identical
    assert why in again.why if why else not again.why
    assert again.as_json()["why"] == again.why


@pytest.mark.parametrize("changed", [0, 1])
def test_other_bits_over_a_channel_that_was_changed_meanwhile_are_no_fault(changed):
    rounds = [Round(number, {}, None, {}, views={"camera-1": view(b"a")}) for number in (1, 2)]
    rounds[changed].changed = True
    rounds[1].compare_with(rounds[0])
    assert (rounds[1].identical, rounds[1].why) == (True, "")
    rounds[1].views, rounds[1].identical = {"camera-1": view(b"b")}, None
    rounds[1].compare_with(rounds[0])
    assert rounds[1].identical is None
    assert f"changed while round {changed + 1} was sent" in rounds[1].why


def test_rounds_say_which_is_the_oldest_that_is_held():
    held = Rounds(most_rounds=3)
    assert held.oldest == 0
    for number in range(1, 6):
        held.begin({}, None, {})
        assert held.oldest == max(number - 2, 1)
        assert held.get(held.oldest)
        assert not held.get(held.oldest - 1)


def test_the_air_time_of_a_view_is_that_of_all_its_layers(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    encoded = Encoder(EncoderSettings(source="codec", side=64), device_id="a").encode(pixels, 0)
    report = {"timings_ms": dict.fromkeys(("attention", "encode", "plan", "channel", "round_trip", "server"), 0.0)}
    monkeypatch.setattr(views, "answer_report", lambda *_: report)
    monkeypatch.setattr(views, "maps", lambda *_: {})

    def air_ms(*layers):
        responses = [
            pb.ClassifyResponse(received_frame=encoded.data, channel=pb.ChannelReport(air_ms=each))
            for each in layers
        ]
        sent = Sent([Layer(number, encoded, None, each, 0.0) for number, each in enumerate(responses)])
        return views.view_report(SimpleNamespace(view=SimpleNamespace(pixels=pixels)), sent, 1.0, 0.0)[0]["air_ms"]

    assert air_ms(1.5, 20.0) == 21.5
    assert air_ms(0.0) is None
