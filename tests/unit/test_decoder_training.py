"""Masked mean squared error, token caches and resumed runs of the token decoder's training."""

import numpy as np
import pytest
import torch
from interruption import whole_and_resumed
from PIL import Image
from rich.progress import Progress

from experiments.data.image_sets import load_image_set
from experiments.training import decoder_training, tokens
from experiments.training.decoder_training import DecoderOptions, fit_decoder, masked_mse, write_scales
from experiments.training.tokens import CachedTokens, cached_tokens
from semlink.source.transformer_aided.quantizer import dequantize, quantize
from semlink.vision.token_decoder import TokenDecoder
from semlink.vision.vit import load_vit

D = 4
OPTIONS = DecoderOptions("deit_tiny_patch16_224", None, None, 0.85, 1, 5, 2, 1e-3, 0)


def test_masked_loss_is_that_of_the_selected_patches():
    """Against equation (2) written out pixel by pixel."""
    generator = np.random.default_rng(0)
    painted, pixels = generator.random((2, 2, 3, 6, 6))
    sent = np.array([[1, 0, 0, 1, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0, 0, 0, 1]], bool)
    total = count = 0.0
    for picture in range(2):
        for row in range(6):
            for column in range(6):
                if sent[picture, 3 * (row // 2) + column // 2]:
                    for colour in range(3):
                        place = picture, colour, row, column
                        total += (painted[place] - pixels[place]) ** 2
                        count += 1
    found = masked_mse(torch.from_numpy(painted), torch.from_numpy(pixels), torch.from_numpy(sent))
    assert found.item() == pytest.approx(total / count, rel=1e-9)


def test_pixels_that_were_not_selected_teach_nothing():
    painted = torch.rand(1, 3, 4, 4, requires_grad=True)
    masked_mse(painted, torch.zeros(1, 3, 4, 4), torch.tensor([[True, False, False, False]])).backward()
    taught = painted.grad != 0
    assert taught[..., :2, :2].all()
    assert taught.sum() == 3 * 4


def test_scales_clip_less_the_more_bits_there_are(tmp_path):
    some = np.random.default_rng(0).standard_normal((8, 196, D)).astype(np.float16)
    some = some * np.array([1, 10, 0.1, 1], np.float16) + np.array([0, 5, 0, -3], np.float16)
    mean, deviation = decoder_training.channel_moments(some)
    scales = write_scales(tmp_path / "scales.npz", some, mean, deviation)
    steps = 2.0 ** np.arange(2, 9)[:, None] - 1
    reach = scales.step * steps / 2 / deviation
    assert np.diff(reach, axis=0).min() > -1e-3  # float32
    # The best uniform quantizer of a Gaussian value reaches 1.49 deviations with 4 levels and 2.73 with 16
    # (Max, Quantizing for minimum distortion, 1960, table II: steps of 0.9957 and 0.3352).
    assert np.abs(reach[0] - 1.49).max() <= 0.25
    assert np.abs(reach[2] - 7.5 * 0.3352).max() <= 0.25
    errors = [
        np.square((dequantize(quantize(flat, scales, bits), scales, bits) - flat) / deviation).mean()
        for flat in [some.reshape(-1, D).astype(np.float32)]
        for bits in range(2, 9)
    ]
    assert (np.diff(errors) < 0).all()
    assert errors[2] == pytest.approx(0.01154, rel=0.1)  # the same table, 16 levels


@pytest.fixture
def cache():
    generator = np.random.default_rng(0)
    return CachedTokens(
        generator.standard_normal((6, 196, D)).astype(np.float16),
        generator.random((6, 196)).astype(np.float32),
        generator.integers(256, size=(6, 224, 224, 3), dtype=np.uint8),
        np.zeros(6, np.int64),
    )


def new_decoder() -> TokenDecoder:
    torch.manual_seed(0)
    return TokenDecoder(torch.zeros(D), torch.ones(D))


def test_a_resumed_run_equals_an_uninterrupted_one(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(decoder_training, "CHECKPOINT_STEPS", 2)
    scales = write_scales(tmp_path / "scales.npz", cache.tokens, np.zeros(D, np.float32), np.ones(D, np.float32))
    run = (OPTIONS, "pictures")

    def trained(folder) -> TokenDecoder:
        decoder = new_decoder()
        fit_decoder(decoder, cache, scales, run, folder / "checkpoint", Progress(disable=True))
        return decoder

    whole, resumed = whole_and_resumed(trained, tmp_path, taken=3)
    for name, values in whole.state_dict().items():
        assert torch.equal(values, resumed.state_dict()[name]), name
    assert not torch.equal(whole.layers[0].weight, new_decoder().layers[0].weight)


def test_an_interrupted_cache_goes_on(tmp_path, monkeypatch):
    for number in range(2):
        for name in ("cat", "dog"):
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(number).integers(256, size=(48, 64, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / "data" / name / f"{number}.png")
    data = load_image_set(tmp_path / "data")
    model = load_vit("deit_tiny_patch16_224")
    monkeypatch.setattr(tokens, "BATCH", 3)
    computed = []

    def counted(model, images):
        computed.append(len(images))
        if len(computed) == 2:
            raise KeyboardInterrupt
        return tokens_and_attention(model, images)

    tokens_and_attention = tokens.tokens_and_attention
    monkeypatch.setattr(tokens, "tokens_and_attention", counted)
    with pytest.raises(KeyboardInterrupt):
        cached_tokens(model, data, 2, 0, tmp_path / "cache", Progress(disable=True))
    found = cached_tokens(model, data, 2, 0, tmp_path / "cache", Progress(disable=True))
    assert computed == [3, 3, 3, 2]
    anew = cached_tokens(model, data, 2, 0, tmp_path / "anew", Progress(disable=True))
    for name in ("tokens", "attention", "pixels", "labels"):
        np.testing.assert_array_equal(getattr(found, name), getattr(anew, name))
    assert found.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert len(cached_tokens(model, data, 2, 0, tmp_path / "cache", Progress(disable=True))) == 8
    assert len(computed) == 7  # nothing was computed again
