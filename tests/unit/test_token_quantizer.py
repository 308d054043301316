import contextlib
import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semlink.source.transformer_aided.quantizer import MAX_BITS, MIN_BITS, Scales, dequantize, quantize

BITS = st.integers(MIN_BITS, MAX_BITS)
ROWS = MAX_BITS - MIN_BITS + 1


def arrays(dimension: int = 5, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "low": rng.normal(0, 20, (ROWS, dimension)).astype(np.float32),
        "step": rng.uniform(0.01, 3, (ROWS, dimension)).astype(np.float32),
    }


def scales(dimension: int = 5, seed: int = 0) -> Scales:
    return Scales(**arrays(dimension, seed), id=bytes(4))


def npz(**contents: np.ndarray) -> bytes:
    np.savez(file := io.BytesIO(), **contents)
    return file.getvalue()


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "scales.npz"


@given(st.integers(0, 6), st.integers(1, 9), BITS, st.integers(0, 2**32))
def test_the_nearest_level_is_taken(count, dimension, bits, seed):
    """Among all 2^b levels, written out."""
    of, rng = scales(dimension, seed), np.random.default_rng(seed)
    row = bits - MIN_BITS
    span = of.step[row] * 2**bits
    tokens = (of.low[row] + rng.uniform(-0.5, 1.5, (count, dimension)) * span).astype(np.float32)
    codes = quantize(tokens, of, bits)
    assert codes.shape == tokens.shape
    assert codes.dtype == np.uint8
    levels = of.low[row].astype(float) + np.arange(2**bits)[:, None] * of.step[row].astype(float)
    distances = np.abs(tokens[:, None] - levels)
    taken = np.take_along_axis(distances, codes[:, None].astype(int), axis=1)[:, 0]
    np.testing.assert_allclose(taken, distances.min(axis=1), rtol=0, atol=1e-9 * max(1, span.max()))


@given(st.integers(0, 6), st.integers(1, 9), BITS, st.integers(0, 2**32))
def test_levels_come_back(count, dimension, bits, seed):
    of = scales(dimension, seed)
    codes = np.random.default_rng(seed).integers(0, 2**bits, (count, dimension)).astype(np.uint8)
    levels = dequantize(codes, of, bits)
    assert levels.dtype == np.float32
    np.testing.assert_array_equal(quantize(levels, of, bits), codes)


def test_every_number_of_bits_has_scales_of_its_own():
    of, tokens = scales(), np.zeros((1, 5), np.float32)
    assert len({quantize(tokens, of, bits).tobytes() for bits in range(MIN_BITS, MAX_BITS + 1)}) > 1
    for bits in range(MIN_BITS, MAX_BITS + 1):
        np.testing.assert_array_equal(dequantize(np.zeros((1, 5), np.uint8), of, bits)[0], of.low[bits - MIN_BITS])


@pytest.mark.parametrize(
    ("tokens", "bits", "message"),
    [
        (np.zeros((2, 4)), 4, r"^tokens must have shape \(n, 5\)"),
        (np.zeros(5), 4, r"^tokens must have shape"),
        (np.full((1, 5), np.nan), 4, r"^tokens must be finite"),
        (np.full((1, 5), np.inf), 4, r"^tokens must be finite"),
        (np.zeros((1, 5)), 1, r"^bits must be within \[2, 8\]"),
        (np.zeros((1, 5)), 9, r"^bits must be within \[2, 8\]"),
    ],
)
def test_quantize_refuses(tokens, bits, message):
    with pytest.raises(ValueError, match=message):
        quantize(tokens.astype(np.float32), scales(), bits)


@pytest.mark.parametrize(
    ("codes", "bits", "message"),
    [
        (np.zeros((2, 4), np.uint8), 4, r"^codes must be uint8 of shape"),
        (np.zeros((2, 5), np.int64), 4, r"^codes must be uint8 of shape"),
        (np.full((1, 5), 16, np.uint8), 4, r"^codes must be below 2\^4"),
        (np.zeros((1, 5), np.uint8), 0, r"^bits must be within"),
    ],
)
def test_dequantize_refuses(codes, bits, message):
    with pytest.raises(ValueError, match=message):
        dequantize(codes, scales(), bits)


class TestFile:
    def test_comes_back_and_is_named_by_its_bytes(self, file):
        file.write_bytes(npz(**arrays()))
        read = Scales.read(file)
        np.testing.assert_array_equal(read.low, arrays()["low"], strict=True)
        np.testing.assert_array_equal(read.step, arrays()["step"], strict=True)
        assert read.id == hashlib.sha256(file.read_bytes()).digest()[:4]
        assert read.dimension == 5

    def test_compressed_too(self, file):
        np.savez_compressed(file, **arrays())
        assert Scales.read(file).dimension == 5

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"low": np.zeros((ROWS, 5))}, "low must be float32"),
            ({"step": np.zeros((ROWS - 1, 5), np.float32)}, "step must be float32 of shape"),
            ({"low": np.full((ROWS, 5), np.nan, np.float32)}, "low must be finite"),
            ({"step": np.zeros((ROWS, 5), np.float32)}, "step must be above 0"),
            ({"step": np.full((ROWS, 5), 3e38, np.float32)}, "highest levels must be finite"),
            ({"low": np.zeros((ROWS, 4), np.float32)}, "the same D"),
            ({"low": np.zeros((ROWS, 0), np.float32), "step": np.zeros((ROWS, 0), np.float32)}, "the same D"),
            ({"more": np.zeros(1)}, "its arrays must be low and step, not low, more, step"),
            ({"low": np.array([None])}, "allow_pickle"),
            ({"low": np.zeros((ROWS, 2**18), np.float32)}, "larger than 1 MiB"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:overflow encountered")
    def test_refuses(self, file, changes, message):
        np.savez_compressed(file, **(arrays() | changes))
        with pytest.raises(ValueError, match=rf"scales\.npz holds no scales of tokens: .*{message}"):
            Scales.read(file)

    def test_large_files_are_not_even_read(self, file):
        file.write_bytes(bytes((1 << 20) + 1))
        with pytest.raises(ValueError, match="larger than 1 MiB"):
            Scales.read(file)

    def test_no_file(self, file):
        with pytest.raises(OSError, match=r"scales\.npz"):
            Scales.read(file)

    def test_an_array_that_says_it_is_huge(self, file):
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (7, 1000000000000), }"
        header += b" " * (-(len(header) + 11) % 64) + b"\n"
        array = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("low.npy", array)
            archive.writestr("step.npy", array)
        with pytest.raises(ValueError, match="holds no scales"):
            Scales.read(file)

    def test_an_array_that_is_said_to_be_encrypted(self, file):
        content = bytearray(npz(**arrays(2)))
        content[content.rindex(b"PK\1\2") + 8] |= 1  # the flags of the last member
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"holds no scales.*encrypted"):
            Scales.read(file)

    @given(data=st.data())
    def test_damaged_files(self, data, tmp_path_factory):
        content = bytearray(npz(**arrays(2)))
        for _ in range(data.draw(st.integers(1, 4))):
            start = data.draw(st.integers(0, len(content)))
            end = data.draw(st.integers(start, min(start + 4, len(content))))
            content[start:end] = data.draw(st.binary(max_size=6))
        path = tmp_path_factory.getbasetemp() / "damaged.npz"
        path.write_bytes(content)
        with contextlib.suppress(ValueError):
            assert np.isfinite(Scales.read(path).low).all()
