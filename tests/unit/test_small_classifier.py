"""Convolutional classifier of small pictures: its training, what it is trained on, and its weights."""

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.data.image_sets import Example
from experiments.evaluation.small_classifier import SmallClassifier, classify, load_classifier
from experiments.training import small_classifier
from experiments.training.checkpoint import save_checkpoint
from experiments.training.small_classifier import SHIFT, ClassifierOptions, augmented, fit, pixels_of
from semlink.vision.storage import save_small
from semlink.vision.weights import WeightsError

OPTIONS = ClassifierOptions(passes=4, batch=16, learning_rate=0.02)


def pictures(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise, more of it red in one class and green in the other."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, count)
    pixels = generator.integers(0, 100, (count, 32, 32, 3))
    pixels[np.arange(count), :, :, labels] += 150
    return pixels.astype(np.uint8), labels


@pytest.mark.slow
def test_training_learns_what_is_easy(tmp_path):
    model = fit(OPTIONS, *pictures(96), 2, tmp_path / "checkpoint")
    pixels, labels = pictures(50, seed=1)
    # A coin would be right in 40 of 50 with a probability of 1e-5.
    assert (classify(model, pixels) == labels).sum() >= 40


@pytest.mark.slow
def test_a_resumed_training_goes_on_as_it_would_have(tmp_path, monkeypatch):
    pixels, labels = pictures(48)
    whole = fit(OPTIONS, pixels, labels, 2, tmp_path / "whole")
    checkpoint = tmp_path / "checkpoint"

    def save_and_stop(*arguments):
        save_checkpoint(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(small_classifier, "save_checkpoint", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            fit(OPTIONS, pixels, labels, 2, checkpoint)
    resumed = fit(OPTIONS, pixels, labels, 2, checkpoint)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0)


def test_augmented_pictures_are_shifted_and_mirrored_copies():
    pixels = torch.arange(32 * 32 * 3, dtype=torch.int32).reshape(1, 32, 32, 3) % 251
    many = augmented(pixels.expand(200, -1, -1, -1).to(torch.uint8), np.random.default_rng(0))
    padded = np.pad(pixels[0].numpy(), ((SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="reflect")
    expected = set()
    for down in range(2 * SHIFT + 1):
        for across in range(2 * SHIFT + 1):
            part = padded[down : down + 32, across : across + 32]
            expected |= {part.astype(np.uint8).tobytes(), part[:, ::-1].astype(np.uint8).tobytes()}
    seen = {(255 * each).round().to(torch.uint8).permute(1, 2, 0).numpy().tobytes() for each in many}
    assert seen <= expected
    assert len(seen) > 50  # of 98


def test_pixels_of_larger_pictures_are_means_of_areas(tmp_path):
    large = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(large).save(tmp_path / "large.png")
    (small,) = pixels_of((Example(tmp_path / "large.png", 0, {}),))
    means = large.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    assert np.abs(small - means).max() <= 1  # Pillow rounds twice: rows, then columns


def test_the_learning_rate_rises_and_falls_to_nothing():
    rates = [OPTIONS.rate(step, 40) for step in range(41)]
    assert max(rates) == rates[10] == OPTIONS.learning_rate
    assert rates[0] == rates[40] == 0


def test_stored_weights_answer_as_the_model_did(tmp_path):
    torch.manual_seed(0)
    model = SmallClassifier(4).eval()
    save_small(tmp_path / "weights.safetensors", model.state_dict(), ("a", "b", "c", "d"))
    stored = load_classifier(tmp_path / "weights.safetensors")
    pixels = torch.rand(5, 3, 32, 32)
    with torch.inference_mode():
        difference = (stored(pixels) - model(pixels)).abs().max() / model(pixels).abs().max()
    assert difference < 0.05  # int8 rows: each weight is off by at most 1/254 of its row's largest


def test_missing_weights_say_what_trains_them(tmp_path):
    with pytest.raises(WeightsError, match=r"python -m experiments\.training\.small_classifier"):
        load_classifier(tmp_path / "none.safetensors")
