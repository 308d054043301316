"""Accuracy against bits where a link asks: what is drawn and tabulated of rows."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments import asking
from experiments.evaluation.cells import Cell
from experiments.evaluation.frame_cells import FrameCell
from experiments.evaluation.policy_cells import PolicyCell
from experiments.evaluation.rows import to_hex
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.channel.none import NoImpairment

TOLD_HALF = BinarySymmetricChannel(ber=0.1, access="ldpc", design_ber=0.05)
IAQ = FrameCell(BinarySymmetricChannel(ber=0.0), "incremental", 0.25)
SURE = PolicyCell(NoImpairment(), "ask", "digest", budget_bits=128)
ASKED = PolicyCell(TOLD_HALF, "ask", "digest", budget_bits=9000)
CELLS: list[tuple[Cell, list[bool], dict[str, Any]]] = [
    (FrameCell(), [True, True, True, False], {"bits": 1204224.0, "true_ratio": 1.0}),
    (IAQ, [True, False, False, False], {"bits": 3e5, "true_ratio": 0.25}),
    (SURE, [True, True, False, False], {"bits": 128.0, "downlink_bits": 8.0, "pictures": 0.0, "true_ratio": 1e-4}),
    (ASKED, [True] * 4, {"bits": 9100.0, "downlink_bits": 30.0, "pictures": 0.25, "true_ratio": 0.0076}),
]
"""Cells, which of their answers are right, and what else their rows have."""


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    versions = {"versions": {"python": "3"}, "machine": {"processor": "a", "cores": 2}, "command": "evaluate"}
    with (tmp_path / "asking-imagenet-sample-1000.jsonl").open("w") as file:
        for cell, correct, fields in CELLS:
            right = sum(correct) / 4
            single = {"accuracy": right, "low": 0.0, "high": 1.0, "images": 4, "samples": 4}
            about = {"run": {"server": {"model": "efficientnet_lite2"}, "images": 4}} | versions
            row = {"cell": cell.settings, "single": single, "correct": to_hex(correct)} | fields | about
            file.write(json.dumps(row) + "\n")
    return tmp_path


def test_rows_are_drawn_and_tabulated(rows: Path) -> None:
    asking.main(rows)
    assert (rows / "asking-imagenet-sample-1000-efficientnet_lite2.png").is_file()
    lines = (rows / "asking-imagenet-sample-1000.md").read_text().splitlines()
    told = next(line for line in lines if "9000 bits" in line)
    assert [field.strip() for field in told.split("|")][1:5] == ["dialogue", "9000 bits", "0.1", "0.05"]
    assert "25%" in told
    assert "+25.0" in told, "one of four photos more than undamaged"
    assert sum(line.startswith("| ") for line in lines) == 2 + len(CELLS) - 1  # heads, and all but the clean one


def test_bits_are_those_of_both_ways_and_protection_is_named() -> None:
    _, _, fields = CELLS[3]
    assert asking.total_bits(fields) == 9130
    assert asking.told(CELLS[3][0]) == (0.1, 0.05)
    assert asking.told(CELLS[2][0]) == (0, 0)
