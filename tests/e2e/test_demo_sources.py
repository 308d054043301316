"""`semlink demo` with each source coder but IAQ, which test_demo.py has: four devices, a vote, pictures."""

import pytest
from PIL import Image
from processes import skip_without
from test_demo import Demo

from semlink.source.registry import source_coder, source_coders
from semlink.vision.weights import WeightsError

pytestmark = pytest.mark.slow

OPTIONS = {
    "codec": ("--codec", "webp", "--side", "224", "--budget-bytes", "8000", "--channel", "none"),
    "learned": ("--channel", "awgn", "--snr", "10", "--access", "learned", "--cbr", "1/8"),
    "transformer-aided": ("--ratio", "0.75", "--token-bits", "6", "--channel", "packet-loss"),
}
"""Of each coder's demo, beside its name."""
SETTINGS = {
    "codec": {"codec": "webp", "side": 224, "budget_bytes": 8000},
    "learned": {},
    "transformer-aided": {"ratio": 0.75, "alpha": 0.85, "token_bits": 6, "selection_seed": 0},
}
"""As the summary has them."""


@pytest.fixture(scope="module", params=OPTIONS)
def demo(request, tmp_path_factory):
    name = request.param
    try:
        source_coder(name.replace("-", "_")).prepare(None)
    except (ValueError, WeightsError) as error:
        skip_without(f"--source {name} cannot be tried: {error}")
    return name, Demo(tmp_path_factory.mktemp(name), "--source", name, *OPTIONS[name]).end()


def test_every_coder_has_its_demo():
    assert {coder.flag for coder in source_coders()} <= {"iaq", *OPTIONS}


def test_it_ends_with_a_vote_and_leaves_nothing_running(demo):
    _, run = demo
    assert run.status == 0, run.stderr + run.stdout
    assert run.left_running == []
    vote = run.summary["vote"]
    assert f"Vote: {vote['name']} (class {vote['label']}), {vote['votes']} of 4 views" in run.stdout
    assert "cat" in vote["name"] or "tabby" in vote["name"]


def test_table_and_summary_name_the_coder_and_its_settings(demo):
    name, run = demo
    assert run.summary["encoder"] == {"source": name, **SETTINGS[name]}
    assert run.summary["plan"] is None
    words = ", ".join(f"{key} {value}" for key, value in run.summary["encoder"].items())
    assert f"encoder: {words}; server: " in " ".join(run.stdout.split())
    takes_attention = next(coder.takes != "pixels" for coder in source_coders() if coder.flag == name)
    assert ("attention ms" in run.stdout) == takes_attention
    for view in run.summary["views"]:
        assert view["source"] == name
        assert (view["timings_ms"]["attention"] is None) != takes_attention
        assert view["true_ratio"] > view["rho"] > 0


def test_there_is_a_picture_of_what_every_camera_saw_and_of_what_was_received(demo):
    _, run = demo
    for number in range(1, 5):
        with Image.open(run.out / f"view-{number}.png") as picture:
            assert picture.height == 256
            assert picture.width >= 2 * 232 + 8
