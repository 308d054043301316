"""The studio without a browser: knobs, rounds, images, events, maps, vendored files, colours."""

import contextlib
import json
import re
from base64 import b64decode
from dataclasses import replace

import httpx
import numpy as np
import pytest

from cli.demo import BESIDE_PLAN
from device.capture import Encoded
from device.encoder import Encoder
from device.encoding import EncoderSettings
from device.sent import Layer
from semlink.channel.base import channels
from semlink.parameters import parameters
from semlink.service.settings import read_settings
from semlink.source.iaq.coder import encode
from semlink.source.iaq.distortion import one_error_bound
from semlink.source.registry import decode, source_coders
from semlink.v1 import link_pb2 as pb
from studio import events, page_files, vendor
from studio.events import EventLog, TooManyFollowers
from studio.knobs import facts, knobs
from studio.link_settings import KNOBS, OWN, LinkSettings
from studio.maps import maps
from studio.pictures import MOST_UPLOADS, Pictures
from studio.processes import Listener, Watched
from studio.rounds import MOST_ROUNDS, Images, Rounds
from studio.settings import StudioSettings
from studio.studio import Studio

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
                declared = [only for only in OF_LINK[name]["only"] if only["other"] != "policy"]
                shown = all(holds(only, dict(settings)) for only in declared)
                assert shown == (not list(settings.without_effect([name])))


def test_ends_of_a_knob_are_taken():
    for group in knobs()["groups"]:
        for knob in group["knobs"]:
            for end in ("low", "high"):
                if knob["kind"] == "whole" and knob[end] is not None and knob["name"] in OWN:
                    assert LinkSettings().changed({knob["name"]: knob[end]})


def test_knobs_are_json_and_files_are_none():
    assert json.loads(json.dumps(LISTED)) == LISTED
    assert "calibration" not in OF_LINK


def test_knobs_say_over_which_channels_they_have_an_effect():
    bsc, planned = {"type": "bsc", "ber": 0.01}, {"type": "mimo_ofdm", "coding": "ideal"}
    met = {
        "default": bsc,
        "devices": {"camera-1": planned, "camera-2": bsc | {"access": "ldpc"}, "x": {"type": "x"}},
    }
    found = facts(met)
    assert found["default"] == {"idle": ["design_ber"], "over": ["no plans"]}
    assert found["devices"]["camera-1"] == {"idle": ["order"], "over": ["plans"]}
    assert found["devices"]["camera-2"] == {"idle": [], "over": ["no plans", "codes"]}
    assert found["devices"]["x"]["idle"] == []
    assert {knob["over"] for knob in OF_LINK.values()} == {"", "plans", "no plans", "codes"}
    for name in (name for name, knob in OF_LINK.items() if knob["over"] == "no plans"):
        assert name in BESIDE_PLAN or name == "total_bits"  # which plans refuse


def test_settings_change_together_where_they_must():
    told = LinkSettings()
    asking = told.changed({"policy": "ask"})
    assert (asking.source, asking.policy) == ("codec", "ask")
    assert asking.changed({"source": "iaq"}).policy == "all"
    assert told.of_device(takes_plans=False).get("plan") is None
    assert told.of_device(takes_plans=True)["plan"] == "ia-qsmpa"
    assert asking.changed({"policy": "all"}).of_device(takes_plans=True)["plan"] == "exact"
    assert "every" not in told.of_device(takes_plans=False)
    assert "total_bits" not in told.changed({"total_bits": 50_000}).of_device(takes_plans=True)
    by_threshold = told.changed({"method": "attention-sum-threshold"})
    assert by_threshold.coding["threshold"] == 0.6
    assert by_threshold.changed({"method": "fixed"}).coding["threshold"] is None


@pytest.mark.parametrize("is_running", [False, True])
async def test_all_knobs_are_set_at_once_and_rounds_that_run_go_on(is_running):
    studio = Studio(StudioSettings())
    studio.running.keep = lambda names: False  # no process is started
    studio.change({"gamma": 2.0, "total_bits": 50_000, "seed": 3, "noise": 7, "running": is_running})
    studio.replace({"rho": 0.125})
    assert studio.link == LinkSettings(rho=0.125, running=is_running, noise=7 if is_running else 0)
    with pytest.raises(ValueError, match="rho"):
        studio.replace({"rho": 2})
    assert studio.replace({}) == LinkSettings(running=is_running, noise=7 if is_running else 0)


@pytest.mark.parametrize(("met", "is_refused"), [("bsc", False), ("mimo_ofdm", True)])
async def test_a_plan_forbids_other_settings_only_over_channels_that_take_plans(met, is_refused):
    studio = Studio(StudioSettings())
    studio.running.keep = lambda names: False  # no process is started
    studio.running.control.impairments = {"default": {"type": met}, "devices": {}}
    assert studio.change({"plan": "exact"}).plan == "exact"
    with pytest.raises(ValueError, match="plan") if is_refused else contextlib.nullcontext():
        changed = studio.change({"total_bits": 50_000})
        assert (changed.plan, changed.coding["total_bits"]) == (None, 50_000)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"rho": 2}, "rho: must be at most 1"),
        ({"nonsense": 1}, "'nonsense' is no knob"),
        ({"calibration": "/etc/passwd"}, "'calibration' is no knob"),
        ({"cameras": 9}, "cameras: must be at most 8"),
        ({"method": "attention-threshold", "threshold": None}, "threshold"),
    ],
)
def test_settings_that_are_none_are_refused(changes, why):
    with pytest.raises(ValueError, match=re.escape(why)):
        LinkSettings().changed(changes)


def test_frame_ids_are_exact_in_a_page():
    most = LinkSettings(seed=2**20 - 1, noise=2**32 - 1).frame_id
    assert int(float(most)) == most == 2**52 - 1


def test_the_last_rounds_are_held():
    rounds = Rounds()
    for noise in range(MOST_ROUNDS + 2):
        rounds.begin({"noise": noise}, None, {})
    assert rounds.get(2) is None
    assert [each["number"] for each in rounds.summaries()] == list(range(3, MOST_ROUNDS + 3))


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
    arrived, layer = decode(received), Layer(0, view, None, response, 0)
    found = maps(view, layer, received, arrived, 2.0, 0.01)
    assert found["bits"] == frame.bits.tolist()
    assert found["flips"] == [2 if patch == first else 0 for patch in range(196)]
    assert found["lost"] == [1 if patch == lost else 0 for patch in range(196)]
    patch, span = int(np.argmax(attention)), int(pixels.max()) - int(pixels.min())
    share = (attention[patch] - attention.min()) / (attention.max() - attention.min())
    assert found["weight"][patch] == pytest.approx(share**2, rel=1e-5)
    before, after = (one_error_bound(int(frame.bits[patch]) + more, 0.01, value_range=span) for more in (0, 1))
    assert found["gain"][patch] == pytest.approx(768 * (before - after), rel=1e-5)
    least, now = (one_error_bound(int(frame.bits[patch]) - less, 0.01, value_range=span) for less in (1, 0))
    assert found["spent"][patch] == pytest.approx(768 * (least - now), rel=1e-5)
    assert found["bound"][patch] == pytest.approx(now, rel=1e-5)
    assert [spent > 0 for spent in found["spent"]] == (frame.bits > 0).tolist()
    row, column = divmod(patch, 14)
    there = np.s_[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
    off = arrived[there] - pixels[there]
    assert found["error"][patch] == pytest.approx(np.var(off) + np.mean(off) ** 2)
    assert "bits" not in maps(replace(view, attention=None), layer, received, arrived, 1, 0)
    assert "error" not in maps(view, layer, received, None, 1, 0)


def test_an_encoder_takes_other_settings_without_loading_models_anew():
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    first = Encoder(EncoderSettings(source="codec"), device_id="a")
    settings = EncoderSettings(source="codec", side=64, budget_bytes=400)
    changed = first.with_settings(settings)
    assert changed._loading is first._loading  # a copy: nothing was loaded
    assert changed.encode(pixels, 0).data == Encoder(settings, device_id="a").encode(pixels, 0).data
    assert first.encode(pixels, 0).data != changed.encode(pixels, 0).data


def test_four_cameras_see_a_photo_four_ways_and_uploads_replace_it():
    pictures = Pictures()
    pictures.open(["chelsea"])
    assert [pictures.of(f"camera-{n}", n)["view"] for n in range(5)] == [1, 2, 3, 4, 1]
    pictures.show("a", [b"whole", b"left", b"right"], ["camera-2"], from_viewpoints=False)
    assert pictures.of("camera-2", 1) == {"picture": "a", "view": None}
    assert b64decode(pictures.line("a", None)["pixels"]) == b"whole"
    assert b64decode(pictures.line("a", 2)["pixels"]) == b"right"
    for number in range(3 * MOST_UPLOADS):
        pictures.show(str(number), [b"", b""], ["camera-3"], from_viewpoints=True)
    held = [number for number in range(3 * MOST_UPLOADS) if pictures.line(str(number), 1)]
    assert held == list(range(2 * MOST_UPLOADS + 1, 3 * MOST_UPLOADS))
    assert pictures.line("a", None)  # which camera-2 still looks at
    pictures.forget()
    assert pictures.of("camera-2", 1)["view"] == 2
    assert pictures.line(str(3 * MOST_UPLOADS - 1), 1)  # which a round may need that is played again
    assert (
        sum(pictures.line(each, 1) is not None for each in ["a", *map(str, range(3 * MOST_UPLOADS))])
        == MOST_UPLOADS
    )


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


AUTHORITY, CERTIFICATE, API_KEY = "--tls-server-authority=a.pem", "--tls-certificate=c.pem", "--api-key-file=key"
SERVER, CHANNEL = "--server=127.0.0.1:1,127.0.0.1:2", "--channel=127.0.0.1:3,127.0.0.1:4"


@pytest.mark.parametrize("flag", [AUTHORITY, API_KEY])
def test_settings_of_calls_are_refused_where_nobody_is_attached_to(flag, capsys):
    with pytest.raises(SystemExit):
        read_settings(StudioSettings, "studio", [flag])
    assert f"{flag.partition('=')[0]} has no effect without --server or --channel" in capsys.readouterr().err
    for attached in (SERVER, CHANNEL):
        read_settings(StudioSettings, "studio", [flag, attached])


@pytest.mark.parametrize(
    ("flags", "of_emulator", "of_camera"),
    [
        ([CERTIFICATE, "--tls-key=k.pem"], set(), set()),
        ([SERVER, CERTIFICATE, "--tls-key=k.pem"], set(), set()),
        ([SERVER, API_KEY], set(), {"api_key_file"}),
        ([SERVER, AUTHORITY], {"tls_server_authority"}, set()),
        (
            [SERVER, AUTHORITY, CERTIFICATE, "--tls-key=k.pem"],
            {"tls_server_authority", "tls_certificate", "tls_key"},
            {"tls_server_authority", "tls_certificate", "tls_key"},
        ),
        ([CHANNEL, AUTHORITY, API_KEY], {"tls_server_authority"}, {"tls_server_authority", "api_key_file"}),
    ],
)
def test_who_is_started_calls_as_whom_it_calls_listens(flags, of_emulator, of_camera):
    told = read_settings(StudioSettings, "studio", flags)
    assert (told.of_emulator().keys(), told.of_camera().keys()) == (of_emulator, of_camera)


def test_what_is_started_does_not_listen_as_the_page_does(monkeypatch, tmp_path):
    dropped = ("HOST", "API_KEYS", "TLS_CERTIFICATE", "TLS_SERVER_AUTHORITY", "TOTAL_BITS", "PROTECT_FOR")
    for name in (*dropped, "LOG_LEVEL", "API_KEY", "CALIBRATION"):
        monkeypatch.setenv(f"SEMLINK_{name}", "debug" if name == "LOG_LEVEL" else "x")
    found = StudioSettings(weights=tmp_path).environment(KNOBS)
    kept = {name for name in found if name.startswith("SEMLINK_")}
    assert kept >= {"SEMLINK_LOG_LEVEL", "SEMLINK_API_KEY", "SEMLINK_CALIBRATION", "SEMLINK_WEIGHTS"}
    assert not kept & {f"SEMLINK_{name}" for name in dropped}
    assert found["SEMLINK_WEIGHTS"] == str(tmp_path)


async def test_a_process_that_is_back_has_the_round_sent_again_and_what_is_told_of_it_has_not():
    studio = Studio(StudioSettings())
    studio.rounds.begin({}, None, {})
    server = studio.running.server.watched
    for standing, why, wanted in (
        ("ready", "", 1),
        ("ready", "Redis is away", 0),
        ("silent", "does not answer", 0),
        ("ready", "Redis is away", 1),
        ("ready", "", 0),
    ):
        server.stands(standing, why)
        assert studio.wanted == wanted
        studio._wanted.clear()
    studio.running.channel.watched.stands("ready")
    assert not studio.wanted


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (httpx.Response(200, json={"ready": True}), ""),
        (
            httpx.Response(200, json={"ready": True, "degraded": ["Redis is away", "no decoder"]}),
            "Redis is away; no decoder",
        ),
        (httpx.Response(200, json={"ready": True, "degraded": 7}), "does not answer as a process of Semlink does"),
        (httpx.Response(200, content=b"<html>"), "does not answer as a process of Semlink does"),
        (httpx.Response(421, json={"detail": "Host is another"}), "HTTP 421: Host is another"),
        (httpx.ConnectError("refused"), "its HTTP port cannot be reached"),
        (httpx.ReadTimeout("late"), ""),
    ],
)
async def test_what_is_the_matter_with_a_process_is_what_its_health_says(answer, why):
    def answered(request):
        assert request.url.path == "/v2/health/ready"
        if isinstance(answer, Exception):
            raise answer
        return answer

    listener = Listener(Watched("server", lambda watched: None))
    transport = httpx.MockTransport(answered)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:1") as client:
        found = await listener._problem(client)
        assert found == why if not why.startswith("does") else found.endswith(why)
        listener.problem = "HTTP 401: no key"
        assert await listener._problem(client) == "HTTP 401: no key"


async def test_who_wants_the_same_noise_again_waits_for_the_same_round():
    studio = Studio(StudioSettings())
    first = studio.want("again")
    assert studio.want("again") is first
    assert studio.want("next") is not first
    assert studio.want("again") is not first
    assert studio.wanted == 3
