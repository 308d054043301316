"""Figures and tables: what is committed is found again and not measured; two rows are compared in pairs."""

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import matplotlib.figure
import numpy as np
import pytest
from typer.testing import CliRunner

from experiments import ber, flipped_bits, readme, study
from experiments.__main__ import MEASURED, app
from experiments.evaluation import measurement, run
from experiments.evaluation.frame_cells import FrameCell
from experiments.evaluation.grid import cell_of
from experiments.evaluation.intervals import paired_gain
from experiments.evaluation.measurement import measure_cells
from experiments.evaluation.rows import rows_of
from experiments.study import RESULTS, Measured
from experiments.tables import _differences
from semlink.channel.awgn import Awgn
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.channel.rayleigh import Rayleigh
from semlink.source.codec import encode as encode_still
from semlink.source.codec.stills import CODECS, PADDING_BYTES

COMMITTED = [
    *((name, "eth80") for name in MEASURED),
    ("figure5", "cifar10"),
    ("figure6", "cifar10"),
    ("tables", "cifar10"),
    # Of figure 6 the codecs along ρ are yet to be measured here, see docs/results.md.
    ("figure5", "imagenet-sample-1000"),
    ("servers", "imagenet-sample-1000"),
    ("tables", "imagenet-sample-1000"),
]


@pytest.fixture
def image_set(tmp_path, monkeypatch):
    """Makes a folder that goes by an image set's name and has as many images; none is there to be measured."""
    monkeypatch.delenv("SEMLINK_WEIGHTS", raising=False)
    key = run._key

    def key_of(model, weights):
        # The models for CIFAR-10 are not in the repository.
        if weights == study.STUDIES["cifar10"].weights:
            return next(rows_of(RESULTS / "cifar10.jsonl"))["run"]["device"]
        return key(model, weights)

    monkeypatch.setattr(run, "_key", key_of)

    def make(name: str) -> Path:
        images = next(rows_of(RESULTS / f"{name}.jsonl"))["run"]["images"]
        lines = ["path,class,label,fold,split,object,group", "none.png,other,0,1,train,a,-1"]
        grouped = 288 if name == "eth80" else 0  # its images that have three others beside them
        lines += [
            f"none-{number}.png,measured,1,0,test,{number // 16},{number // 4 % 4 if number < grouped else -1}"
            for number in range(images)
        ]
        folder = tmp_path / name
        folder.mkdir()
        (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
        return folder

    return make


@pytest.fixture
def nothing_is_measured(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("it measures anew")

    monkeypatch.setattr(measurement, "prepare", refuse)
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda _, path, **__: path.touch())


@pytest.mark.parametrize(("name", "of"), COMMITTED)
@pytest.mark.usefixtures("nothing_is_measured")
def test_no_committed_cell_is_measured_again(name, of, image_set, tmp_path):
    before = {path.name: path.stat().st_mtime_ns for path in RESULTS.iterdir()}
    out = tmp_path / "out"
    result = CliRunner().invoke(app, [name.replace("_", "-"), str(image_set(of)), "--out", str(out)])
    assert result.exit_code == 0, result.exception or result.output
    assert [path.suffix for path in out.iterdir()] in ([".png"], [".md"], []), "no rows"
    assert {path.name: path.stat().st_mtime_ns for path in RESULTS.iterdir()} == before


@pytest.mark.usefixtures("nothing_is_measured")
@pytest.mark.parametrize("changed", [["--seed", "1"], ["--most-images", "16"]], ids=str)
def test_another_seed_and_other_images_are_measured(changed, image_set, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.data.image_sets.ImageSet.check_files", lambda _: None)
    arguments = ["figure5", str(image_set("eth80")), "--out", str(tmp_path / "out"), *changed]
    assert str(CliRunner().invoke(app, arguments).exception) == "it measures anew"


@pytest.mark.usefixtures("nothing_is_measured")
@pytest.mark.parametrize("name", ["ofdm_table1", "tables"])
def test_committed_tables_are_those_of_the_committed_rows(name, image_set, tmp_path):
    """But for intervals, which depend on which images share an object."""
    out = tmp_path / "out"
    out.mkdir()
    importlib.import_module(f"experiments.{name}").main(Measured(image_set("eth80"), out))
    (table,) = out.iterdir()
    committed, made = ((folder / table.name).read_text().splitlines() for folder in (RESULTS, out))
    assert len(made) == len(committed)
    assert made[0] == committed[0]
    for line, expected in zip(made, committed, strict=True):
        assert line.split("|")[:2] == expected.split("|")[:2]


@pytest.mark.usefixtures("nothing_is_measured")
def test_a_row_is_found_whatever_its_threshold_was_tuned_to(image_set, tmp_path):
    """A tuned threshold differs in its last digits from machine to machine."""
    cell = FrameCell(BinarySymmetricChannel(ber=0.0), "attention-threshold", 0.125)
    data = Measured(image_set("eth80"), tmp_path / "out")
    row = measure_cells(data.run(), [cell])[cell]
    assert row["threshold"] > 0
    elsewhere = tmp_path / "elsewhere.jsonl"
    elsewhere.write_text(json.dumps(row | {"threshold": row["threshold"] * (1 + 1e-7)}) + "\n")
    found = measure_cells(replace(data.run(), known=(elsewhere,)), [cell])[cell]
    assert found["threshold"] != row["threshold"]
    assert found["single"] == row["single"]


def test_every_committed_row_is_about_a_cell_that_can_be_asked_for():
    """But for eight about a server's receivers that were given up, see docs/tried.md."""
    others = ("ber", "learned-interface", "transformer-aided")  # of programs with cells of their own
    files = [path for path in RESULTS.glob("*.jsonl") if not path.name.startswith(others)]
    unknown = [row for path in files for row in rows_of(path) if cell_of(row) is None]
    assert len(unknown) == 8
    assert all(row["cell"].keys() >= {"receiver"} for row in unknown)


def test_the_pages_show_the_committed_rows():
    for page, lines in readme.tables().items():
        shown = (RESULTS.parents[1] / page).read_text().splitlines()
        assert lines
        for line in lines:
            assert line in shown, f"{page}: python -m experiments readme"


class TestBitErrorRates:
    @pytest.mark.usefixtures("nothing_is_measured")
    def test_no_committed_point_is_measured_again(self, monkeypatch, tmp_path):
        monkeypatch.setattr(ber, "measure", None)
        result = CliRunner().invoke(app, ["ber", "--out", str(tmp_path)])
        assert result.exit_code == 0, result.exception
        assert [path.name for path in tmp_path.iterdir()] == ["ber.png"]

    def test_committed_points_are_every_modulation_and_agree_with_the_closed_forms(self):
        rows = list(rows_of(RESULTS / "ber.jsonl"))
        assert {(row["channel"]["type"], row["channel"]["order"]) for row in rows} == {
            (kind, order) for kind in ("awgn", "rayleigh") for order in (4, 16, 64, 256)
        }
        inside = [row["low"] <= row["closed_form"] <= row["high"] for row in rows]
        # Of 101 intervals of 95 %, fewer than 90 would contain the rate by chance once in 400.
        assert len(rows) == 101
        assert sum(inside) >= 90

    @pytest.mark.parametrize("channel", [Awgn(order=16, snr_db=8.0), Rayleigh(order=256, snr_db=20.0)], ids=str)
    def test_a_point_is_measured_over_the_channel_itself(self, channel):
        row = ber.measure(channel, 5, frames=1)
        deviation = np.sqrt(row["closed_form"] * row["design_effect"] / row["bits"])
        assert row["ber"] == pytest.approx(row["closed_form"], abs=6 * deviation)
        assert row["low"] < row["ber"] < row["high"]
        assert row["design_effect"] >= 1
        assert (row["design_effect"] > 1.2) == (channel.name == "rayleigh"), "its symbols' bits err together"
        assert row == ber.measure(channel, 5, frames=1)


class TestCommands:
    def test_without_a_name_there_is_a_list_with_a_line_each(self):
        listed = subprocess.run([sys.executable, "-m", "experiments"], capture_output=True, text=True, check=False)
        for name in (*MEASURED, "figure7", "ber", "containers", "flipped-bits", "readme"):
            assert f" {name.replace('_', '-')} " in listed.stdout
        assert "Fig. 4: the vote of four views" in listed.stdout

    @pytest.mark.parametrize(
        ("arguments", "status", "word"),
        [
            (["figure5", "{folder}", "--out", "x", "--update"], 2, "exclude each other"),
            (["figure5", "{folder}"], 1, "semlink evaluate"),
            (["figure5", "{folder}/none"], 2, "does not exist"),
            (["figure9"], 2, "No such command"),
            (["figure7", "--seed", "3"], 2, "No such option"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, arguments, status, word, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        folder = tmp_path / "my photos"
        folder.mkdir()
        result = CliRunner().invoke(app, [argument.format(folder=folder) for argument in arguments])
        assert result.exit_code == status
        assert word in result.stderr


class TestPairs:
    """Two objects of four views each, in groups, and an image on its own."""

    SAMPLES: ClassVar = {"single": [*["a"] * 4, *["b"] * 4, "c"], "four_view": ["a", "b"]}
    OLD: ClassVar = {"correct": "ff80"}
    BOTH: ClassVar = {"correct": "ff80", "correct_votes": "c0"}
    ONE: ClassVar = {"correct": "f000", "correct_votes": "80"}

    @pytest.mark.parametrize(("views", "gain"), [("single", 5 / 9), ("four_view", 1 / 2)])
    def test_votes_are_paired_like_images(self, views, gain):
        there = paired_gain(self.BOTH, self.ONE, views, self.SAMPLES)
        back = paired_gain(self.ONE, self.BOTH, views, self.SAMPLES)
        assert there is not None
        assert back is not None
        assert there["difference"] == -back["difference"] == pytest.approx(gain)
        assert (there["low"], there["high"]) == (0, 1), "either object may be drawn alone"
        assert there["samples"] == len(set(self.SAMPLES[views]))

    def test_rows_from_before_votes_were_kept_are_paired_by_image_alone(self):
        assert paired_gain(self.OLD, self.ONE, "single", self.SAMPLES) is not None
        assert paired_gain(self.OLD, self.ONE, "four_view", self.SAMPLES) is None
        assert paired_gain(self.BOTH, {**self.ONE, "correct_votes": None}, "four_view", self.SAMPLES) is None

    def test_answers_to_other_images_are_refused(self):
        with pytest.raises(ValueError, match="16 bits can't say which of 7 answers"):
            paired_gain(self.BOTH, self.ONE, "single", {"single": ["a"] * 7})

    def test_the_table_has_a_column_for_votes_where_rows_have_them(self):
        cell = FrameCell(BinarySymmetricChannel(ber=0.0), "fixed", 0.5)
        (head, _, new, old) = _differences(
            [(cell, self.BOTH, self.ONE), (cell, self.OLD, self.ONE)], self.SAMPLES, "ahead by"
        )
        assert head.endswith("| ahead by | 95 % interval | ahead by, four views | 95 % interval |")
        assert new.endswith("| +55.6 | +0.0 to +100.0 | +50.0 | +0.0 to +100.0 |")
        assert old.endswith("| +55.6 | +0.0 to +100.0 | | |")
        assert "four views" not in _differences([(cell, self.OLD, self.ONE)], self.SAMPLES, "ahead by")[0]


def test_the_table_of_containers_is_of_files_and_what_is_sent_of_them(tmp_path):
    result = CliRunner().invoke(app, ["containers", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "containers.json").read_text())
    assert written["versions"]["pillow"]
    assert len(written["rows"]) == len(CODECS) * 4
    for row in written["rows"]:
        left_out = row["file_bytes"] - row["sent_bytes"]
        assert {"avif": 260, "webp": 20, "jpeg": 600}[row["codec"]] < left_out < 650
    page = (tmp_path / "containers.md").read_text().splitlines()
    assert sum(line.startswith("| ") for line in page) == 2 + len(written["rows"])


def test_zeros_keep_stills_with_a_flipped_bit():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    frame = encode_still(pixels, codec="avif", budget_bytes=2000).frame
    without, padded = (flipped_bits.lost(frame, padding, 1) for padding in (0, PADDING_BYTES))
    assert padded < without
    assert without == flipped_bits.lost(frame, 0, 1), "the same bits again"
