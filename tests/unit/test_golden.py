"""Frames of version 1 as bytes, with what they decode to. They never change within version 1.

Each case is two files in tests/golden: NAME.bin, the frame; NAME.npz, its fields, codes and pixel values.
`pytest tests/unit/test_golden.py --regenerate-golden` writes them anew from the cases below. It is for a new
case or a new version of the frame; a change of an existing .bin means that the format has changed.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from golden_files import assert_no_others, write_anew

from semlink.source.iaq.coder import decode, encode
from semlink.source.iaq.frame import Geometry, IaqFrame

pytestmark = pytest.mark.numeric

GOLDEN = Path(__file__).parents[1] / "golden"


def _frame(
    rng: np.random.Generator, geometry: Geometry, bits: list[int], low: int, high: int, most: int
) -> IaqFrame:
    widths = np.array(bits)
    codes = rng.integers(0, 1 << widths[:, None], (geometry.patches, geometry.values_per_patch))
    return IaqFrame.from_codes(codes, widths, geometry=geometry, low=low, high=high, max_bits=most)


def _cases() -> Iterator[tuple[str, IaqFrame]]:
    rng = np.random.default_rng(1)
    yield "one-value", _frame(rng, Geometry(1, 1, 1, 1), [1], 0, 1, 1)
    yield "no-bits", _frame(rng, Geometry(2, 3, 4, 3), [0] * 6, 10, 245, 8)
    yield "every-width", _frame(rng, Geometry(3, 3, 3, 1), [8, 0, 1, 7, 2, 6, 3, 5, 4], 0, 255, 8)
    yield "narrow-map", _frame(rng, Geometry(5, 1, 2, 3), [0, 3, 1, 2, 3], 17, 201, 3)
    yield "flat", _frame(rng, Geometry(1, 4, 2, 1), [2, 0, 1, 4], 99, 99, 4)
    row, column = np.mgrid[:224, :224]
    picture = np.stack([row, column, (row ^ column) & 0xF0], axis=2).astype(np.uint8)
    yield "picture", encode(picture, rng.dirichlet(np.full(196, 0.5))).frame


def _contents(frame: IaqFrame) -> dict[str, np.ndarray]:
    geometry = frame.geometry
    return {
        "geometry": np.array([geometry.rows, geometry.columns, geometry.patch_size, geometry.channels]),
        "max_bits_low_high": np.array([frame.max_bits, frame.low, frame.high]),
        "bits": frame.bits,
        "codes": frame.codes,
        "pixels": decode(frame),
    }


@pytest.fixture(scope="module", autouse=True)
def regenerated(request: pytest.FixtureRequest) -> None:
    write_anew(request, GOLDEN, ((name, frame.to_bytes(), _contents(frame)) for name, frame in _cases()))


@pytest.mark.parametrize("name", [name for name, _ in _cases()])
class TestGolden:
    def test_decodes_to_what_it_did(self, name):
        contents = _contents(IaqFrame.from_bytes((GOLDEN / f"{name}.bin").read_bytes()))
        with np.load(GOLDEN / f"{name}.npz") as golden:
            assert set(golden) == set(contents)
            for key, value in contents.items():
                np.testing.assert_array_equal(value, golden[key], err_msg=key, strict=True)

    def test_encodes_to_the_same_bytes(self, name):
        with np.load(GOLDEN / f"{name}.npz") as golden:
            max_bits, low, high = golden["max_bits_low_high"].tolist()
            frame = IaqFrame.from_codes(
                golden["codes"],
                golden["bits"],
                geometry=Geometry(*golden["geometry"].tolist()),
                low=low,
                high=high,
                max_bits=max_bits,
            )
        assert frame.to_bytes() == (GOLDEN / f"{name}.bin").read_bytes()


def test_no_file_without_a_case():
    assert_no_others(GOLDEN, (name for name, _ in _cases()))
