"""Rows of results: those that experiments/results holds are not measured again; two of them are compared."""

from pathlib import Path
from typing import ClassVar

import pytest

from experiments import accuracy
from experiments.evaluation.bsc_cells import BscCell
from experiments.evaluation.intervals import paired_gain
from experiments.evaluation.measurement import measure_cells, measure_plans
from experiments.evaluation.ofdm_cells import OfdmCell
from experiments.evaluation.rows import rows_of, settings_of
from experiments.ofdm import ofdm_run
from experiments.table import _differences
from semlink.vision.weights import DEVICE_MODEL, PRETRAINED, SERVER_MODEL

RESULTS = accuracy.RESULTS
LINK_TRAINED = PRETRAINED / "link-trained"


@pytest.fixture(params=["eth80", "imagenet-sample-1000"])
def data(request, tmp_path, monkeypatch) -> Path:
    """A folder that goes by an image set's name and has as many images; none is there, so none can be measured."""
    monkeypatch.delenv("SEMLINK_WEIGHTS", raising=False)
    monkeypatch.setattr(accuracy, "RESULTS", tmp_path)
    images = next(rows_of(RESULTS / f"{request.param}.jsonl"))["run"]["images"]
    lines = ["path,class,label,fold", "none.png,other,0,1"]
    lines += [f"none-{number}.png,measured,1,0" for number in range(images)]
    folder = tmp_path / request.param
    folder.mkdir()
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def kept(out: Path) -> tuple[list[dict], bytes]:
    """The rows of the results, of which `out` becomes a copy."""
    out.write_bytes((RESULTS / out.name).read_bytes())
    return list(rows_of(out)), out.read_bytes()


def test_no_accuracy_over_bit_errors_is_measured_again(data):
    second = (SERVER_MODEL, None) if data.name == "eth80" else (DEVICE_MODEL, LINK_TRAINED)
    for model, weights in ((DEVICE_MODEL, None), second):
        run = accuracy.run_of(data, data.name, model, weights)
        rows, content = kept(run.out)
        key = run.key(rows[0]["run"]["images"], served=True)
        own = [row for row in rows if row["run"] == key]
        cells = [BscCell(**settings) for row in own if (settings := settings_of(row["cell"])) is not None]
        assert cells
        assert measure_cells(run, cells) == own
        assert run.out.read_bytes() == content


@pytest.mark.parametrize("data", ["eth80"], indirect=True)
def test_no_plan_and_no_accuracy_over_mimo_ofdm_is_measured_again(data):
    run = ofdm_run(data)
    rows, content = kept(run.out)
    for measure, served in ((measure_plans, False), (measure_cells, True)):
        own = [row for row in rows if (row["run"]["server"] is not None) == served]
        cells = [OfdmCell(**row["cell"]) for row in own if "snr_db" in row["cell"]]
        assert cells
        assert measure(run, cells) == own
    assert run.out.read_bytes() == content


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
        cell = BscCell("fixed", 0.5)
        (head, _, new, old) = _differences(
            [(cell, self.BOTH, self.ONE), (cell, self.OLD, self.ONE)], self.SAMPLES, "ahead by"
        )
        assert head.endswith("| ahead by | 95 % interval | ahead by, four views | 95 % interval |")
        assert new.endswith("| +55.6 | +0.0 to +100.0 | +50.0 | +0.0 to +100.0 |")
        assert old.endswith("| +55.6 | +0.0 to +100.0 | | |")
        assert "four views" not in _differences([(cell, self.OLD, self.ONE)], self.SAMPLES, "ahead by")[0]
