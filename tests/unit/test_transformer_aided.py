"""Transformer-aided selection, end to end: what is sent of an image's tokens, and what is painted of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from token_decoders import DIMENSION, write_decoder

from semlink.access.load_planner import plan_loads
from semlink.channel.base import channel_type, channels
from semlink.channel.ofdm import subchannel_gains
from semlink.frame import FrameError
from semlink.parameters import parameters
from semlink.source.iaq.frame import Geometry
from semlink.source.registry import Seen, read_frame, source_coder
from semlink.source.transformer_aided import coder
from semlink.source.transformer_aided.coder import decode, encode
from semlink.source.transformer_aided.frame import TokenFrame
from semlink.source.transformer_aided.quantizer import Scales, dequantize, quantize
from semlink.source.transformer_aided.selection import select
from semlink.vision.token_decoder import SCALES_NAME, load_decoder
from semlink.vision.weights import WeightsError

IMAGE = np.zeros((224, 224, 3), np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_decoder(tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def loaded(weights, monkeypatch):
    """The decoder of these tests, in place of whatever this process has loaded."""
    monkeypatch.setattr(coder, "_loaded", [])
    coder.load(weights)


@pytest.fixture(scope="module")
def seen() -> Seen:
    rng = np.random.default_rng(0)
    return Seen(
        rng.normal(0, 1.5, (196, DIMENSION)).astype(np.float32),
        rng.dirichlet(np.full(196, 0.5)).astype(np.float32),
    )


class TestEncode:
    @pytest.mark.parametrize(
        ("ratio", "alpha", "bits"), [(0.5, 0.85, 4), (0.25, 1.0, 2), (1.0, 0.0, 8), (0.0, 1.0, 3)]
    )
    def test_is_selection_and_quantizer(self, seen, weights, ratio, alpha, bits):
        coded = encode(IMAGE, seen, ratio=ratio, alpha=alpha, token_bits=bits, selection_seed=7)
        sent = select(seen.attention, ratio, alpha, np.random.default_rng(7))
        scales = Scales.read(weights / "token-decoder" / SCALES_NAME)
        np.testing.assert_array_equal(coded.frame.sent, sent)
        np.testing.assert_array_equal(coded.frame.codes, quantize(seen.tokens[sent], scales, bits))
        assert (coded.frame.bits, coded.frame.decoder) == (bits, scales.id)

    def test_importance_is_the_attention_of_what_is_sent(self, seen):
        coded = encode(IMAGE, seen)
        assert coded.importance.dtype == np.float64
        np.testing.assert_array_equal(coded.importance, np.where(coded.frame.sent, seen.attention, 0))

    def test_ratios_beside_the_papers(self, seen):
        """The paper's r is the share of patches; bits count their values too, and all bits the mask."""
        frame = encode(IMAGE, seen, ratio=0.5, token_bits=4).frame
        assert frame.sent.mean() == 0.5
        assert frame.rho == 0.5 * DIMENSION * 4 / (8 * 16 * 16 * 3)
        assert frame.true_ratio == len(frame.to_bytes()) / IMAGE.size > frame.rho

    def test_another_seed_draws_other_patches(self, seen):
        one, again, other = (encode(IMAGE, seen, selection_seed=seed).frame for seed in (0, 0, 1))
        assert one.to_bytes() == again.to_bytes()
        by_attention = np.argsort(-seen.attention)[: int(0.85 * 98)]
        assert one.sent[by_attention].all()
        assert other.sent[by_attention].all()
        assert (one.sent != other.sent).any()

    @pytest.mark.parametrize(
        ("image", "changes", "settings", "message"),
        [
            (IMAGE.astype(float), {}, {}, "^image must be 8-bit"),
            (IMAGE[:112], {}, {}, "^image must be 8-bit, of shape"),
            (IMAGE, {"tokens": np.zeros((196, 191), np.float32)}, {}, "^tokens and attention must have shapes"),
            (IMAGE, {"attention": np.zeros(195, np.float32)}, {}, "^tokens and attention must have shapes"),
            (IMAGE, {"attention": np.full(196, np.nan, np.float32)}, {}, "^attention must be finite"),
            (IMAGE, {"tokens": np.full((196, DIMENSION), np.inf, np.float32)}, {}, "^tokens must be finite"),
            (IMAGE, {}, {"ratio": 1.5}, "^ratio must be within"),
            (IMAGE, {}, {"alpha": -1}, "^alpha must be within"),
            (IMAGE, {}, {"token_bits": 9}, "^bits must be within"),
        ],
    )
    def test_refuses(self, seen, image, changes, settings, message):
        with pytest.raises(ValueError, match=message):
            encode(image, replace(seen, **changes), **settings)


class TestDecode:
    @pytest.mark.numeric
    def test_is_the_decoders_picture_on_grey(self, seen, weights):
        frame = encode(IMAGE, seen, token_bits=4).frame
        pixels = decode(frame)
        assert pixels.shape == IMAGE.shape
        assert pixels.dtype == np.float64
        scales = Scales.read(weights / "token-decoder" / SCALES_NAME)
        tokens = torch.zeros(1, 196, DIMENSION)
        tokens[0, frame.sent] = torch.from_numpy(
            dequantize(quantize(seen.tokens[frame.sent], scales, 4), scales, 4)
        )
        decoder = load_decoder(weights / "token-decoder")
        with torch.inference_mode():
            painted = 255 * decoder(tokens, torch.from_numpy(frame.sent)[None])[0].clamp(0, 1)
        for patch in range(196):
            row, column = 16 * (patch // 14), 16 * (patch % 14)
            found = pixels[row : row + 16, column : column + 16]
            if frame.sent[patch]:
                wanted = painted[:, row : row + 16, column : column + 16].permute(1, 2, 0).numpy()
                np.testing.assert_allclose(found, wanted, atol=0.5, rtol=0)  # half a grey level
                assert found.std() > 10
            else:
                assert (found == 127.5).all()

    def test_nothing_sent_is_grey(self, seen):
        assert (decode(encode(IMAGE, seen, ratio=0).frame) == 127.5).all()

    def test_a_lost_patch_is_grey(self, seen):
        frame = encode(IMAGE, seen).frame
        lost = int(np.flatnonzero(frame.sent)[3])
        pixels = decode(frame.without([lost]))
        row, column = 16 * (lost // 14), 16 * (lost % 14)
        assert (pixels[row : row + 16, column : column + 16] == 127.5).all()

    @given(st.integers(0, 2**32))
    def test_any_damage_is_painted(self, seed):
        rng = np.random.default_rng(seed)
        sent = rng.random(196) < rng.random()
        bits = int(rng.integers(2, 9))
        codes = rng.integers(0, 1 << bits, (np.count_nonzero(sent), DIMENSION)).astype(np.uint8)
        ours = coder._loaded[0].scales.id
        pixels = decode(TokenFrame.from_codes(codes, sent, geometry=coder.GEOMETRY, bits=bits, decoder=ours))
        assert 0 <= pixels.min() <= pixels.max() <= 255

    @pytest.mark.parametrize(
        ("grid", "dimension"),
        [(Geometry(14, 14, 16, 3), 191), (Geometry(28, 28, 8, 3), 192), (Geometry(14, 14, 16, 1), 192)],
    )
    def test_of_another_shape(self, grid, dimension):
        ours = coder._loaded[0].scales.id
        frame = TokenFrame.from_codes(
            np.zeros((0, dimension), np.uint8), np.zeros(grid.patches, bool), geometry=grid, bits=4, decoder=ours
        )
        with pytest.raises(FrameError, match="paints 14 × 14 tokens of 192 values") as caught:
            decode(frame)
        assert caught.value.reason == "decoder"

    def test_for_another_decoder(self, seen, tmp_path):
        frame = encode(IMAGE, seen).frame
        coder.load(write_decoder(tmp_path, seed=1))
        with pytest.raises(FrameError, match=r"for decoder [0-9a-f]{8}; here is [0-9a-f]{8}") as caught:
            decode(frame)
        assert caught.value.reason == "decoder"


class TestLoad:
    def test_comes_first(self, seen, monkeypatch):
        frame = encode(IMAGE, seen).frame
        monkeypatch.setattr(coder, "_loaded", [])
        for use in (lambda: encode(IMAGE, seen), lambda: decode(frame)):
            with pytest.raises(WeightsError, match=r"call semlink\.source\.transformer_aided\.load first"):
                use()

    def test_a_scale_file_that_is_none(self, tmp_path):
        folder = write_decoder(tmp_path) / "token-decoder"
        (folder / SCALES_NAME).write_bytes(b"PK")
        before = list(coder._loaded)
        with pytest.raises(WeightsError):
            coder.load(tmp_path)
        assert coder._loaded == before


@pytest.mark.parametrize(
    ("name", "changes"),
    [*((name, {}) for name in channels()), *((name, {"access": "ldpc-qam"}) for name in ("awgn", "rayleigh"))],
    ids=str,
)
def test_crosses_every_channel(name, changes, seen):
    """What arrives is read and painted; a plan has blocks for the patches that were sent."""
    kind = channel_type(name)
    channel = kind(**{each.name: each.initial for each in parameters(kind)} | changes)
    sent = encode(IMAGE, seen, ratio=0.5, token_bits=4).frame
    state = channel.draw_state(lambda *numbers: np.random.default_rng([1, *numbers]))
    made = None
    if channel.takes_plan:
        gains = subchannel_gains(state.estimate, channel.numerology.streams)
        made = plan_loads(sent.segment_bits, seen.attention, gains, 20.0, numerology=channel.numerology)
    arrival = channel.transmit(sent, made, state, np.random.default_rng(0))
    received = read_frame(sent.with_payload(arrival.received(sent)).to_bytes()).without(arrival.missing)
    pixels = decode(received)
    assert pixels.shape == IMAGE.shape
    damaged = np.unique(np.repeat(np.arange(196), sent.segment_bits)[arrival.flips])
    kept = np.setdiff1d(np.flatnonzero(sent.sent), [*damaged, *arrival.missing])
    of_sent, of_received = (np.cumsum(frame.sent) - 1 for frame in (sent, received))
    np.testing.assert_array_equal(received.codes[of_received[kept]], sent.codes[of_sent[kept]])
    still = np.setdiff1d(damaged, arrival.missing)
    assert (received.codes[of_received[still]] != sent.codes[of_sent[still]]).any(axis=1).all()


def test_is_registered():
    found = source_coder("transformer_aided")
    assert (found.frame_type.profile, found.takes, found.flag) == (1, "tokens", "transformer-aided")
    assert {each.name for each in found.settings} == {"ratio", "alpha", "token_bits", "selection_seed"}
    assert [each.name for each in found.settings if each.is_seed] == ["selection_seed"]
