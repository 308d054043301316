"""Learned access's networks that come with the package: a photo over the air, at every ratio."""

import json

import numpy as np
import pytest
from skimage.data import astronaut

from semlink.access.learned.bandwidth import CBRS
from semlink.access.learned.engine import CARD, PRETRAINED, LearnedAccess
from semlink.source.learned.networks import folder_of, networks
from semlink.source.patches import to_patches

KINDS = sorted(folder.name for folder in PRETRAINED.iterdir())


@pytest.fixture(scope="module")
def coder():
    return networks(folder_of(None))


@pytest.fixture(scope="module")
def tiles():
    """(16, 32, 32, 3) of a face, at a quarter of its size."""
    photo = astronaut()[:256, 96:352].reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))
    return to_patches(photo.round().astype(np.uint8), 32).reshape(-1, 32, 32, 3)


def received(coder, tiles, kind, cbr, snr_db):
    access = LearnedAccess(kind, cbr)
    symbols = access.map(coder.bits(tiles), snr_db)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 10 ** (-snr_db / 20) / 2**0.5, (2, *symbols.shape))
    gain = rng.rayleigh(2**-0.5, symbols.shape) if kind == "rayleigh" else np.ones(symbols.shape)
    arrived = access.demap(symbols + (noise[0] + 1j * noise[1]) / gain, gain, snr_db)
    shown = coder.tiles(arrived.astype(np.float32))
    return 10 * np.log10(255**2 / np.mean((shown - tiles) ** 2))


def test_both_kinds_are_there():
    assert KINDS == ["awgn", "rayleigh"]


@pytest.mark.parametrize("kind", KINDS)
def test_networks_are_for_the_interface_of_the_packaged_source(coder, kind):
    assert {LearnedAccess(kind, cbr).interface for cbr in CBRS} == {coder.interface.id}


@pytest.mark.parametrize("kind", KINDS)
def test_a_photo_arrives_better_with_more_channel_uses_and_less_noise(coder, tiles, kind):
    grey = 10 * np.log10(255**2 / np.mean((tiles - tiles.mean()) ** 2))
    found = np.array([[received(coder, tiles, kind, cbr, snr_db) for snr_db in (5, 20)] for cbr in CBRS])
    assert found.min() > grey + 3  # half the squared error of one grey for all
    assert (np.diff(found, axis=0) > 0).all()
    assert (np.diff(found, axis=1) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_card_says_what_it_is(kind):
    card = json.loads((PRETRAINED / kind / CARD).read_text())
    assert (card["channel"], card["variant"], card["size"], card["cbr"]) == (kind, "full", "small", list(CBRS))
    assert set(card["held_out"]["psnr_db"]) == set(CBRS)
    assert card["command"].startswith("semlink train-learned-channel ")
