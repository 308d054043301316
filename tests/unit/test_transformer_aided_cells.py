"""Cells of the transformer-aided study: budgets, masks and rows that are used again."""

from pathlib import Path

import numpy as np
import pytest

from experiments.data.image_sets import Example, ImageSet
from experiments.evaluation.intervals import accuracy
from experiments.evaluation.rows import to_hex
from experiments.provenance import provenance
from experiments.transformer_aided import (
    BASELINES,
    ORIGINAL,
    TOKENS,
    beside_cells,
    choices,
    paper_cells,
    table_of,
)
from experiments.transformer_aided_cells import Cell, gain, measure, seen_pictures
from semlink.vision.photos import find_photos
from semlink.vision.vit import class_names, load_vit
from semlink.vision.weights import DEVICE_MODEL, PRETRAINED

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def pictures():
    names = tuple(class_names(load_vit(DEVICE_MODEL)))
    cat = names.index("Egyptian cat")
    photos = find_photos(["chelsea", "coffee"])
    examples = tuple(Example(path, cat, {}) for path in photos)
    data = ImageSet("two photos", names, examples, Path(photos[0]).parent)
    return seen_pictures(data, PRETRAINED, {"originals": PRETRAINED, "received": PRETRAINED})


def test_no_cell_of_the_figures_is_twice_in_a_part():
    for cells in (paper_cells(), beside_cells(), *choices().values()):
        assert len(set(cells)) == len(cells)


def test_the_table_has_every_cell(pictures):
    right = [True, False]
    by = {name: accuracy(right, pictures.samples) | {"correct": to_hex(right)} for name in pictures.classifiers}
    row = {"bits": 12345.0, "masked_mse": 0.0123, "by": by, "of": {"seed": 7}} | provenance()
    cells = [*paper_cells(), *beside_cells(), *(cell for cells in choices().values() for cell in cells)]
    table = table_of(dict.fromkeys(cells, row), pictures, "two")
    assert table.count("| 50.0 (9.5 to 90.5) |") >= len(cells)  # Wilson's interval of one of two
    assert "Seed 7." in table
    assert "| α = 0.85 less α = 1 at r = 0.25 | +0.0 (+0.0 to +0.0) |" in table
    assert all(f"| {way} |" in table for way in (TOKENS, ORIGINAL, *BASELINES))


@pytest.mark.slow
def test_ways_at_equal_bits_stay_within_the_tokens_bits(pictures, tmp_path):
    tokens = Cell(TOKENS, 0.25, 0.85)
    cells = [Cell(ORIGINAL), tokens, *(Cell(way, 0.25, 0.85) for way in BASELINES)]
    rows = measure(cells, pictures, 0, tmp_path / "rows.jsonl")
    # 49 tokens of 192 values of 4 bits, and a header of at least a mask.
    assert 49 * 192 * 4 + 196 < rows[tokens]["bits"] < 49 * 192 * 4 + 500
    for way in BASELINES:
        assert 0 < rows[Cell(way, 0.25, 0.85)]["bits"] <= rows[tokens]["bits"]
    assert rows[Cell(ORIGINAL)]["masked_mse"] == 0
    assert 0 < rows[tokens]["masked_mse"] < 0.1
    # One of them is a cat.
    assert rows[Cell(ORIGINAL)]["by"]["originals"]["accuracy"] == 0.5
    assert gain(rows[Cell(ORIGINAL)], rows[Cell(ORIGINAL)], ("originals", "received"), pictures)["difference"] == 0


@pytest.mark.slow
def test_rows_of_the_same_pictures_are_not_measured_again(pictures, tmp_path, monkeypatch):
    out, cell = tmp_path / "rows.jsonl", Cell(TOKENS, 0.1, 1.0, 8)
    first = measure([cell], pictures, 0, out)
    monkeypatch.setattr("experiments.transformer_aided_cells._measured", lambda *_: pytest.fail("measured again"))
    assert measure([cell], pictures, 0, out) == first
    with pytest.raises(pytest.fail.Exception):
        measure([cell], pictures, 1, out)


@pytest.mark.slow
def test_what_is_painted_where_nothing_was_sent(pictures):
    from experiments.transformer_aided_cells import token_sender

    painted = {
        fill: token_sender(Cell(TOKENS, 0.25, fill=fill), pictures)(0, 0) for fill in ("grey", "black", "decoder")
    }
    _, bits, sent = painted["grey"]
    mask = sent.reshape(14, 14).repeat(16, 0).repeat(16, 1)
    for pixels, other_bits, _ in painted.values():
        assert other_bits == bits
        np.testing.assert_allclose(pixels[mask], painted["grey"][0][mask], atol=0.01)  # of 255, one way or another
    assert (painted["grey"][0][~mask] == 127.5).all()
    assert (painted["black"][0][~mask] == 0).all()
    assert painted["decoder"][0][~mask].std() > 1
