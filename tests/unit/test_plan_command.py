import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from semlink.access.planner import PlanMethod, draw_gains, draw_importance, plan
from semlink.channel.ofdm import Numerology
from semlink.source.iaq.importance import importance_weights

pytestmark = pytest.mark.numeric


def run(*arguments):
    return CliRunner().invoke(app, ["plan", *(str(argument) for argument in arguments)])


def document(*arguments):
    """The one JSON document on standard output; NaN and Infinity are not JSON."""

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout, parse_constant=refuse)


def test_json_is_the_plan_of_the_recipe():
    found = document("--method", "ia-qsmpa", "--snr", 20, "--streams", 4, "--rho", 0.25, "--seed", 3)
    made = plan(draw_importance(3), draw_gains(Numerology(), 3), 20.0)
    assert found["t_d_ms"] == pytest.approx(made.t_d * 1e3)
    assert found["bits"] == made.bits.tolist()
    assert found["power"] == pytest.approx(made.power.tolist())
    assert found["mapping"] == made.block_of_subchannel.tolist()
    assert found["latency_ms"] == pytest.approx((made.latencies * 1e3).tolist())
    assert max(found["latency_ms"]) == found["t_d_ms"]
    assert found["seed"] == 3
    assert found["target_bler"] is None
    assert found["exceeds_coherence"] is False


@pytest.mark.parametrize("method", PlanMethod)
def test_every_method_with_and_without_a_finite_block_length(method):
    ideal = document("--method", method, "--snr", 35)
    finite = document("--method", method, "--snr", 35, "--finite-blocklength", "--target-bler", 1e-5)
    assert ideal["method"] == method
    assert finite["target_bler"] == 1e-5
    assert 0 < ideal["t_d_ms"] < finite["t_d_ms"]
    assert np.sum(ideal["bits"]) == np.sum(finite["bits"]) == 392


class TestChannelFile:
    @pytest.fixture
    def matrices(self, tmp_path):
        generator = np.random.default_rng(0)
        found = 1e-3 * (generator.standard_normal((3, 64, 2, 3)) + 1j * generator.standard_normal((3, 64, 2, 3)))
        np.savez(tmp_path / "h.npz", H=found, spacing_hz=30e3)
        return found

    def test_a_plan_over_measured_matrices(self, tmp_path, matrices):
        """It is that of the frame's singular values, at the mean power of the file."""
        found = document("--channel-file", tmp_path / "h.npz", "--frame", 4, "--snr", 15)
        level = np.mean(np.abs(matrices) ** 2)
        gains = np.linalg.svd(matrices[1] / np.sqrt(level), compute_uv=False)
        made = plan(draw_importance(0), gains, 15.0, numerology=Numerology(64, 2, 30e3, 128.0))
        assert found["bits"] == made.bits.tolist()
        assert found["t_d_ms"] == pytest.approx(1e3 * made.t_d, rel=1e-6)
        assert found["measured_power_db"] == pytest.approx(10 * np.log10(level))
        assert (found["frame"], found["frames"], found["streams"], found["subcarriers"]) == (1, 3, 2, 64)
        assert found["ofdm_symbols"] == 2  # 196 blocks over 128 subchannels
        assert len(found["mapping"]) == 128
        shown = run("--channel-file", tmp_path / "h.npz").stdout
        assert "frame 0 of 3, 64 subcarriers of 30 kHz; its mean power of -57" in shown
        assert "196 blocks over 128 subchannels: 2 OFDM symbols are taken as one." in shown

    def test_a_plan_at_the_snr_of_a_trace(self, tmp_path):
        (tmp_path / "trace.csv").write_text("frame,snr_db\n0,20\n1,5\n")
        found = document("--channel-file", tmp_path / "trace.csv", "--frame", 1)
        assert {**found, "channel_file": None} == {
            **document("--snr", 5), "channel_file": None, "frame": 1, "frames": 2
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (("--frame", 1), "--frame has no effect without --channel-file"),
            (
                ("--channel-file", "trace.csv", "--snr", 20),
                "--snr has no effect beside a --channel-file with an SNR",
            ),
            (("--channel-file", "nowhere.npy"), "channel file nowhere.npy: No such file"),
            (("--channel-file", "h.npz", "--streams", 3), "streams must be at most 2"),
        ],
    )
    def test_what_cannot_be_is_refused(self, tmp_path, matrices, monkeypatch, arguments, reason):
        (tmp_path / "trace.csv").write_text("frame,snr_db\n0,20\n")
        monkeypatch.chdir(tmp_path)
        result = run(*arguments)
        assert result.exit_code != 0
        assert reason in result.stderr


def test_an_infinite_latency_is_null():
    found = document("--method", "fixed-b-wf", "--snr", 0)
    assert found["t_d_ms"] is None
    assert found["exceeds_coherence"] is True
    assert found["latency_ms"].count(None) == found["blocks_without_rate"] > 0


def test_the_table_says_what_it_means():
    result = run("--snr", 20)
    assert result.exit_code == 0, result.output
    assert "T_d = 1.127 ms" in result.stdout
    assert "coherence" not in result.stdout
    assert "Longer than the 3.33 ms" in run("--snr", 0).stdout
    starved = run("--method", "fixed-b-wf", "--snr", 0).stdout
    assert "T_d = inf" in starved
    assert "blocks get nothing through" in starved


@pytest.mark.parametrize("method", ["ia-qsmpa", "ia-qsmpa-lc", "uniform"])
def test_it_says_where_theorem_2_leaves_blocks_waiting(method):
    arguments = ("--method", method, "--snr", 20, "--finite-blocklength")
    found = document(*arguments)
    early = sum(latency < 0.9 * found["t_d_ms"] for latency in found["latency_ms"])
    first, last = min(found["latency_ms"]), max(found["latency_ms"])
    assert f"the first is done after {first:.4g} ms" in found["theorem_2_waiting"]
    assert f"the last after {last:.4g} ms; {early} of 196 are done before" in found["theorem_2_waiting"]
    assert found["theorem_2_waiting"] in run(*arguments).stdout
    assert (
        "finds no powers"
        in document("--method", method, "--snr", -10, "--finite-blocklength")["theorem_2_waiting"]
    )


def test_other_methods_leave_none_waiting_by_theorem_2():
    assert document("--method", "ia-qsmpa", "--snr", 20)["theorem_2_waiting"] is None
    exact = document("--method", "exact", "--snr", 20, "--finite-blocklength")
    assert exact["theorem_2_waiting"] is None
    assert min(exact["latency_ms"]) == pytest.approx(exact["t_d_ms"], rel=1e-6)


def test_the_options_reach_the_plan():
    base = document("--snr", 20)
    assert np.shape(document("--streams", 6)["mapping"]) == (784, 6)
    assert np.sum(document("--rho", 0.5)["bits"]) == 784
    assert document("--seed", 1)["t_d_ms"] != base["t_d_ms"]
    assert document("--mapping", "inverse")["mean_gain"] == pytest.approx(base["mean_gain"][::-1])
    assert document("--mapping", "random")["subcarrier_mapping"] == "random"
    quick = document("--method", "exact", "--latency-weight", 1e8)
    assert quick["t_d_ms"] < base["t_d_ms"]
    assert quick["weighted_error"] > base["weighted_error"]


@pytest.mark.parametrize("suffix", [".npy", ".txt", ".csv"])
def test_importance_from_a_file(tmp_path, suffix):
    scores = np.random.default_rng(0).random(196)
    path = tmp_path / f"scores{suffix}"
    if suffix == ".npy":
        np.save(path, scores)
    else:
        path.write_text((", " if suffix == ".csv" else "\n").join(map(repr, scores.tolist())))
    made = plan(importance_weights(scores), draw_gains(Numerology(), 0), 20.0)
    assert document("--importance", path)["bits"] == made.bits.tolist()


def test_importance_of_a_photo():
    """As a process, whose logs of what it loads must leave standard output to the document."""
    command = [Path(sys.executable).with_name("semlink"), "plan", "--image", "chelsea", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert np.sum(found["bits"]) == 392
    assert len(set(found["bits"])) > 2
    assert found["bits"] != document()["bits"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [("1 2 3", "must hold 196 numbers, not 3"), ("one two", "no importance scores"), ("nan " * 196, "finite")],
)
def test_refuses_what_is_no_importance(tmp_path, content, reason):
    path = tmp_path / "scores.txt"
    path.write_text(content)
    result = run("--importance", path)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("semlink: ")
    assert reason in line


def test_refuses_a_pickle(tmp_path):
    path = tmp_path / "scores.npy"
    np.save(path, np.array([{}]), allow_pickle=True)
    result = run("--importance", path)
    assert result.exit_code == 1
    assert "no importance scores" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "word"),
    [
        (["--snr", "nan"], 2, "--snr: must be a finite number"),
        (["--importance", "missing.npy"], 1, "missing.npy"),
        (["--image", "nosuch"], 1, "nosuch"),
        (["--image", "chelsea", "--importance", "x"], 2, "--importance has no effect beside --image"),
        (["--finite-blocklength", "--target-bler", 0], 2, "--target-bler: must be greater than 0"),
        (["--target-bler", 0.1], 2, "--target-bler has no effect without --finite-blocklength"),
        (["--latency-weight", 2], 2, "--latency-weight is for --method exact, not ia-qsmpa"),
        (["--weights", "."], 2, "--weights has no effect without --image"),
        (["--target-bler", 0.6], 2, "--target-bler"),
        (["--rho", 0.1], 2, "--rho"),
        (["--latency-weight", -1], 2, "--latency-weight"),
        (["--method", "best"], 2, "--method"),
    ],
)
def test_refuses(arguments, status, word):
    result = run(*arguments)
    assert result.exit_code == status
    assert word in result.stderr
    assert result.stdout == ""
