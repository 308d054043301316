"""The control plane's HTTP: PUT sets everything, PATCH what it names, scenarios play, events say what happened."""

import asyncio
import itertools

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

from channel_emulator.control import control_plane
from channel_emulator.events import EventLog
from channel_emulator.impairments import impairment_of, start_with
from channel_emulator.live import LiveImpairments
from channel_emulator.metrics import Metrics
from channel_emulator.per_device import Impairments
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.channel.presets import PRESETS
from semlink.service.admission import Admission
from semlink.service.listener import Health

PATH = "/v1/impairments"
UNCODED = {"access": "none", "design_ber": None}
ERRING = {"type": "mimo_ofdm", "snr_db": 12.0, "streams": 8, "coding": "uncoded", "order": 16}
ERRING_WHOLE = {**ERRING, "csi_error": 0.0, "redraw_every_coherence": False}
STEPS = [{"at": 0, "default": {"ber": 0.2}}, {"at": 10, "devices": {"left": {"preset": "lossy"}}}, {"at": 20}]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(clock):
    start = Impairments(default=impairment_of(BinarySymmetricChannel(ber=0.02)))
    live = LiveImpairments(start, clock=clock, events=EventLog(clock))
    return control_plane(live, Metrics(), Health(), Admission())


@pytest.fixture
def client(app):
    return TestClient(app, base_url="http://localhost")


def problem(response: httpx.Response, status: int) -> str:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    return response.json()["detail"]


class TestPatch:
    def test_an_erring_link_goes_on_erring(self, client):
        """Where PUT with the SNR alone sets streams, coding and order to their defaults, and says so."""
        client.put(PATH, json={"default": ERRING})
        changed = client.patch(PATH, json={"default": {"snr_db": 20}})
        assert changed.json() == {"default": {**ERRING_WHOLE, "snr_db": 20.0}, "devices": {}}
        assert client.get(PATH).json() == changed.json()
        replaced = client.put(PATH, json={"default": {"type": "mimo_ofdm", "snr_db": 20}})
        assert replaced.json()["default"] == {
            **ERRING_WHOLE, "snr_db": 20.0, "streams": 4, "coding": "ideal", "order": 64
        }  # fmt: skip

    def test_of_one_device_leaves_all_others(self, client):
        client.put(PATH, json={"default": {"type": "bsc", "ber": 0.1}, "devices": {"left": ERRING}})
        answer = client.patch(f"{PATH}/left", json={"streams": 2})
        assert answer.json() == {**ERRING_WHOLE, "streams": 2}
        assert client.patch(f"{PATH}/right", json={"ber": 0.3}).json() == {"type": "bsc", "ber": 0.3, **UNCODED}
        assert client.get(PATH).json() == {
            "default": {"type": "bsc", "ber": 0.1, **UNCODED},
            "devices": {"left": answer.json(), "right": {"type": "bsc", "ber": 0.3, **UNCODED}},
        }

    def test_of_devices_beside_the_default(self, client):
        client.put(PATH, json={"default": {"type": "bsc", "ber": 0.1}, "devices": {"left": ERRING, "up": ERRING}})
        patch = {"default": {"ber": 0.2}, "devices": {"left": None, "right": {"type": "burst"}}}
        answer = client.patch(PATH, json=patch).json()
        assert answer["default"] == {"type": "bsc", "ber": 0.2, **UNCODED}
        assert answer["devices"].keys() == {"up", "right"}
        assert (answer["devices"]["right"]["type"], answer["devices"]["right"]["ber"]) == ("burst", 0.2)

    def test_another_type_keeps_what_both_have(self, client):
        client.put(PATH, json={"default": ERRING})
        assert client.patch(PATH, json={"default": {"type": "awgn"}}).json()["default"] == {
            "type": "awgn", "snr_db": 12.0, "order": 16, "access": "qam", "design_ber": None, "cbr": "1/8"
        }  # fmt: skip

    def test_another_type_keeps_nothing_that_it_does_not_take(self, client):
        client.put(PATH, json={"default": {"type": "bsc", "ber": 0.1}})
        assert client.patch(PATH, json={"default": {"type": "awgn"}}).json()["default"]["access"] == "qam"
        client.put(PATH, json={"default": {"type": "bsc", "ber": 0.1, "access": "ldpc", "design_ber": 0.2}})
        coded = client.patch(PATH, json={"default": {"type": "rayleigh"}}).json()["default"]
        assert (coded["access"], coded["design_ber"]) == ("ldpc", 0.2)

    def test_of_nothing_changes_nothing(self, client):
        before = client.get(PATH).json()
        for patch in ({}, {"default": {}}, {"devices": {}}):
            assert client.patch(PATH, json=patch).json() == before

    @pytest.mark.parametrize(
        ("patch", "reason"),
        [
            ({"default": {"ber": 2}}, "must be at most 1"),
            ({"default": {"snr_db": 3}}, "default.bsc.snr_db"),
            ({"default": {"bre": 0.1}}, "bre"),
            ({"default": {"ber": None}}, "ber"),
            ({"default": None}, "default"),
            ({"default": {"type": "burst", "ber": 0.6}}, "ber must be within"),
            ({"default": {"ber": 0.3}, "devices": {"left": {"type": "awgn", "ber": 1}}}, "devices.left.awgn.ber"),
            ({"defaults": {}}, "defaults"),
            ({"default": {"preset": "fog"}}, "lossy"),
            ({"devices": {"x" * 129: {}}}, "128"),
            ({"devices": {str(number): {} for number in range(1025)}}, "1024"),
        ],
    )
    def test_what_is_wrong_changes_nothing(self, client, patch, reason):
        before = client.get(PATH).json()
        assert reason in problem(client.patch(PATH, json=patch), 422)
        assert client.get(PATH).json() == before

    def test_the_devices_are_bounded_after_the_change(self, client):
        client.patch(PATH, json={"devices": {str(number): {} for number in range(1024)}}).raise_for_status()
        assert "1024 devices" in problem(client.patch(PATH, json={"devices": {"one-more": {}}}), 422)
        assert "1024 devices" in problem(client.patch(f"{PATH}/one-more", json={}), 409)
        client.patch(PATH, json={"devices": {"0": None, "one-more": {}}}).raise_for_status()

    async def test_changes_at_once_are_all_made(self, app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            bers = {f"camera-{number}": number / 100 for number in range(40)}
            answers = await asyncio.gather(
                *(client.patch(f"{PATH}/{name}", json={"ber": ber}) for name, ber in bers.items()),
                *(
                    client.patch(PATH, json={"devices": {f"other-{name}": {"ber": ber}}})
                    for name, ber in bers.items()
                ),
                client.patch(PATH, json={"default": {"ber": 0.5}}),
            )
            assert all(answer.is_success for answer in answers)
            settings = (await client.get(PATH)).json()
        assert settings["default"]["ber"] == 0.5
        assert {name: own["ber"] for name, own in settings["devices"].items() if "other" not in name} == bers
        assert len(settings["devices"]) == 80

    async def test_each_put_answers_with_what_it_set(self, app):
        """Whatever others set at once."""
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            errors = [{"type": "bsc", "ber": number / 100, **UNCODED} for number in range(50)]
            bodies = [{"default": default, "devices": {}} for default in errors]
            answers = await asyncio.gather(*(client.put(PATH, json=body) for body in bodies))
            assert [answer.json() for answer in answers] == bodies
            assert (await client.get(PATH)).json() in bodies


class TestPresets:
    def test_are_listed(self, client):
        listed = {each["name"]: each for each in client.get("/v1/presets").json()}
        assert listed.keys() == PRESETS.keys() >= {"clear", "paper", "deep-fade", "burst", "lossy"}
        assert listed["paper"]["impairment"] == {"type": "bsc", "ber": 0.05, **UNCODED}
        assert all(each["description"] for each in listed.values())

    @pytest.mark.parametrize("name", PRESETS)
    def test_stand_for_an_impairment(self, client, name):
        (wanted,) = (each["impairment"] for each in client.get("/v1/presets").json() if each["name"] == name)
        named = {"preset": name}
        assert client.put(PATH, json={"default": named, "devices": {"left": named}}).json() == {
            "default": wanted, "devices": {"left": wanted}
        }  # fmt: skip
        assert client.put(f"{PATH}/right", json=named).json() == wanted
        client.put(PATH, json={"default": ERRING})
        assert client.patch(PATH, json={"default": named}).json()["default"] == wanted
        assert client.patch(f"{PATH}/up", json=named).json() == wanted

    def test_other_parameters_beside_a_name(self, client):
        lossier = {"preset": "lossy", "loss": 0.5}
        for answer in (client.put(f"{PATH}/left", json=lossier), client.patch(f"{PATH}/left", json=lossier)):
            assert answer.json() == {"type": "packet_loss", "loss": 0.5, "packet_bytes": 1200, **UNCODED}

    def test_that_do_not_go_with_the_channel_file_are_refused(self, client, tmp_path):
        np.save(tmp_path / "h.npy", np.ones((1, 8, 2, 2), complex))
        start_with(channel_file=str(tmp_path / "h.npy"))
        try:
            assert len(client.get("/v1/presets").json()) == len(PRESETS)
            assert "channel file" in problem(client.patch(PATH, json={"default": {"preset": "good-radio"}}), 422)
            client.patch(PATH, json={"default": {"preset": "mimo"}}).raise_for_status()
        finally:
            start_with()

    @pytest.mark.parametrize("wrong", [{"preset": "fog"}, {"preset": 7}, {"preset": "lossy", "ber": 0.1}])
    def test_what_is_none(self, client, wrong):
        problem(client.put(f"{PATH}/left", json=wrong), 422)


class TestScenario:
    def test_there_is_none_at_first(self, client):
        for method, arguments in (("GET", {}), ("PATCH", {"json": {}}), ("DELETE", {})):
            assert "PUT one" in problem(client.request(method, "/v1/scenario", **arguments), 404)

    def test_it_plays_and_is_moved(self, client, clock):
        state = client.put("/v1/scenario", json={"steps": STEPS, "loop": True}).json()
        assert state == {
            "playing": True,
            "loop": True,
            "position": 0.0,
            "seconds": 20.0,
            "step": 1,
            "steps": STEPS,
        }
        assert client.get(PATH).json()["default"]["ber"] == 0.2
        clock.now = 12.5
        assert "left" in client.get(PATH).json()["devices"]
        state = client.patch("/v1/scenario", json={"playing": False}).json()
        assert (state["playing"], state["position"], state["step"]) == (False, 12.5, 2)
        clock.now = 100
        state = client.patch("/v1/scenario", json={"position": 5, "loop": False}).json()
        assert (state["position"], state["loop"], state["step"]) == (5.0, False, 1)
        assert client.get(PATH).json()["devices"] == {}
        assert client.patch("/v1/scenario", json={"playing": True}).json()["playing"]
        clock.now = 200
        state = client.get("/v1/scenario").json()
        assert (state["playing"], state["position"], state["step"]) == (False, 20.0, 3)
        assert client.delete("/v1/scenario").status_code == 204
        assert "left" in client.get(PATH).json()["devices"]
        assert client.get("/v1/scenario").status_code == 404

    @pytest.mark.parametrize("content_type", ["text/csv", "Text/CSV; charset=utf-8"])
    def test_as_csv(self, client, content_type):
        table = "at,device,preset,ber\n0,,,0.2\n10,left,lossy,\n20,,,\n"
        answer = client.put("/v1/scenario", content=table, headers={"Content-Type": content_type})
        assert answer.json()["steps"] == STEPS
        for wrong, reason in ((b"at,ber\n0,7\n", "row 2: ber"), (b"\xff", "UTF-8"), (b"", "row 1")):
            refused = client.put("/v1/scenario", content=wrong, headers={"Content-Type": content_type})
            assert reason in problem(refused, 422)
        assert client.get("/v1/scenario").json()["steps"] == STEPS

    @pytest.mark.parametrize(
        ("patch", "reason"),
        [
            ({"position": 21}, "at most 20"),
            ({"position": -1}, "must be at least 0"),
            ({"playing": None}, "playing"),
            ({"speed": 2}, "speed"),
        ],
    )
    def test_what_it_is_not_moved_by(self, client, patch, reason):
        before = client.put("/v1/scenario", json={"steps": STEPS}).json()
        assert reason in problem(client.patch("/v1/scenario", json=patch), 422)
        assert client.get("/v1/scenario").json() == before

    def test_one_at_a_single_moment_can_not_loop(self, client):
        client.put("/v1/scenario", json={"steps": STEPS[:1]}).raise_for_status()
        assert "can't loop" in problem(client.patch("/v1/scenario", json={"loop": True}), 422)

    def test_a_timeline_is_taken_as_a_whole_or_not_at_all(self, client):
        before = client.get(PATH).json()
        wrong = [*STEPS, {"at": 30, "default": {"snr_db": 3}}]
        assert "step 4 at 30 s" in problem(client.put("/v1/scenario", json={"steps": wrong}), 422)
        assert client.get(PATH).json() == before
        assert client.get("/v1/scenario").status_code == 404


class TestEvents:
    def test_say_who_changed_what(self, client, clock):
        client.put("/v1/scenario", json={"steps": STEPS})
        clock.now = 11
        client.patch(f"{PATH}/left", json={"loss": 0.5})
        problem(client.put(PATH, json={"default": {"type": "fog"}}), 422)
        client.post("/v1/reset")
        page = client.get("/v1/events").json()
        told = [(event["kind"], event.get("by"), event["action"]) for event in page["events"]]
        assert told == [
            ("scenario", None, "loaded"),
            ("settings", "scenario", "step 1 of 3 at 0 s"),
            ("settings", "scenario", "step 2 of 3 at 10 s"),
            ("scenario", None, "paused"),
            ("settings", "control plane", f"PATCH {PATH}/left"),
            ("refusal", None, f"PUT {PATH}"),
            ("scenario", None, "removed"),
            ("settings", "control plane", "POST /v1/reset"),
        ]
        lossy = {"type": "packet_loss", "loss": 0.05, "packet_bytes": 1200, **UNCODED}
        assert page["events"][4]["before"] == {"default": None, "devices": {"left": lossy}}
        assert page["events"][4]["after"] == {"default": None, "devices": {"left": {**lossy, "loss": 0.5}}}
        assert page["events"][5]["status"] == 422
        assert "fog" in page["events"][5]["detail"]
        assert [event["cursor"] for event in page["events"]] == list(range(1, 9))
        assert (page["next"], page["dropped"]) == (8, 0)
        assert all(a["time"] <= b["time"] for a, b in itertools.pairwise(page["events"]))

    @pytest.mark.parametrize(
        ("body", "preset"),
        [
            ({"default": {"preset": "lossy"}}, "lossy"),
            ({"default": {"preset": "lossy"}, "devices": {"left": {"preset": "lossy"}}}, "lossy"),
            ({"default": {"preset": "lossy"}, "devices": {"left": {"preset": "clear"}}}, None),
            ({"default": {"preset": "lossy", "loss": 0.3}}, None),
        ],
    )
    def test_name_the_preset(self, client, body, preset):
        client.patch(PATH, json=body)
        (event,) = client.get("/v1/events").json()["events"]
        assert event["preset"] == preset

    def test_are_read_in_pages(self, client):
        for number in range(5):
            client.patch(PATH, json={"default": {"ber": number / 10}})
        first = client.get("/v1/events", params={"limit": 2}).json()
        assert (len(first["events"]), first["next"]) == (2, 2)
        rest = client.get("/v1/events", params={"after": first["next"]}).json()
        assert [event["cursor"] for event in rest["events"]] == [3, 4, 5]
        assert client.get("/v1/events", params={"after": 5}).json() == {"events": [], "next": 5, "dropped": 0}
        assert "begin with 0" in problem(client.get("/v1/events", params={"after": 6}), 422)
        problem(client.get("/v1/events", params={"limit": 0}), 422)

    @pytest.mark.parametrize(
        ("method", "path", "arguments", "status"),
        [
            ("DELETE", f"{PATH}/nobody", {}, 404),
            ("PUT", PATH, {"content": b"x" * (1 << 21)}, 413),
            ("PUT", PATH, {"content": b"{"}, 422),
            ("POST", "/v1/nowhere", {}, 404),
            ("POST", PATH, {}, 405),
        ],
    )
    def test_tell_of_refusals(self, client, method, path, arguments, status):
        answer = client.request(method, path, headers={"Content-Type": "application/json"}, **arguments)
        (event,) = client.get("/v1/events").json()["events"]
        assert (event["kind"], event["action"], event["status"]) == ("refusal", f"{method} {path}", status)
        assert event["detail"] == answer.json()["detail"][:300]

    def test_who_only_reads_leaves_no_trace(self, client):
        client.get("/v1/nowhere")
        assert client.get("/v1/events").json()["events"] == []


def test_every_operation_is_described(client):
    document = client.get("/openapi.json").json()
    operations = {
        (path, method): found for path, each in document["paths"].items() for method, found in each.items()
    }
    assert operations.keys() >= {
        (PATH, "patch"), (f"{PATH}/{{device_id}}", "patch"), ("/v1/presets", "get"), ("/v1/events", "get"),
        *(("/v1/scenario", method) for method in ("get", "put", "patch", "delete")),
    }  # fmt: skip
    assert operations["/v1/scenario", "put"]["requestBody"]["content"].keys() == {"application/json", "text/csv"}
    wanted = document["components"]["schemas"]["Impairments-Input"]["properties"]["default"]["anyOf"]
    assert wanted[1]["properties"]["preset"]["enum"] == list(PRESETS)
    assert document["components"]["schemas"]["ImpairmentPatch"]["properties"]["snr_db"]["minimum"] == -50
    assert "required" not in document["components"]["schemas"]["ImpairmentPatch"]
