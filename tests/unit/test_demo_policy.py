"""What a demo says of its policy: whose picture was sent, why the others were not, and what that saved."""

import json

import pytest

from cli.demo_policy import default_bits, device_flags, saving, server_flags, why
from device.policy import PolicySettings
from semlink.decision.calibration import as_json, read_calibration

VALUES = 224 * 224 * 3


def view(confidence, layers=1, uplink=128):
    return {
        "opinion": [{"label": 3, "confidence": confidence}],
        "layers": layers * [{}],
        "bits_on_air": {"uplink": uplink, "downlink": 8},
    }


@pytest.mark.parametrize(
    ("policy", "confidence", "layers", "says"),
    [
        ("all", 0.3, 1, None),
        ("ask", 0.3, 2, "unsure, 0.30"),
        ("ask", 0.999, 1, "sure, 1.00"),
        ("ask", 0.3, 1, "vote settled, 0.30"),
        ("alone", 0.3, 2, "unsure, 0.30"),
        ("alone", 0.93, 1, "sure, 0.93"),
    ],
)
def test_why_a_picture_was_sent_or_not(tmp_path, policy, confidence, layers, says):
    # Of a server whose looks are right nearly always, so that it would ask a view that is in doubt.
    content = as_json(read_calibration())
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(content | {"rungs": [content["rungs"][0] | {"after": [4.0, 0.5]}]}))
    assert why(view(confidence, layers), PolicySettings(policy=policy, calibration=path)) == says


def test_targets_are_the_servers_where_it_asks_and_the_devices_where_they_are_alone():
    given = {"target_accuracy_loss": 2.0, "calibration": "a.json", "protect_for": 0.05}
    ask, alone = (PolicySettings(policy=policy, **given) for policy in ("ask", "alone"))
    assert server_flags(ask).keys() == {"target_accuracy_loss", "budget_bits", "calibration"}
    assert device_flags(ask).keys() == {"policy", "calibration", "protect_for"}
    assert server_flags(alone) == {}
    assert device_flags(alone)["target_accuracy_loss"] == 2
    assert server_flags(PolicySettings()) == {}


def test_what_was_saved_is_told_beside_the_default_and_the_pixels():
    assert default_bits() == VALUES * 8 // 4 + 904  # IAQ at ρ = 1/4, and its header
    text = saving([view(0.9), view(0.9), view(0.3, 2, 128 + 12_040), view(0.9)])
    assert text == (
        "On air: 12,552 bits up, 32 down, 1 % of the 1,207,840 of a demo without --policy; 0.26 % of the pixels."
    )
    whole = saving([view(0.9, 1, default_bits())])
    assert whole == "On air: 301,960 bits up, 8 down; 25 % of the pixels."
