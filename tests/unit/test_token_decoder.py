"""Token decoder: its grid, its file, and what refuses a damaged or foreign one."""

import numpy as np
import pytest
import torch

from semlink.vision.token_decoder import (
    SCALES_NAME,
    WEIGHTS_NAME,
    TokenDecoder,
    decoded_pixels,
    load_decoder,
    save_decoder,
)
from semlink.vision.weights import WeightsError

D = 6
PATCHES = 196


def decoder_of(seed: int = 0) -> TokenDecoder:
    torch.manual_seed(seed)
    return TokenDecoder(torch.linspace(-1, 1, D), torch.linspace(0.5, 2, D)).eval()


def write_scales(folder, first: float = 0.0) -> None:
    low = np.full((7, D), first, np.float32)
    np.savez(folder / SCALES_NAME, low=low, step=np.ones_like(low))


@pytest.fixture
def folder(tmp_path):
    write_scales(tmp_path)
    save_decoder(tmp_path, decoder_of())
    return tmp_path


def test_what_was_not_sent_has_no_influence():
    generator = np.random.default_rng(0)
    tokens = generator.standard_normal((2, PATCHES, D)).astype(np.float32)
    sent = generator.random((2, PATCHES)) < 0.5
    nonsense = np.where(sent[..., None], tokens, np.nan).astype(np.float32)
    decoder = decoder_of()
    np.testing.assert_array_equal(decoded_pixels(decoder, tokens, sent), decoded_pixels(decoder, nonsense, sent))


def test_a_missing_token_is_as_one_of_every_channels_mean():
    decoder = decoder_of()
    tokens = decoder.mean.numpy() + np.zeros((1, PATCHES, D), np.float32)
    present = decoded_pixels(decoder, tokens, np.ones((1, PATCHES), bool))
    absent = decoded_pixels(decoder, tokens, np.zeros((1, PATCHES), bool))
    np.testing.assert_array_equal(present, absent)


def test_a_token_paints_its_own_place():
    """No pixel changes that lies further from a token's patch than the convolutions reach."""
    decoder = decoder_of()
    tokens = np.zeros((1, PATCHES, D), np.float32)
    everywhere = np.ones((1, PATCHES), bool)
    before = decoded_pixels(decoder, tokens, everywhere)[0]
    row, column = 3, 10
    tokens[0, row * 14 + column] = 9
    change = np.abs(decoded_pixels(decoder, tokens, everywhere)[0] - before).sum(axis=2)
    changed_rows, changed_columns = np.nonzero(change)
    # Two 3 x 3 convolutions at 14 x 14, one at 28 x 28 and one at 56 x 56 reach 2 · 16 + 8 + 4 pixels further.
    for places, at in ((changed_rows, row), (changed_columns, column)):
        assert places.min() >= at * 16 - 44
        assert places.max() < (at + 1) * 16 + 44


def test_file_keeps_the_weights(folder):
    stored, original = load_decoder(folder).state_dict(), decoder_of().state_dict()
    assert stored.keys() == original.keys()
    for name, values in original.items():
        if values.ndim < 2:
            torch.testing.assert_close(stored[name], values, rtol=2**-11, atol=2**-24)  # float16
            continue
        rows = values.flatten(1)
        half_a_step = rows.abs().amax(1, keepdim=True) / 127 / 2  # int8, by row
        assert ((stored[name].flatten(1) - rows).abs() <= half_a_step * 1.001).all()


def test_a_file_is_small(folder):
    assert (folder / WEIGHTS_NAME).stat().st_size < 2 << 20


@pytest.mark.parametrize("name", [WEIGHTS_NAME, SCALES_NAME])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(WeightsError, match=name):
        load_decoder(folder)


def test_scales_of_another_decoder_are_refused(folder):
    write_scales(folder, first=1.0)
    with pytest.raises(WeightsError, match="other scales"):
        load_decoder(folder)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:1000], lambda data: b"\xff" * 64 + data[64:], lambda _: b""]
)
def test_a_damaged_file_is_refused(folder, damage):
    path = folder / WEIGHTS_NAME
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(WeightsError, match="holds no token decoder"):
        load_decoder(folder)


def test_weights_of_something_else_are_refused(folder):
    from semlink.vision.storage import save_small

    save_small(folder / WEIGHTS_NAME, {"mean": torch.zeros(D), "deviation": torch.ones(D)}, ())
    with pytest.raises(WeightsError, match="holds no token decoder"):
        load_decoder(folder)


def test_a_file_that_is_too_large_is_not_read(folder, monkeypatch):
    monkeypatch.setattr("semlink.vision.token_decoder.MAX_DECODER_BYTES", 1000)
    with pytest.raises(WeightsError, match="larger than"):
        load_decoder(folder)
