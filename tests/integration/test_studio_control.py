"""The studio's client of the control plane: an emulator that is started anew is given back what was set."""

import pytest
from processes import running

from studio.control_plane import ControlPlane
from studio.running_link import RunningLink
from studio.settings import StudioSettings

CLEAR = {"default": {"type": "bsc", "ber": 0.0}, "devices": {"camera-2": {"type": "bsc", "ber": 0.25}}}
SCENARIO = {
    "loop": True,
    "steps": [
        {"at": 10, "default": {"ber": 0.125}},
        {"at": 20, "devices": {"camera-2": {"type": "none"}}},
        {"at": 3600},
    ],
}


def emulator():
    return running("-m", "channel_emulator", "--upstream", "127.0.0.1:9")


async def known_to(http, control) -> dict:
    await control.refresh()
    return {"impairments": http.get("/v1/impairments").json(), "scenario": http.get("/v1/scenario").json()}


@pytest.mark.parametrize("playing", [True, False])
async def test_a_scenario_goes_on_where_it_was(playing):
    where = [""]
    control = ControlPlane(lambda: where[0], lambda: None)
    with emulator() as first:
        where[0] = first.http_address
        first.http.put("/v1/impairments", json=CLEAR).raise_for_status()
        await control.refresh()
        first.http.put("/v1/scenario", json=SCENARIO).raise_for_status()
        first.http.patch("/v1/scenario", json={"position": 25, "playing": playing}).raise_for_status()
        if not playing:  # what was set by hand since then stays, too
            first.http.put("/v1/impairments/camera-3", json={"type": "none"}).raise_for_status()
        before = await known_to(first.http, control)
        known = control.scenario["position"]  # it plays on: what was asked for after this is later
    with emulator() as second:
        where[0] = second.http_address
        await control.give_back()
        after = await known_to(second.http, control)
        assert after["impairments"] == before["impairments"]
        assert after["impairments"]["devices"].keys() == {"camera-2"} | (set() if playing else {"camera-3"})
        for name in ("playing", "loop", "step", "steps", "seconds"):
            assert after["scenario"][name] == before["scenario"][name], name
        assert (after["scenario"]["playing"], after["scenario"]["step"]) == (playing, 2)
        assert known <= after["scenario"]["position"] < 3600
        second.http.patch("/v1/scenario", json={"position": 5, "playing": False}).raise_for_status()
        begun = second.http.get("/v1/impairments").json()
        assert begun["default"]["ber"] == 0  # the settings that the scenario began from
        assert begun["devices"]["camera-2"]["ber"] == 0.25
    await control.close()


async def test_a_scenario_goes_on_after_a_replay_over_another_channel():
    nothing = lambda *_: None  # noqa: E731
    link = RunningLink(StudioSettings(), nothing, nothing, nothing, nothing)
    with emulator() as process:
        link.channel.http = process.http_address
        link.channel_is_set.set()
        process.http.put("/v1/scenario", json=SCENARIO).raise_for_status()
        await link.control.refresh()
        now = link.control.impairments
        for other in (CLEAR, now):
            async with link.steady, link.over(other) as is_over:
                assert is_over
                assert not process.http.get("/v1/scenario").json()["playing"]
            assert process.http.get("/v1/scenario").json()["playing"]
            assert process.http.get("/v1/impairments").json() == now
    async with link.over(CLEAR) as is_over:
        assert not is_over
    assert link.control.impairments == now  # for the next emulator
    await link.control.close()
