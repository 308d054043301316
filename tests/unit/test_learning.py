import csv
import json
import os
import re
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from interruption import whole_and_resumed
from PIL import Image
from rich.progress import Progress
from scipy.stats import binom, binomtest
from typer.testing import CliRunner

from cli.main import app
from experiments.data import ImageSetError
from experiments.data.image_sets import ImageSet, load_image_set
from experiments.evaluation.intervals import accuracy, difference, interval, percent, wilson
from experiments.training.checkpoint import load_checkpoint, save_checkpoint
from experiments.training.link_training import LinkTrainOptions, link_train
from experiments.training.train import WIDEST, Score, TrainOptions, train
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
    min_steps=0,
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
        assert card["trained_on"] + card["stopped_by"]["images"] == 32
        assert card["stopped_by"]["samples"] == 4, "a fifth of each class's eight objects"
        assert not card["stopped_by"]["enough"], "of four objects right the interval is 51 to 100 %"

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
                patch.setattr("experiments.training.train.CHECKPOINT_STEPS", 1)
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

    def trained_with_scores(self, data, scores, options, folder, monkeypatch) -> list[torch.Tensor]:
        """Weights of the head after each pass, when the passes have these scores; the last are those that stay."""
        heads, left = [], iter(scores)

        def scored(model, *_):
            heads.append(model.head.weight.detach().clone())
            return next(left)

        def tokens(_, examples, *__):
            return torch.randn(len(examples), 2, 5, 192, generator=torch.Generator().manual_seed(0))

        monkeypatch.setattr("experiments.training.train._score", scored)
        monkeypatch.setattr("experiments.training.train._embed", tokens)  # what images cost, and this is not about
        monkeypatch.setattr("experiments.training.train.measure", lambda *_: {})
        held_out, kept = halves(data)
        with Progress(disable=True) as progress:
            train(replace(options, frozen_blocks=12), kept, held_out, folder, progress)
        return [*heads, read_weights(folder / f"{DEVICE_MODEL}.safetensors").state["head.weight"]]

    def test_of_equal_accuracies_the_loss_decides(self, coloured, tmp_path, monkeypatch):
        scores = [Score(0.5, -0.1), Score(1.0, -0.6), Score(1.0, -0.4), Score(1.0, -0.5)]
        *heads, stays = self.trained_with_scores(
            coloured, scores, replace(OPTIONS, epochs=4), tmp_path, monkeypatch
        )
        distances = [(head - stays).abs().max().item() for head in heads]
        assert distances.index(min(distances)) == 2
        assert min(distances) < 1e-3 < sorted(distances)[1]

    @pytest.mark.parametrize(("min_steps", "passes"), [(0, 3), (12, 4), (100, 34)])
    def test_no_gain_ends_it_only_after_the_least_steps(self, coloured, tmp_path, monkeypatch, min_steps, passes):
        options = replace(OPTIONS, epochs=None, min_steps=min_steps, patience=2)  # a pass has three steps
        scores = [Score(0.5, -1.0)] * 40
        heads = self.trained_with_scores(coloured, scores, options, tmp_path, monkeypatch)
        assert len(heads) - 1 == passes

    def test_72_photos_are_not_left_after_a_few_steps(self):
        options = replace(OPTIONS, epochs=None, min_steps=100, batch=32)
        assert options.passes(45) * options.steps(45) == 100
        assert options.passes(45_000) == 10
        assert replace(options, epochs=5).passes(45) == 5

    def test_what_would_make_the_result_worthless_is_refused(self, coloured, tmp_path):
        everything = load_image_set(coloured)
        held_out, kept = everything.where("label=odd")
        with Progress(disable=True) as progress:
            with pytest.raises(ImageSetError, match="1 of 2 classes would have no image to train on: 'blue'"):
                train(OPTIONS, kept, held_out, tmp_path / "out", progress)
            alone = replace(kept, classes=("red",))
            with pytest.raises(ImageSetError, match="has one class, 'red'; training needs two or more"):
                train(OPTIONS, alone, alone, tmp_path / "out", progress)
            with pytest.raises(ImageSetError, match=r"the model has other classes: .* 'blue', 'red'"):
                train(replace(OPTIONS, distil=True), everything, everything, tmp_path / "out", progress)

    def test_two_pictures_of_a_class_leave_none_to_stop_by(self, coloured, tmp_path):
        everything = load_image_set(coloured)
        few = replace(everything, examples=(*everything.examples[:2], *everything.examples[8:10]))
        with Progress(disable=True) as progress:
            card = train(replace(OPTIONS, epochs=1), few, few, tmp_path, progress)
        assert (card["trained_on"], card["stopped_by"]) == (4, None)

    def test_a_checkpoint_of_other_images_is_not_gone_on_with(self, coloured, tmp_path):
        held_out, kept = halves(coloured)
        path = tmp_path / f"{DEVICE_MODEL}.checkpoint"
        save_checkpoint(path, (OPTIONS, kept.identity), {"step": 1})
        assert load_checkpoint(path, (OPTIONS, kept.identity)) is not None
        assert load_checkpoint(path, (OPTIONS, held_out.identity)) is None


class TestCommand:
    """What `semlink train FOLDER OUT` trains on and holds out, nothing else said."""

    @pytest.fixture
    def seen(self, monkeypatch) -> dict:
        seen: dict = {}

        def instead(options, data, held_out, *_):
            seen.update(options=options, data=data, held_out=held_out)
            measured = accuracy([True] * 24, [str(number) for number in range(24)])
            return {"held_out": measured, "stopped_by": seen.get("stopped_by")}

        monkeypatch.setattr("experiments.training.train.train", instead)
        monkeypatch.setattr("experiments.training.link_training.link_train", instead)
        return seen

    @pytest.fixture
    def photos(self, tmp_path) -> Path:
        for number in range(24):
            for name in ("cat", "cow", "dog"):
                (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
                (tmp_path / "photos" / name / f"{number}.JPG").write_bytes(b"")
        return tmp_path / "photos"

    @pytest.mark.parametrize("command", ["train", "link-train"])
    def test_a_tree_of_classes_is_enough(self, photos, tmp_path, seen, command):
        result = CliRunner().invoke(app, [command, str(photos), str(tmp_path / "out")])
        assert result.exit_code == 0, result.output
        assert (
            "100.0% of 24 images, held out and undamaged, right (95 % interval 86.2% to 100.0%)" in result.stdout
        )
        for images, count in ((seen["held_out"], 5), (seen["data"], 19)):
            assert Counter(example.label for example in images.examples) == dict.fromkeys(range(3), count)

    @pytest.mark.parametrize(
        ("right", "count", "said"),
        [(12, 12, "12 images .* too few to choose by: .* 75.8% to 100.0%, is wider than 20%"), (95, 100, "")],
    )
    def test_says_when_too_few_images_chose(self, photos, tmp_path, seen, right, count, said):
        measured = accuracy([True] * right + [False] * (count - right), [str(number) for number in range(count)])
        seen["stopped_by"] = measured | {"enough": (measured["high"] - measured["low"]) / 2 <= WIDEST}
        result = CliRunner().invoke(app, ["train", str(photos), str(tmp_path / "out")])
        assert re.search(said, result.stderr) if said else not result.stderr.strip()

    def test_says_when_none_was_left_to_choose(self, photos, tmp_path, seen):
        result = CliRunner().invoke(app, ["train", str(photos), str(tmp_path / "out")])
        assert "No image was left to choose the best pass by" in result.stderr

    def test_a_share_of_whole_objects_is_counted_in_objects(self, photos, tmp_path, seen):
        lines = [f"{name}/{number}.JPG,{name},{number // 4}" for name in ("cat", "cow") for number in range(24)]
        (photos / "manifest.csv").write_text("\n".join(["path,class,object", *lines]))
        result = CliRunner().invoke(app, ["train", str(photos), str(tmp_path / "out")])
        assert result.exit_code == 0, result.output
        assert len({example.sample for example in seen["held_out"].examples}) == 2
        assert len(seen["held_out"].examples) == 8


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
        # The model knows no class "red" or "blue": its own answers from before are what it is measured by.
        assert card["right"] == "as before it was adapted"
        assert card["held_out"]["accuracy"] > 0
        assert json.loads((tmp_path / f"{DEVICE_MODEL}.json").read_text()) == card

    def test_comes_nearer_to_the_clean_models_answers_on_damaged_images(self, few, tmp_path, monkeypatch):
        losses = []
        monkeypatch.setattr("experiments.training.steps.log.info", lambda *_, loss=None, **__: losses.append(loss))
        monkeypatch.setattr("experiments.training.link_training.CHECKPOINT_STEPS", 6)
        with Progress(disable=True) as progress:
            link_train(replace(self.OPTIONS, steps=24, batch=8), few, few, tmp_path, progress)
        assert losses[-1] < 0.9 * losses[0]

    def test_an_interrupted_run_goes_on_and_ends_the_same(self, few, tmp_path, monkeypatch):
        monkeypatch.setattr("experiments.training.link_training.CHECKPOINT_STEPS", 2)
        whole_and_resumed(partial(self.run, few), tmp_path, taken=2, lost=0)
        first, again = (
            read_weights(tmp_path / name / f"{DEVICE_MODEL}.safetensors").state for name in ("whole", "cut")
        )
        for name in first:
            torch.testing.assert_close(again[name], first[name], atol=2e-3, rtol=0)
