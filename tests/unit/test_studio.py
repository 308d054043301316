"""The studio without a browser: knobs, rounds, images, events, maps, vendored files, colours."""

import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from device.capture import Encoded
from device.encoder import Encoder
from device.encoding import EncoderSettings
from device.sent import Layer
from semlink.channel.base import channels
from semlink.parameters import parameters
from semlink.source.iaq.coder import encode
from semlink.source.iaq.distortion import one_error_bound
from semlink.source.registry import source_coders
from semlink.v1 import link_pb2 as pb
from studio import events, page_files, vendor
from studio.comparison import SIDES, ComparisonError, channel_of, curve_of, fit
from studio.curves import curves
from studio.events import EventLog, TooManyFollowers
from studio.knobs import knobs
from studio.link_settings import LinkSettings
from studio.pictures import Pictures
from studio.rounds import MOST_ROUNDS, Images, Rounds, digest_of
from studio.symbols import SYMBOLS
from studio.views import maps, png

LISTED = knobs()
OF_LINK = {knob["name"]: knob for group in LISTED["groups"] for knob in group["knobs"]}


def test_every_setting_of_every_coder_is_a_knob():
    declared = {each.flag for coder in source_coders() for each in coder.settings}
    assert declared < OF_LINK.keys()
    assert OF_LINK["source"]["choices"] == [coder.flag for coder in source_coders()]
    assert OF_LINK["source"]["testid"] == "source"


def test_every_parameter_of_every_channel_is_a_knob():
    for channel in LISTED["channels"]:
        wanted = [each.name for each in parameters(channels()[channel["type"]]) if not each.at_start]
        assert [knob["name"] for knob in channel["knobs"]] == wanted
    snr = next(knob for each in LISTED["channels"] if each["type"] == "awgn" for knob in each["knobs"])
    assert (snr["testid"], snr["low"], snr["high"], snr["unit"]) == ("knob-snr", -50, 100, "dB")


def test_knobs_say_where_they_have_an_effect_as_settings_do():
    """Against `without_effect`, for every coder and method."""

    def holds(only, settings):
        if only["otherwise"] and holds(only["otherwise"], settings):
            return True
        value = settings[only["other"]]
        return value in only["values"] if only["values"] else bool(value)

    for source in OF_LINK["source"]["choices"]:
        for method in OF_LINK["method"]["choices"]:
            settings = EncoderSettings.model_construct(source=source, method=method)
            for name in EncoderSettings.model_fields:
                shown = all(holds(only, dict(settings)) for only in OF_LINK[name]["only"])
                assert shown == (not list(settings.without_effect([name])))


def test_knobs_are_json_and_files_are_none():
    assert json.loads(json.dumps(LISTED)) == LISTED
    assert "calibration" not in OF_LINK


@pytest.mark.parametrize("flag", SYMBOLS)
def test_symbols_are_of_knobs_and_their_equations_well_formed(flag):
    of_channels = {each.flag for kind in channels().values() for each in parameters(kind)}
    assert flag in OF_LINK.keys() | of_channels
    if SYMBOLS[flag].equation:
        ElementTree.fromstring(f"<math>{SYMBOLS[flag].equation}</math>")


def test_settings_change_together_where_they_must():
    told = LinkSettings()
    asking = told.changed({"policy": "ask"})
    assert (asking.source, asking.policy) == ("codec", "ask")
    assert asking.changed({"source": "iaq"}).policy == "all"
    assert told.of_device(takes_plans=False).get("plan") is None
    assert told.of_device(takes_plans=True)["plan"] == "ia-qsmpa"
    assert asking.changed({"policy": "all"}).of_device(takes_plans=True)["plan"] == "exact"
    assert "every" not in told.of_device(takes_plans=False)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"rho": 2}, "rho: must be at most 1"),
        ({"nonsense": 1}, "'nonsense' is no knob"),
        ({"calibration": "/etc/passwd"}, "'calibration' is no knob"),
        ({"cameras": 9}, "cameras: must be at most 8"),
        ({"method": "attention-threshold"}, "threshold"),
    ],
)
def test_settings_that_are_none_are_refused(changes, why):
    with pytest.raises(ValueError, match=re.escape(why)):
        LinkSettings().changed(changes)


def test_frame_ids_are_exact_in_a_page():
    most = LinkSettings(seed=2**20 - 1).frame_id(2**32 - 1)
    assert int(float(most)) == most == 2**52 - 1


def test_the_last_rounds_are_held():
    rounds = Rounds()
    for noise in range(MOST_ROUNDS + 2):
        rounds.begin(noise, {}, None, {})
    assert rounds.get(2) is None
    assert [each.number for each in rounds] == list(range(3, MOST_ROUNDS + 3))


def test_images_are_bounded_and_the_last_used_stay():
    images = Images(most_bytes=250)
    first, second = images.put(b"a" * 100), images.put(b"b" * 100)
    assert images.get(first)
    third = images.put(b"c" * 100)
    assert images.put(b"c" * 100) == third
    assert (first in images, second in images, third in images) == (True, False, True)


async def test_a_page_takes_up_events_where_it_was():
    log = EventLog(lambda: {"all": 1})
    log.add("first")
    log.add("second", value=2)
    follower = log.follow()
    assert _read(await anext(follower)) == ("2", "state", {"all": 1})
    log.add("third")
    assert _read(await anext(follower)) == ("3", "third", {})
    again = log.follow(f"{log.run}-1")
    assert _read(await anext(again)) == ("2", "second", {"value": 2})
    assert _read(await anext(again)) == ("3", "third", {})
    for unknown in (f"{log.run}-9", "other-1", f"{log.run}-x", ""):
        assert _read(await anext(log.follow(unknown)))[1] == "state"


async def test_a_page_that_missed_too_much_begins_anew(monkeypatch):
    monkeypatch.setattr(events, "MOST_EVENTS", 3)
    log = EventLog(lambda: {})
    follower = log.follow()
    await anext(follower)
    for number in range(5):
        log.add("event", number=number)
    assert _read(await anext(follower))[1] == "state"
    log.end()
    with pytest.raises(StopAsyncIteration):
        await anext(follower)


async def test_a_quiet_stream_has_a_heartbeat(monkeypatch):
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.01)
    follower = EventLog(lambda: {}).follow()
    await anext(follower)
    assert await anext(follower) == b": alive\n\n"


async def test_so_many_pages_follow(monkeypatch):
    monkeypatch.setattr(events, "MOST_FOLLOWERS", 1)
    log = EventLog(lambda: {})
    first = log.follow()
    await anext(first)
    with pytest.raises(TooManyFollowers):
        log.follow()
    await first.aclose()
    await anext(log.follow())


def _read(event):
    identity, kind, data = event.decode().strip().split("\n")
    return identity.rpartition("-")[2], kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_maps_of_patches_against_counting():
    generator = np.random.default_rng(3)
    pixels = generator.integers(0, 256, (224, 224, 3), np.uint8)
    attention = generator.random(196).astype(np.float32)
    frame = encode(pixels, attention, rho=0.1, gamma=2.0, design_ber=0.01).frame
    damaged = bytearray(frame.payload)
    first = int(np.flatnonzero(frame.bits)[0])
    damaged[0] ^= 0b10100000  # two bits of the first patch that has any
    lost = int(np.flatnonzero(frame.bits)[-1])
    received = frame.with_payload(bytes(damaged)).without([lost])
    view = Encoded(frame.to_bytes(), attention, pixels, 0, 0)
    response = pb.ClassifyResponse(received_frame=received.to_bytes())
    found = maps(view, Layer(0, view, None, response, 0), received, 2.0, 0.01)
    assert found["bits"] == frame.bits.tolist()
    assert found["flips"] == [2 if patch == first else 0 for patch in range(196)]
    assert found["lost"] == [1 if patch == lost else 0 for patch in range(196)]
    patch, span = int(np.argmax(attention)), int(pixels.max()) - int(pixels.min())
    share = (attention[patch] - attention.min()) / (attention.max() - attention.min())
    assert found["weight"][patch] == pytest.approx(share**2, rel=1e-5)
    before, after = (one_error_bound(int(frame.bits[patch]) + more, 0.01, value_range=span) for more in (0, 1))
    assert found["gain"][patch] == pytest.approx(768 * (before - after), rel=1e-5)
    assert "bits" not in maps(replace(view, attention=None), Layer(0, view, None, response, 0), received, 1, 0)


def test_an_encoder_takes_other_settings_without_loading_models_anew():
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    first = Encoder(EncoderSettings(source="codec"), device_id="a")
    settings = EncoderSettings(source="codec", side=64, budget_bytes=400)
    changed = first.with_settings(settings)
    assert changed._loading is first._loading  # a copy: nothing was loaded
    assert changed.encode(pixels, 0).data == Encoder(settings, device_id="a").encode(pixels, 0).data
    assert first.encode(pixels, 0).data != changed.encode(pixels, 0).data


BSC = {"type": "bsc", "ber": 0.01, "access": "none", "design_ber": None}
AWGN = {"type": "awgn", "snr_db": 10.0, "order": 16, "access": "qam", "cbr": "1/8"}


@pytest.mark.parametrize(
    ("link", "met", "expected"),
    [
        ("as set", BSC, BSC),
        ("avif behind LDPC", BSC, BSC | {"access": "ldpc"}),
        ("avif", BSC | {"access": "ldpc"}, BSC),
        ("avif", AWGN, AWGN),
        ("avif behind LDPC", AWGN, AWGN | {"access": "ldpc"}),
    ],
)
def test_links_meet_the_channel_as_it_is_but_for_their_access(link, met, expected):
    assert channel_of(SIDES[link], met) == expected


def test_no_codes_are_where_the_channel_has_none():
    with pytest.raises(ComparisonError, match="mimo_ofdm has no LDPC"):
        channel_of(SIDES["avif behind LDPC"], {"type": "mimo_ofdm", "snr_db": 20.0})


@pytest.mark.parametrize("link", SIDES)
def test_every_link_can_be_set_whatever_was_set_before(link):
    for before in (LinkSettings(), LinkSettings(source="codec", policy="ask"), LinkSettings(total_bits=50_000)):
        before.changed(dict(SIDES[link].settings))


@pytest.mark.parametrize(("parity", "most_tries"), [(1.0, 1), (1.7, 3), (3.0, 3)])
async def test_a_link_is_fitted_to_the_others_bits(parity, most_tries):
    tries = []

    async def send(link):
        tries.append(link.total_bits)
        return {"bits_on_air": {"uplink": int(parity * link.total_bits)}}

    view = await fit(send, LinkSettings(), 100_000)
    assert 97_000 <= view["bits_on_air"]["uplink"] <= 100_000
    assert len(tries) <= most_tries


async def test_a_coder_without_a_budget_is_sent_as_it_is():
    async def send(link):
        return {"bits_on_air": {"uplink": 300_000}, "source": link.source}

    assert (await fit(send, LinkSettings(source="learned"), 1000))["source"] == "learned"


def test_curves_are_those_that_were_committed():
    found = {(curve["method"], curve["ber"]): curve["points"] for curve in curves()}
    assert [round(point["bits"]) for point in found["incremental", 0.05]] == [76168, 151432, 301960, 603016]
    assert all(point["low"] <= point["accuracy"] <= point["high"] for curve in found.values() for point in curve)
    for link, met, name in (("fixed", BSC, "fixed"), ("avif behind LDPC", BSC | {"access": "ldpc"}, "avif-ldpc")):
        assert curve_of(LinkSettings().changed(dict(SIDES[link].settings)), met) == name
        assert any(method == name for method, _ in found)


def test_four_cameras_see_a_photo_four_ways_and_uploads_replace_it():
    pictures = Pictures()
    pictures.open(["chelsea"])
    assert [pictures.of(f"camera-{n}", n)["view"] for n in range(5)] == [1, 2, 3, 4, 1]
    data = png(np.zeros((30, 40, 3)))
    pictures.show(data, ["camera-2"], from_viewpoints=False)
    assert pictures.of("camera-2", 1) == {"picture": digest_of(data), "view": None}
    assert "data" in pictures.line(digest_of(data))
    pictures.forget()
    assert pictures.of("camera-2", 1)["view"] == 2
    assert pictures.line(digest_of(data)) is None


def test_vendored_files_are_those_that_are_listed():
    assert not list(vendor.mistakes())
    assert {each["licence"] for each in vendor.listed()} <= {"Apache-2.0", "MIT"}


@pytest.mark.parametrize("name", ["viridis", "cividis"])
def test_colour_maps_are_matplotlibs(name):
    import matplotlib

    text = (page_files.FOLDER / "colormaps.js").read_text()
    block = text.partition(f"export const {name} = ")[2].partition(");")[0]
    table = bytes.fromhex("".join(re.findall(r'"([0-9a-f]+)"', block)))
    expected = np.round(255 * matplotlib.colormaps[name](np.arange(256))[:, :3])
    assert np.array_equal(np.frombuffer(table, np.uint8).reshape(256, 3), expected)


def test_the_page_loads_nothing_of_others():
    for path, file in page_files.page_files().items():
        if "/vendor/" not in path:
            text = file.data.decode()
            assert not re.findall(r"https?://(?!www\.w3\.org/)", text), path
            assert 'style="' not in text, f"{path}: the policy forbids it"
