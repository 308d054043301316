"""`semlink evaluate`: a grid over any declared parameter of any channel; table, CSV and plot of its rows."""

import csv
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pytest
from annotated_types import Interval
from PIL import Image
from rich.console import Console
from test_planned_cells import PREPARED
from typer.testing import CliRunner

from cli.channel_flags import MOST_CHANNELS, combinations
from cli.evaluation import CHANNELS
from cli.main import app
from experiments.evaluation import summary
from experiments.evaluation.frame_cells import FrameCell
from experiments.evaluation.grid import cell_of, grid
from experiments.evaluation.rows import rows_of
from experiments.evaluation.source_cells import SourceCell
from semlink.channel import base
from semlink.channel.awgn import Awgn
from semlink.channel.base import Arrival, Channel
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.channel.mimo_ofdm import MimoOfdm
from semlink.parameters import Option
from semlink.vision.weights import DEVICE_MODEL


def run(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


@pytest.fixture
def pictures(tmp_path):
    """Four small pictures of two of the classes that the models know, in a folder each."""
    generator = np.random.default_rng(0)
    for name in ("goldfish", "tench"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(2):
            pixels = generator.integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{number}.png")
    return tmp_path / "pictures"


class TestChannels:
    def test_every_combination_of_the_values(self):
        made = combinations(["awgn", "rayleigh"], {"snr": [0.0, 10.0], "order": [4, 16]}, {})
        assert len(made) == 8
        assert made[0] == Awgn(snr_db=0.0, order=4)

    def test_each_channel_gets_the_flags_that_it_declares(self):
        made = combinations(["bsc", "mimo-ofdm"], {"ber": [0.1], "streams": [2, 4]}, {})
        assert made == [BinarySymmetricChannel(ber=0.1), MimoOfdm(streams=2), MimoOfdm(streams=4)]

    def test_what_has_no_effect_makes_no_second_channel(self):
        asked = {"coding": ["ideal", "uncoded"], "order": [4, 16]}
        made = combinations(["mimo-ofdm"], asked, {})
        assert [(channel.coding, channel.order) for channel in made] == [
            ("ideal", 64), ("uncoded", 4), ("uncoded", 16)
        ]  # fmt: skip

    def test_a_measured_channel_is_one_more_parameter(self, tmp_path):
        trace = tmp_path / "snr.csv"
        trace.write_text("frame,snr_db\n0,60\n1,-20\n")
        cell = FrameCell(*combinations(["awgn"], {"channel_file": [str(trace)], "order": [4]}, {}), "fixed", 0.25)
        shared = cell.shared(lambda *_: 0.0)
        errors = [cell.send(shared, PREPARED, image, 0).more["bit_errors"] for image in range(3)]
        assert errors[0] == 0 == errors[2]
        assert errors[1] > 0.4, "each image meets its own SNR of the trace"
        assert cell_of({"cell": cell.settings}) == cell
        row = {"cell": cell.settings}
        trace.write_text("frame,snr_db\n0,50\n1,-20\n")
        assert cell_of(row) is None, "the file has something else by now"

    def test_without_a_flag_there_are_no_errors(self):
        assert CHANNELS.checked({}) == [BinarySymmetricChannel(ber=0.0)]

    def test_switches_take_true_and_false(self):
        made = combinations(["mimo-ofdm"], {"redraw_every_coherence": ["true", "false"]}, {})
        assert [channel.redraw_every_coherence for channel in made] == [True, False]

    @pytest.mark.parametrize(
        ("names", "values", "word"),
        [
            (["bsc"], {"snr": [1.0]}, "--snr is for --channel awgn or finite-blocklength or"),
            (["none"], {"ber": [0.1]}, "--ber is for --channel bsc or burst, not for none"),
            (["tin-can"], {}, "tin_can"),
            (["mimo-ofdm"], {"order": [4]}, "--order has no effect with --coding ideal"),
            (["bsc"], {"ber": [2.0]}, "ber must be at most 1"),
            (["mimo-ofdm"], {"coding": ["best"]}, "coding must be one of ideal, uncoded"),
            (["mimo-ofdm"], {"redraw_every_coherence": ["maybe"]}, "true or false"),
            (["bsc"], {"ber": [0.1] * (MOST_CHANNELS + 1)}, "2,001 combinations"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, names, values, word):
        with pytest.raises(ValueError, match=word):
            combinations(names, values, {})

    def test_a_new_channel_has_flags_without_a_change_here(self, monkeypatch):
        monkeypatch.setitem(base._channels._items, "fog", None)  # so that it goes again
        monkeypatch.delitem(base._channels._items, "fog")

        @base.register
        @dataclass(frozen=True, kw_only=True)
        class Fog(Channel):
            """It hides segments."""

            name = "fog"
            density: Annotated[float, Interval(ge=0, le=1), Option("share of segments that are hidden")] = 0.5

            def transmit(self, frame, plan, state, generator):
                hidden = np.flatnonzero(generator.random(frame.segment_bits.size) < self.density)
                return Arrival(np.empty(0, np.int64), lost=hidden)

        assert "density" in CHANNELS.names
        (option,) = [each for each in CHANNELS.options() if each.name == "density"]
        assert "For fog" in option.annotation.__metadata__[0].help
        channels = combinations(["fog"], {"density": [0.0, 1.0]}, {})
        _, clear, hidden = grid(channels, methods=["fixed"], rhos=[0.25])
        assert cell_of({"cell": clear.settings}) == clear
        arrived = [cell.send(cell.shared(lambda *_: 0.0), PREPARED, 0, 0) for cell in (clear, hidden)]
        assert [each.more["lost_blocks"] for each in arrived] == [0, 1]
        assert [each.lost for each in arrived] == [False, True]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--channel", "mimo-ofdm", "--method", "fixed"], "--method is for channels without plans"),
        (["--channel", "mimo-ofdm", "--gamma", "2"], "--gamma is for channels without plans"),
        (["--channel", "awgn", "--plan", "fixed"], "--plan is for channels that take plans"),
        (["--mapping", "random"], "--mapping is for channels that take plans"),
        (["--channel", "awgn", "--modified"], "--modified is for channels with a ber"),
        (["--channel", "awgn", "--ber", "0.1"], "--ber is for --channel bsc or burst, not for awgn"),
        (["--snr", "200"], "--snr"),
        (
            ["--method", "top-k", "--gamma", "2"],
            "--gamma is for --method incremental or water-filling, not for top-k",
        ),
        (["--method", "fixed", "--ber", "0.1", "--modified"], "--modified is for --method incremental"),
    ],
)
def test_an_option_that_does_not_apply_is_refused(arguments, word, tmp_path):
    result = run(tmp_path, tmp_path / "rows.jsonl", *arguments)
    assert result.exit_code == 2
    assert word in result.stderr
    assert not (tmp_path / "rows.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--plot", "figure.txt"], ".png, .svg, .pdf"),
        (["--method", "best"], "best"),
        (["--only", "fold=0"], "fold"),
        (["--channel", "mimo-ofdm", "--rho", "0.1"], "rho must be within [0.125, 1]"),
    ],
)
def test_what_could_not_be_measured_is_said_before_anything_is(arguments, word, pictures, tmp_path):
    result = run(pictures, tmp_path / "rows.jsonl", *arguments)
    assert result.exit_code == 1
    assert word in result.stderr
    assert not (tmp_path / "rows.jsonl").exists()


@pytest.mark.slow
def test_snr_order_streams_and_plans_as_one_grid(pictures, tmp_path, monkeypatch):
    """With a table, a CSV file and a plot; the second time nothing is measured."""
    monkeypatch.setenv("COLUMNS", "200")  # no heading of the table is cut
    out, table, figure = tmp_path / "rows.jsonl", tmp_path / "new" / "rows.csv", tmp_path / "figure.png"
    options = (
        "--channel awgn mimo-ofdm --snr 0 30 --order 4 --coding uncoded --streams 2 --plan fixed --method fixed "
        f"--rho 0.25 --processes 1 --server-model {DEVICE_MODEL}"
    )
    asked = [pictures, out, *options.split(), "--cache", tmp_path / "cache", "--csv", table, "--plot", figure]
    first = run(*asked)
    assert first.exit_code == 0, first.exception or first.output
    assert "5 cells of 2 images, 0 of them measured already" in first.stderr
    again = run(*asked)
    assert "5 cells of 2 images, 5 of them measured already" in again.stderr
    rows = list(rows_of(out))
    assert [cell_of(row).title for row in rows] == [
        "clean, ρ = 1, none",
        "fixed, ρ = 0.25, awgn, snr_db 0, order 4, access qam",
        "fixed, ρ = 0.25, awgn, snr_db 30, order 4, access qam",
        *(
            f"fixed, importance, ρ = 0.25, mimo_ofdm, snr_db {snr}, streams 2, csi_error 0, "
            "redraw_every_coherence False, order 4, coding uncoded"
            for snr in (0, 30)
        ),
    ]
    errors = [row["bit_errors"] for row in rows[1:]]
    assert 0.1 < errors[0] < 0.2, "4-QAM at 0 dB: Q(1)"
    assert errors[1] == 0
    assert errors[2] > errors[3]
    with table.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["snr_db"] for line in lines] == ["", "0.0", "30.0", "0.0", "30.0"]
    assert [line["streams"] for line in lines] == ["", "", "", "2", "2"]
    assert float(lines[1]["bit_errors"]) == errors[0]
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "errors %" in first.stdout


@pytest.mark.slow
def test_a_source_coder_and_its_settings_as_one_grid(pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # no heading of the table is cut
    out = tmp_path / "rows.jsonl"
    options = (
        "--source codec iaq --codec webp --budget-bytes 2000 4000 --method fixed --rho 0.25 "
        f"--processes 1 --server-model {DEVICE_MODEL}"
    )
    asked = [pictures, out, *options.split(), "--cache", tmp_path / "cache"]
    first, again = run(*asked), run(*asked)
    assert first.exit_code == 0, first.exception or first.output
    assert "4 cells of 2 images, 0 of them measured already" in first.stderr
    assert "4 cells of 2 images, 4 of them measured already" in again.stderr
    rows = {cell_of(row): row for row in rows_of(out)}
    small, large = (
        rows[SourceCell(BinarySymmetricChannel(ber=0.0), "codec", (("codec", "webp"), ("budget_bytes", budget)))]
        for budget in (2000, 4000)
    )
    assert 0 < small["rho"] < small["true_ratio"] < large["true_ratio"] <= 4000 / (224 * 224 * 3)
    assert small["object_share"] is None
    assert "budget_bytes" in first.stdout


def row_of(cell: FrameCell, accuracy: float) -> dict:
    single = {"accuracy": accuracy, "low": 0.0, "high": 1.0, "images": 10, "samples": 10}
    return {
        "cell": cell.settings, "single": single, "four_view": None, "bits": 1000.0, "lost": 0.0,
        "run": {"data": "some", "images": 10, "seed": 0},
    }  # fmt: skip


def test_the_table_has_what_differs_and_the_plot_goes_along_the_longest():
    cells = grid(
        [Awgn(snr_db=snr, order=order) for snr in (0.0, 5.0, 10.0) for order in (4, 16)],
        methods=["fixed"],
        rhos=[0.25],
    )
    rows = {cell: row_of(cell, 0.5) for cell in cells}
    assert summary.varying(cells[1:]) == ["snr_db", "order"]
    assert summary._along(cells[1:]) == "snr_db"
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    summary.show(rows, console)
    text = console.export_text()
    assert "snr_db" in text
    assert "│ gamma" not in text
    assert "method fixed, rho 0.25, gamma 1, design_ber 0, channel awgn" in " ".join(text.split())
    assert "50.0 (23.7 to 76.3)" in text, "Wilson's"
