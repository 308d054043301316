"""Importance of learned bits as it is measured: rows, table and picture of a few pictures."""

import json

import numpy as np
import pytest
from PIL import Image

from experiments import bit_importance
from experiments.data.image_sets import load_image_set
from semlink.source.learned.interface import PRETRAINED, load_interface

pytestmark = [pytest.mark.numeric, pytest.mark.slow]


def test_rows_table_and_picture(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    row, column = np.mgrid[:32, :32]
    for number in range(8):
        waves = [128 + 60 * np.sin(row * a / 9 + column * b / 9) for a, b in generator.uniform(-2, 2, (3, 2))]
        Image.fromarray(np.stack(waves, axis=2).astype(np.uint8)).save(tmp_path / f"{number}.png")
    lines = "".join(f"{number}.png,{'ab'[number % 2]}\n" for number in range(8))
    (tmp_path / "manifest.csv").write_text("path,class\n" + lines)
    monkeypatch.setattr(bit_importance, "STRENGTHS", (1.0, 1e6))
    monkeypatch.setattr(bit_importance, "SWEEP_STEPS", 3)
    monkeypatch.setattr(bit_importance, "SWEEP_BATCH", 4)
    monkeypatch.setattr(bit_importance, "_times", lambda tiles: {"encode": 1.0})
    bit_importance.main(load_image_set(tmp_path), tmp_path, 0)
    measured = json.loads((tmp_path / "bit-importance.json").read_text())
    names = sorted(folder.name for folder in PRETRAINED.iterdir() if folder.is_dir())
    assert sorted(measured["interfaces"]) == names
    for name, each in measured["interfaces"].items():
        assert each["id"] == load_interface(PRETRAINED / name).id.hex()
        assert each["psnr_db"] > each["psnr_db_flipped"] > 20
        assert len(each["error_added_by_level"]) == 16
        assert each["error_added_by_level"][0] > 0
    weak, strong = measured["strengths"]
    assert weak["mean"] < strong["mean"]
    assert "| learned |" in (tmp_path / "bit-importance.md").read_text()
    assert (tmp_path / "bit-importance.png").stat().st_size > 0
