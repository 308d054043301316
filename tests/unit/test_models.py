"""The weights of the package: small, loadable, and each with its card."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from semlink.vision.vit import class_names, load_vit
from semlink.vision.weights import PRETRAINED

ROOT = Path(__file__).parents[2]
README = ROOT / "models" / "README.md"
FILES = sorted(PRETRAINED.rglob("*.safetensors"))


def test_they_are_small():
    assert FILES
    assert sum(path.stat().st_size for path in FILES) <= 60e6


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PRETRAINED)))
def test_each_loads_and_has_a_card(path):
    model = load_vit(path.stem, weights=path.parent)
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["model"] == path.stem
    assert card["classes"] == model.num_classes == len(class_names(model))
    assert {"command", "options", "held_out", "versions", "machine", "data"} <= card.keys()
    assert f"{100 * card['held_out']['accuracy']:.1f} %" in README.read_text(encoding="utf-8")


def test_the_thousand_classes_are_named_as_imagenets():
    names = class_names(load_vit("deit_tiny_patch16_224", weights=PRETRAINED))
    assert (names[0], names[285], names[999]) == ("tench", "Egyptian cat", "toilet tissue")


def python(code: str, *arguments: Path, folder: Path, **environment: str) -> str:
    """What a program prints that runs in a folder."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_has_them_and_finds_them_without_the_clone(tmp_path):
    """Built from a copy, as pip does, so that nothing is left in the clone."""
    source, outside = tmp_path / "source", tmp_path / "outside"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.split("\0"):
        if name and not name.startswith(("tests/", "docs/", "experiments/results/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    build = "import sys, setuptools.build_meta as backend; print(backend.build_wheel(sys.argv[1]))"
    done = python(build, tmp_path, folder=source)
    with zipfile.ZipFile(tmp_path / done.splitlines()[-1]) as wheel:
        names = set(wheel.namelist())
        wheel.extractall(outside)
    assert {str(path.relative_to(ROOT)) for path in FILES} <= names
    assert {"semlink/py.typed", "server/sessions/redis.lua", "cli/main.py"} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]
    find = "from semlink.vision.weights import find_weights; print(find_weights('deit_tiny_patch16_224').path)"
    found = python(find, folder=tmp_path, PYTHONPATH=str(outside), HF_HUB_OFFLINE="1", SEMLINK_WEIGHTS="")
    assert found.strip() == str(outside / "semlink/vision/pretrained/deit_tiny_patch16_224.safetensors")
