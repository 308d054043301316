import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.progress import Progress
from scipy.stats import binom, binomtest

from experiments.data.image_sets import ImageSet, load_image_set
from experiments.evaluation.intervals import accuracy, difference, interval, percent, wilson
from experiments.training.checkpoint import save_checkpoint
from experiments.training.link_training import LinkTrainOptions, link_train
from experiments.training.link_training import _damaged as damaged
from experiments.training.train import TrainOptions, train
from experiments.training.train import _score as score
from semlink.vision.storage import read_weights, save_small
from semlink.vision.vit import class_names, load_vit
from semlink.vision.weights import DEVICE_MODEL


@pytest.fixture(autouse=True, scope="module")
def on_the_cpu():
    """Where the same run gives the same weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield


COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200)}
OPTIONS = TrainOptions(
    model=DEVICE_MODEL,
    weights=None,
    epochs=2,
    batch=8,
    learning_rate=1e-3,
    frozen_blocks=11,
    patch_dropout=0.5,
    distil=False,
    patience=5,
    seed=0,
)


@pytest.fixture(scope="module")
def coloured(tmp_path_factory) -> Path:
    """Forty plain pictures of two colours, twenty objects, with a manifest."""
    folder = tmp_path_factory.mktemp("coloured")
    generator = np.random.default_rng(0)
    with (folder / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "class", "label", "object", "fold"])
        for number in range(40):
            label = number % 2
            name = list(COLOURS)[label]
            noise = generator.integers(-25, 25, (64, 64, 3))
            pixels = np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
            rows.writerow([f"{number}.png", name, label, f"sample{number // 4}", number // 8])
    return folder


def halves(folder: Path) -> tuple[ImageSet, ImageSet]:
    return load_image_set(folder).where("fold=0")


class TestIntervals:
    @pytest.mark.parametrize(("right", "count"), [(24, 24), (0, 24), (1, 1), (800, 1000), (1, 7), (499, 500)])
    @pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
    def test_of_a_proportion_it_is_wilsons(self, right, count, confidence):
        truth = binomtest(right, count).proportion_ci(confidence, method="wilson")
        assert wilson(right, count, confidence) == pytest.approx((truth.low, truth.high), abs=1e-9)

    @pytest.mark.parametrize("arguments", [(0, 0), (-1, 3), (4, 3), (1, 2, 0.0), (1, 2, 1.0)])
    def test_what_is_no_proportion_is_refused(self, arguments):
        with pytest.raises(ValueError, match="within"):
            wilson(*arguments)

    def test_of_independent_images_an_accuracy_has_wilsons(self):
        measured = accuracy([True] * 800 + [False] * 200, [str(number) for number in range(1000)])
        assert measured["accuracy"] == 0.8
        assert (measured["low"], measured["high"]) == wilson(800, 1000)

    def test_24_of_24_right_is_not_100_to_100_percent(self):
        alone = accuracy([True] * 24, [str(number) for number in range(24)])
        assert (alone["low"], alone["high"]) == (pytest.approx(0.862, abs=5e-4), 1.0)
        # Eight objects say less than 24 images, and their bootstrap nothing at all.
        objects = accuracy([True] * 24, [str(number // 3) for number in range(24)])
        assert (objects["low"], objects["high"]) == wilson(8, 8)
        wrong = accuracy([False] * 24, [str(number // 3) for number in range(24)])
        assert (wrong["low"], wrong["high"]) == wilson(0, 8)

    def test_older_rows_are_read_with_wilsons(self):
        row = {"accuracy": 0.776, "low": 0.742, "high": 0.812, "images": 500, "samples": 500}
        assert interval(row) == wilson(388, 500)
        assert percent(row) == pytest.approx((77.6, 100 * wilson(388, 500)[0], 100 * wilson(388, 500)[1]))
        clustered = row | {"samples": 125}
        assert interval(clustered) == (0.742, 0.812)

    def test_images_that_err_together_make_it_wider(self):
        correct = [number % 5 != 0 for number in range(50) for _ in range(20)]
        together = accuracy(correct, [str(number) for number in range(50) for _ in range(20)])
        alone = accuracy(correct, [str(number) for number in range(1000)])
        assert together["accuracy"] == alone["accuracy"]
        assert together["high"] - together["low"] > 3 * (alone["high"] - alone["low"])
        assert (together["samples"], together["images"]) == (50, 1000)

    def test_differences_are_paired(self):
        generator = np.random.default_rng(0)
        hard = generator.random(1000) < 0.5
        first = hard | (generator.random(1000) < 0.05)
        names = [str(number) for number in range(1000)]
        paired = difference(first.tolist(), hard.tolist(), names)
        assert paired["difference"] == pytest.approx((first & ~hard).mean())
        # Of paired differences d in {0, 1} the interval is the binomial one of their mean.
        low, high = binom.interval(0.95, 1000, paired["difference"])
        assert paired["low"] == pytest.approx(low / 1000, abs=0.004)
        assert paired["high"] == pytest.approx(high / 1000, abs=0.004)
        assert difference(hard.tolist(), first.tolist(), names)["difference"] == -paired["difference"]


class TestStorage:
    def test_matrices_keep_their_rows_to_half_a_step(self, tmp_path):
        generator = torch.Generator().manual_seed(0)
        state = {
            "blocks.0.mlp.fc1.weight": torch.randn(7, 5, generator=generator) * torch.logspace(-3, 3, 7)[:, None],
            "patch_embed.proj.weight": torch.randn(4, 3, 2, 2, generator=generator),
            "norm.weight": torch.randn(9, generator=generator),
            "pos_embed": torch.randn(1, 3, 4, generator=generator),
            "head.weight": torch.zeros(2, 4),
        }
        path = tmp_path / "model.safetensors"
        save_small(path, state, ("cat", "dog"))
        stored = read_weights(path)
        assert (stored.classes, stored.kind) == (("cat", "dog"), "")
        read = stored.state
        assert read.keys() == state.keys()
        for name, tensor in state.items():
            assert read[name].shape == tensor.shape
            assert read[name].dtype == torch.float32
        for name in ("blocks.0.mlp.fc1.weight", "patch_embed.proj.weight"):
            rows, kept = state[name].flatten(1), read[name].flatten(1)
            step = rows.abs().amax(dim=1, keepdim=True) / 127
            assert ((rows - kept).abs() <= step * 0.5001).all()
        torch.testing.assert_close(read["norm.weight"], state["norm.weight"].half().float())
        assert (read["head.weight"] == 0).all()
        assert not list(tmp_path.glob("*.partial"))

    def test_may_be_read_by_whoever_the_umask_lets(self, tmp_path):
        path = tmp_path / "model.safetensors"
        for umask, mode in ((0o022, 0o644), (0o027, 0o640)):
            before = os.umask(umask)
            try:
                save_small(path, {"weight": torch.zeros(2, 2)}, ())
                save_checkpoint(path.with_suffix(".checkpoint"), None, {})
            finally:
                os.umask(before)
            assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {mode}

    def test_is_a_quarter_of_float32(self, tmp_path):
        state = {"weight": torch.randn(256, 1024)}
        save_small(tmp_path / "model.safetensors", state, ())
        assert (tmp_path / "model.safetensors").stat().st_size < 0.26 * 4 * 256 * 1024


class TestTrain:
    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, coloured, tmp_path_factory) -> tuple[Path, dict]:
        folder = tmp_path_factory.mktemp("models")
        held_out, kept = halves(coloured)
        with Progress(disable=True) as progress:
            card = train(OPTIONS, kept, held_out, folder, progress)
        return folder, card

    def test_learns_what_is_easy(self, trained):
        _, card = trained
        assert card["held_out"]["accuracy"] == 1.0
        assert card["held_out"]["images"] == 8
        assert card["trained_on"] + card["stopped_by"] == 32

    def test_writes_a_model_that_loads_and_names_its_classes(self, trained):
        folder, _ = trained
        model = load_vit(DEVICE_MODEL, weights=folder)
        assert model.num_classes == 2
        assert class_names(model) == ["red", "blue"]

    def test_writes_a_card_and_leaves_no_checkpoint(self, trained):
        folder, card = trained
        assert json.loads((folder / f"{DEVICE_MODEL}.json").read_text()) == card
        assert {"options", "command", "versions", "machine", "held_out"} <= card.keys()
        assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".safetensors"]

    def test_an_interrupted_run_goes_on_and_ends_the_same(self, coloured, tmp_path, trained, monkeypatch):
        held_out, kept = halves(coloured)
        with Progress(disable=True) as progress:
            calls = iter(["first epoch"])

            def interrupted(*arguments):
                if next(calls, None) is None:
                    raise KeyboardInterrupt  # at the end of the second epoch; the first is in the checkpoint
                return score(*arguments)

            with monkeypatch.context() as patch:
                patch.setattr("experiments.training.train._score", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    train(OPTIONS, kept, held_out, tmp_path, progress)
            assert not list(tmp_path.glob("*.safetensors"))
            assert (tmp_path / f"{DEVICE_MODEL}.checkpoint").is_file()
            train(OPTIONS, kept, held_out, tmp_path, progress)
        folder, _ = trained
        first = read_weights(folder / f"{DEVICE_MODEL}.safetensors").state
        again = read_weights(tmp_path / f"{DEVICE_MODEL}.safetensors").state
        for name in first:
            torch.testing.assert_close(again[name], first[name], atol=2e-3, rtol=0)


class TestLinkTraining:
    OPTIONS = LinkTrainOptions(DEVICE_MODEL, None, None, blocks=2, steps=3, batch=4, learning_rate=1e-4, seed=0)

    @pytest.fixture
    def few(self, coloured) -> ImageSet:
        return load_image_set(coloured).at_most(4)

    def run(self, data: ImageSet, folder: Path) -> dict:
        with Progress(disable=True) as progress:
            return link_train(self.OPTIONS, data, data, folder, progress)

    def test_makes_a_model_of_another_kind_that_keeps_its_classes(self, few, tmp_path):
        card = self.run(few, tmp_path)
        model = load_vit(DEVICE_MODEL, weights=tmp_path)
        assert model.num_classes == 1000
        assert str(model.origin).startswith("link-trained deit_tiny")
        assert card["kind"] == "link-trained"
        assert card["from"].startswith("deit_tiny")
        assert json.loads((tmp_path / f"{DEVICE_MODEL}.json").read_text()) == card

    def test_comes_nearer_to_the_clean_models_answers_on_damaged_images(self, few, tmp_path, monkeypatch):
        losses = []
        monkeypatch.setattr(
            "experiments.training.link_training.log.info", lambda *_, loss=None, **__: losses.append(loss)
        )
        monkeypatch.setattr("experiments.training.link_training.CHECKPOINT_STEPS", 6)
        with Progress(disable=True) as progress:
            link_train(replace(self.OPTIONS, steps=24, batch=8), few, few, tmp_path, progress)
        assert losses[-1] < 0.9 * losses[0]

    def test_an_interrupted_run_goes_on_and_ends_the_same(self, few, tmp_path, monkeypatch):
        self.run(few, tmp_path / "whole")
        monkeypatch.setattr("experiments.training.link_training.CHECKPOINT_STEPS", 2)
        with monkeypatch.context() as patch:
            calls = iter(range(2 * 4))

            def interrupted(*arguments):
                if next(calls, None) is None:
                    raise KeyboardInterrupt  # in the third step; two are in the checkpoint
                return damaged(*arguments)

            patch.setattr("experiments.training.link_training._damaged", interrupted)
            with pytest.raises(KeyboardInterrupt):
                self.run(few, tmp_path / "cut")
        assert (tmp_path / "cut" / f"{DEVICE_MODEL}.checkpoint").is_file()
        self.run(few, tmp_path / "cut")
        first, again = (
            read_weights(tmp_path / name / f"{DEVICE_MODEL}.safetensors").state for name in ("whole", "cut")
        )
        for name in first:
            torch.testing.assert_close(again[name], first[name], atol=2e-3, rtol=0)
