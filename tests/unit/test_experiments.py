"""The rows that experiments/results holds are not measured again, and say the same as ever."""

from pathlib import Path

import pytest

from experiments import accuracy
from experiments.ofdm import ofdm_run
from semlink.learning.bsc_cells import BscCell
from semlink.learning.measurement import measure_cells, measure_plans
from semlink.learning.ofdm_cells import OfdmCell
from semlink.learning.rows import rows_of
from semlink.weights import DEVICE_MODEL, REPOSITORY, SERVER_MODEL

RESULTS = accuracy.RESULTS
LINK_TRAINED = REPOSITORY / "models" / "link-trained"


@pytest.fixture(params=["eth80", "imagenet-sample-1000"])
def data(request, tmp_path, monkeypatch) -> Path:
    """A folder that goes by an image set's name and has as many images; none is there, so none can be measured."""
    monkeypatch.delenv("SEMLINK_WEIGHTS", raising=False)
    monkeypatch.setattr(accuracy, "RESULTS", tmp_path)
    images = next(rows_of(RESULTS / f"{request.param}.jsonl"))["run"]["images"]
    lines = ["path,class,label,fold", "none.png,other,0,1", *["none.png,measured,1,0"] * images]
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
        (server,) = {row["run"]["server"] for row in measure_cells(run, [BscCell("clean")])}
        own = [row for row in rows if row["run"]["server"] == server]
        assert measure_cells(run, [BscCell(**row["cell"]) for row in own]) == own
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
