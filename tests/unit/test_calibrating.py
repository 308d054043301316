import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax
from typer.testing import CliRunner

from cli.main import app
from experiments import calibrating
from experiments.calibrating import Replay, Seen, Table, ask, fit, fit_rungs, send_alone
from semlink.decision.calibration import as_json, read_calibration

CLASSES = 6
RUNG = (112, 400)


def evidence(generator, labels, strength):
    """(B, C) logarithms of likelihoods of pictures whose right class stands out by some strength, less noise."""
    right = np.eye(CLASSES)[labels]
    # The ratio of the likelihoods of N(d, d) and N(0, d) at x is exp(x - d/2): logits are evidence as they are.
    return generator.normal(strength * right, np.sqrt(strength))


def table(pictures, device_scale=1.0, server_scale=1.0, views=1):
    """Device and server see each picture independently, and are as sure of it as they may be, times a scale."""
    generator = np.random.default_rng(1)
    objects = np.arange(pictures) // views
    labels = generator.integers(CLASSES, size=pictures)[objects]
    device, still, clean = (evidence(generator, labels, strength) for strength in (2.0, 2.0, 6.0))
    sizes = generator.integers(200, RUNG[1], pictures)
    looks = {
        RUNG: Seen(server_scale * still, device, sizes),
        (224, 900): Seen(server_scale * clean, device, 2 * sizes),
    }
    return Table(labels, device_scale * device, server_scale * clean, looks, objects)


def test_finds_the_temperature_and_weights_that_made_the_logits():
    calibration = fit_rungs(table(2500, device_scale=2.0, server_scale=2.0), "device", "server")
    assert calibration.opinion_temperature == pytest.approx(2.0, rel=0.1)
    for rung in calibration.rungs:
        # Independent evidence is multiplied: the opinion as it is, the look to the power that undoes its scale.
        assert rung.opinion_weight == pytest.approx(1.0, abs=0.15)
        assert rung.look_weight == pytest.approx(0.5, rel=0.15)
    assert [rung.mean_bytes for rung in calibration.rungs] == pytest.approx([300, 600], rel=0.05)


def test_the_accuracy_after_a_look_is_that_of_pictures_of_this_confidence():
    pictures = table(1200)
    calibration = fit_rungs(pictures, "device", "server")
    replay, rung = Replay(pictures, calibration), calibration.rungs[1]
    confidences = np.array([opinion.confidence for opinion in replay.opinions])
    right = np.array([replay.looked(view, rung).label == pictures.labels[view] for view in range(1200)])
    for low, high in ((0.2, 0.5), (0.5, 0.8), (0.8, 0.95)):
        there = (confidences > low) & (confidences <= high)
        # Three standard deviations of some 200 pictures are below 0.1.
        assert right[there].mean() == pytest.approx(rung.accuracy_after(confidences[there]).mean(), abs=0.1)


def test_every_frame_is_counted_and_a_price_too_high_leaves_the_opinions():
    pictures = table(40, views=4)
    replay = Replay(pictures, fit_rungs(pictures, "device", "server"))
    for policy in (ask, send_alone):
        dear = policy(replay, np.arange(4), 1.0)
        assert dear.bits == 128
        cheap = [policy(replay, views, 0.0) for views in pictures.views()]
        sizes = [*pictures.looks[RUNG].sizes, *pictures.looks[224, 900].sizes]
        assert max(decided.bits for decided in cheap) > 128
        assert all(decided.bits <= 128 + 8 * max(sizes) for decided in cheap)


@pytest.mark.parametrize("views", [1, 4])
def test_a_fit_can_be_written_and_its_curves_fall(monkeypatch, tmp_path, views):
    monkeypatch.setattr(calibrating, "PRICES", (1e-7, 3e-5, 1e-4, 1.0))
    steps = []
    calibration = fit(table(80, views=views), "device", "server", lambda: steps.append(1))
    assert len(steps) == 4 * calibrating.FOLDS * len(calibrating.POLICIES)
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(as_json(calibration)))
    assert read_calibration(path) == calibration
    for curve in (calibration.ask, calibration.alone):
        losses, bits = ([getattr(point, name) for point in curve.points] for name in ("accuracy_loss", "bits"))
        assert losses == sorted(losses)
        assert bits == sorted(bits, reverse=True)
        assert bits[-1] == 128
        assert losses[0] < losses[-1]


def test_a_second_look_of_the_device_is_taken_where_it_is_unsure():
    once = table(400)
    mirrored = np.random.default_rng(2).permutation(once.device)
    replay = Replay(
        replace(once, mirrored=mirrored), fit_rungs(replace(once, mirrored=mirrored), "device", "server")
    )
    alone = Replay(once, replay.calibration)
    unsure = softmax(once.device, axis=1).max(axis=1) < calibrating.MIRROR_BELOW
    differs = [two.confidence != one.confidence for two, one in zip(replay.opinions, alone.opinions, strict=True)]
    assert 0 < unsure.sum() < 400
    assert not np.any(np.array(differs) & ~unsure)
    # An opinion's codes are coarse: some second looks leave them as they are.
    assert np.mean(np.array(differs)[unsure]) > 0.5


def test_the_command_writes_what_can_be_read_and_shows_what_prices_lead_to(monkeypatch, tmp_path):
    monkeypatch.setattr(calibrating, "PRICES", (1e-7, 3e-5))
    monkeypatch.setattr(calibrating, "measure", lambda *_: table(40))
    for name in ("goldfish", "tench"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        (tmp_path / "pictures" / name / "0.png").touch()
    out = tmp_path / "made" / "calibration.json"
    done = CliRunner().invoke(app, ["calibrate", str(tmp_path / "pictures"), str(out), "--processes", "1"])
    assert done.exit_code == 0, done.output
    assert read_calibration(out).device.startswith("deit_tiny_patch16_224 ")
    assert "fitted on 2 images" in done.output


def test_the_command_says_what_is_wrong_with_the_data(tmp_path):
    done = CliRunner().invoke(app, ["calibrate", str(tmp_path), str(tmp_path / "calibration.json")])
    assert done.exit_code == 1
    assert "semlink: " in done.output
    assert not (tmp_path / "calibration.json").exists()
