"""Learned source coder: pictures through networks that were never trained, and through those of the package."""

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

from experiments.training.learned_source import LearnedSource, LearnedSourceOptions, save_source
from semlink.frame import FrameError
from semlink.source.learned import coder
from semlink.source.learned.frame import LearnedFrame
from semlink.source.learned.interface import PRETRAINED, Interface, known_interface, load_interface, to_bytes
from semlink.source.learned.networks import networks
from semlink.source.registry import decode, read_frame, source_coder
from semlink.vision.weights import WeightsError

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def untrained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("untrained")
    torch.manual_seed(7)
    save_source(
        LearnedSource(LearnedSourceOptions("source", "small", "prescribed", 0.0, 0.01, 0.2, 1, 1, 1e-3, 0)),
        "small",
        folder,
    )
    return folder


@pytest.fixture
def loaded(untrained):
    coder.load(untrained)
    yield load_interface(untrained)
    coder.load(None)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.ascontiguousarray(data.astronaut()[::2, ::2][:64, 64:192])


def test_a_picture_is_coded_tile_by_tile(loaded, photo):
    coded = source_coder("learned").encode(photo, None)
    assert (coded.frame.grid, coded.frame.rho) == ((2, 4), 0.25)
    np.testing.assert_array_equal(coded.importance, loaded.level_importance())
    whole = decode(read_frame(coded.frame.to_bytes()))
    assert whole.shape == photo.shape
    assert whole.min() >= 0 <= whole.max() <= 255
    for row, column in ((0, 0), (1, 3)):
        place = slice(32 * row, 32 * row + 32), slice(32 * column, 32 * column + 32)
        alone = coder.encode(photo[place]).frame
        # Another batch size may round the probabilities of a few bits to the other side.
        assert (alone.bits != coded.frame.bits[4 * row + column]).mean() < 1e-3
        tile = coder.decode(LearnedFrame.from_bits(coded.frame.bits[4 * row + column][None], (1, 1), loaded))
        np.testing.assert_allclose(tile, whole[place], atol=1e-2)


def test_large_pictures_are_passed_in_parts(loaded, monkeypatch, photo):
    frame = coder.encode(photo).frame
    whole = coder.decode(frame)
    monkeypatch.setattr("semlink.source.learned.networks.TILES_AT_ONCE", 3)
    assert (coder.encode(photo).frame.bits != frame.bits).mean() < 1e-3
    np.testing.assert_allclose(coder.decode(frame), whole, atol=1e-2)


def test_a_level_that_is_absent_is_neither_one_nor_zero(loaded, photo):
    frame = coder.encode(photo).frame
    without = frame.without(range(16))
    grey = coder.decode(without)
    assert without.payload == b""
    # All tiles are the same picture: nothing was said of any.
    np.testing.assert_allclose(grey[:32, :32], grey[32:, 96:], atol=1e-2)
    assert np.abs(coder.decode(frame.without([15])) - coder.decode(frame)).max() > 0.1


def test_what_no_tiles_make_up_is_refused(loaded):
    with pytest.raises(ValueError, match="divisible by 32"):
        coder.encode(np.zeros((32, 48, 3), np.uint8))
    with pytest.raises(ValueError, match="3 channels"):
        coder.encode(np.zeros((32, 32, 1), np.uint8))
    with pytest.raises(ValueError, match="8-bit"):
        coder.encode(np.zeros((32, 32, 3), float))
    with pytest.raises(FrameError, match="values"):
        coder.encode(np.zeros((32 * 6, 32 * 255, 3), np.uint8))


def test_frames_of_another_training_are_refused_by_name():
    frame = LearnedFrame((1, 1), b"\0\1\2\3", np.ones(16, bool), bytes(768))
    with pytest.raises(FrameError, match="00010203") as error:
        coder.decode(frame)
    assert error.value.reason == "interface"


def test_files_that_do_not_belong_together_are_refused(untrained, tmp_path):
    for file in untrained.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    other = Interface.from_bytes(to_bytes(np.full((64, 96), 0.25, np.float32)))
    (tmp_path / "interface.npy").write_bytes(to_bytes(other.epsilon))
    with pytest.raises(WeightsError, match="does not name this interface"):
        networks(tmp_path)
    assert known_interface(other.id) is None
    (tmp_path / "source.safetensors").write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="train-learned-source"):
        networks(tmp_path)
    with pytest.raises(WeightsError, match="can't be read"):
        networks(tmp_path / "nowhere")


@pytest.mark.parametrize("folder", sorted(PRETRAINED.glob("*/")), ids=lambda folder: folder.name)
def test_the_packages_networks_show_a_photo_and_their_important_levels_matter_more(folder, photo):
    """In a photo that they were not trained on, with more detail than theirs have."""
    chosen = networks(folder)
    tiles = photo.reshape(2, 32, 4, 32, 3).swapaxes(1, 2).reshape(8, 32, 32, 3)
    bits = chosen.bits(tiles)

    def psnr(bits: np.ndarray) -> float:
        error = (chosen.tiles(bits.astype(np.float32)) - tiles.astype(float)) ** 2
        return float(10 * np.log10(255**2 / error.mean()))

    assert psnr(bits) > 24
    levels, generator = chosen.interface.levels(), np.random.default_rng(0)
    flips = generator.random((8, 384)) < 0.2
    damaged = []
    for level in (levels[0], levels[-1]):
        flat = bits.reshape(8, -1).copy()
        flat[:, level] ^= flips
        damaged.append(psnr(flat.reshape(bits.shape)))
    assert damaged[0] < damaged[1]
