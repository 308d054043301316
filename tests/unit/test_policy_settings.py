"""Settings of policies: what they imply, and what has no effect beside them."""

import pytest

from device.policy import PolicySettings
from device.settings import DeviceSettings
from semlink.service.settings import read_settings

DEVICE = ("--to", "host:1", "--images", "chelsea", "--object-id", "cup")


def told(*arguments):
    return read_settings(DeviceSettings, "device", [*DEVICE, *arguments])


@pytest.mark.parametrize("policy", ["ask", "alone"])
def test_pictures_behind_opinions_are_the_codecs(policy):
    settings = told("--policy", policy)
    assert (settings.source, settings.coding["codec"]) == ("codec", "avif")
    assert told("--policy", policy, "--codec", "webp", "--engine", "torch").coding["codec"] == "webp"


def test_without_a_policy_all_is_as_it_was():
    settings = told()
    assert (settings.policy, settings.source, settings.protect_for) == ("all", "iaq", None)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--policy ask --source iaq", "sends pictures of --source codec, not of iaq: leave --source out"),
        ("--policy ask --rho 0.5", "--rho is for --source iaq, not codec"),
        ("--policy ask --side 112", "--side is for --policy all, not ask"),
        ("--policy alone --budget-bytes 500", "--budget-bytes is for --policy all, not alone"),
        ("--policy ask --target-accuracy-loss 1", "--target-accuracy-loss is for --policy alone, not ask"),
        ("--policy ask --budget-bits 900", "--budget-bits is for --policy alone, not ask"),
        ("--calibration a.json", "--calibration is for --policy alone or ask, not all"),
        ("--source codec --engine torch", "--engine is for --source"),
        ("--policy alone --budget-bits 900 --target-accuracy-loss 1", "a target of accuracy or of bits, not both"),
        ("--protect-for 0.3", "--protect-for (or SEMLINK_PROTECT_FOR)"),
    ],
)
def test_what_has_no_effect_or_no_sense_is_refused(arguments, says, capsys):
    with pytest.raises(SystemExit):
        told(*arguments.split())
    assert says in capsys.readouterr().err


def test_a_target_of_a_server_that_asks_is_one_of_the_demo_and_in_the_environment_of_all(monkeypatch):
    assert list(PolicySettings(policy="ask", budget_bits=900).without_effect(["budget_bits"])) == []
    monkeypatch.setenv("SEMLINK_BUDGET_BITS", "900")
    assert told("--policy", "ask").policy == "ask"
