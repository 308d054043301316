"""The weights of the package: small, loadable, and each with its card."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from semlink.access.learned.engine import PRETRAINED as ACCESS
from semlink.access.learned.engine import LearnedAccess
from semlink.source.learned.interface import PRETRAINED as LEARNED
from semlink.source.learned.networks import networks
from semlink.source.transformer_aided.quantizer import Scales
from semlink.vision.token_decoder import load_decoder
from semlink.vision.vit import class_names, load_vit
from semlink.vision.weights import PRETRAINED

ROOT = Path(__file__).parents[2]
README = ROOT / "models" / "README.md"
TOKENS = PRETRAINED / "token-decoder"
FILES = sorted(path for path in PRETRAINED.rglob("*.safetensors") if path.parent != TOKENS)
SOURCES = sorted(path.parent for path in LEARNED.rglob("interface.npy"))
ACCESSES = sorted(path.parent for path in ACCESS.rglob("access.json"))
ALL = [path for folder in (PRETRAINED, LEARNED, ACCESS) for path in folder.rglob("*") if path.is_file()]
TOLD = {"command", "options", "held_out", "versions", "machine", "data"}
"""What every card says."""


def test_they_are_small():
    assert FILES
    assert sum(path.stat().st_size for path in ALL) <= 60e6


def test_a_token_decoder_has_a_card_of_its_scales():
    load_decoder(TOKENS)
    card = json.loads((TOKENS / "token_decoder.json").read_text())
    assert card["scales"] == Scales.read(TOKENS / "scales.npz").id.hex()
    assert card.keys() >= TOLD


@pytest.mark.parametrize("folder", SOURCES, ids=lambda folder: folder.name)
def test_each_learned_source_has_a_card_of_its_interface(folder):
    card = json.loads((folder / "source.json").read_text())
    assert card["id"] == networks(folder).interface.id.hex()
    assert card.keys() >= TOLD
    assert f"{card['held_out']['psnr_db']:.2f}; {card['held_out']['psnr_db_flipped']:.2f}" in README.read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize("folder", ACCESSES, ids=lambda folder: folder.name)
def test_each_learned_access_has_a_card_of_a_source_in_the_package(folder):
    card = json.loads((folder / "access.json").read_text())
    assert LearnedAccess(folder, "1/8").interface.hex() == card["interface"]
    assert card["interface"] in {networks(source).interface.id.hex() for source in SOURCES}
    assert card["channel"] == folder.name
    assert card.keys() >= TOLD
    by_ratio = card["held_out"]["psnr_db"]
    told = "; ".join(
        ", ".join(f"{by_ratio[cbr][snr]:.1f}" for snr in ("5", "10", "20")) for cbr in ("1/24", "1/8")
    )
    assert told in README.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PRETRAINED)))
def test_each_loads_and_has_a_card(path):
    model = load_vit(path.stem, weights=path.parent)
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["model"] == path.stem
    assert card["classes"] == model.num_classes == len(class_names(model))
    assert card.keys() >= TOLD
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
    assert {str(path.relative_to(ROOT)) for path in ALL} <= names
    assert {"semlink/py.typed", "server/sessions/redis.lua", "cli/main.py"} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]
    find = "from semlink.vision.weights import find_weights; print(find_weights('deit_tiny_patch16_224').path)"
    found = python(find, folder=tmp_path, PYTHONPATH=str(outside), HF_HUB_OFFLINE="1", SEMLINK_WEIGHTS="")
    assert found.strip() == str(outside / "semlink/vision/pretrained/deit_tiny_patch16_224.safetensors")
