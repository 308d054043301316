"""The weights in the repository: small, loadable, and each with its card."""

import json
from pathlib import Path

import pytest

from semlink.vision.vit import class_names, load_vit

MODELS = Path(__file__).parents[2] / "models"
FILES = sorted(MODELS.rglob("*.safetensors"))


def test_they_are_small():
    assert FILES
    assert sum(path.stat().st_size for path in FILES) <= 60e6


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(MODELS)))
def test_each_loads_and_has_a_card(path):
    model = load_vit(path.stem, weights=path.parent)
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["model"] == path.stem
    assert card["classes"] == model.num_classes == len(class_names(model))
    assert {"command", "options", "held_out", "versions", "machine", "data"} <= card.keys()
    assert f"{100 * card['held_out']['accuracy']:.1f} %" in (MODELS / "README.md").read_text(encoding="utf-8")


def test_the_thousand_classes_are_named_as_imagenets():
    names = class_names(load_vit("deit_tiny_patch16_224", weights=MODELS))
    assert (names[0], names[285], names[999]) == ("tench", "Egyptian cat", "toilet tissue")
