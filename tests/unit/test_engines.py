import sys

import numpy as np
import pytest
import timm
import torch
from timm.models import VisionTransformer
from tolerances import CONFIDENCE, IMPORTANCE

from semlink.source.iaq import coder as iaq
from semlink.vision.engines import TOLERANCE, EngineError, load_engine
from semlink.vision.images import model_pixels, open_image
from semlink.vision.photos import find_photos
from semlink.vision.vit import (
    Origin,
    attention_and_logits,
    class_attention,
    load_vit,
    normalise,
    tokens_and_attention,
)
from semlink.vision.weights import DEVICE_MODEL, Weights

pytestmark = pytest.mark.numeric

PHOTOS = ("chelsea", "coffee", "astronaut", "rocket", "motorcycle_left", "hubble_deep_field")


@pytest.fixture(autouse=True)
def threads():
    """An engine sets torch's threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny():
    return load_vit(DEVICE_MODEL)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.stack([model_pixels(open_image(path)) for path in find_photos(PHOTOS)])


@pytest.fixture(scope="module")
def images(tiny, pixels):
    return normalise(tiny, pixels)


def small(**parts) -> VisionTransformer:
    """A vision transformer that is made in no time, of random weights, biases and norms included."""
    torch.manual_seed(0)
    model = timm.create_model(DEVICE_MODEL, embed_dim=64, depth=2, num_heads=4, num_classes=7, **parts)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.origin = Origin("small", Weights(None, "small", "here"))
    return model.eval()


def largest_difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Of the largest value, as an engine checks itself: random weights give scores far below the largest."""
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="OpenVINO needs AVX2")
class TestOpenVino:
    @pytest.mark.parametrize("batch", [None, 1])
    def test_attention_is_torchs(self, tiny, images, batch):
        engine = load_engine("openvino", tiny, "attention", threads=1, batch=batch)
        for part in images.split(batch or 4):
            torch.testing.assert_close(engine(part), class_attention(tiny, part), atol=0, rtol=IMPORTANCE)

    def test_logits_are_timms_at_any_batch_size(self, tiny, images):
        engine = load_engine("openvino", tiny, "logits", threads=1)
        with torch.inference_mode():
            wanted = tiny(images)
        for part, logits in zip(images.split([1, 3, 2]), wanted.split([1, 3, 2]), strict=True):
            torch.testing.assert_close(engine(part), logits, atol=CONFIDENCE, rtol=0)

    @pytest.mark.parametrize("batch", [None, 1])
    def test_tokens_are_torchs(self, tiny, images, batch):
        engine = load_engine("openvino", tiny, "tokens", threads=1, batch=batch)
        for part in images.split(batch or 4):
            (tokens, attention), (wanted, wanted_attention) = engine(part), tokens_and_attention(tiny, part)
            assert largest_difference(tokens, wanted) <= TOLERANCE
            torch.testing.assert_close(attention, wanted_attention, atol=0, rtol=IMPORTANCE)

    @pytest.mark.parametrize("batch", [None, 1])
    def test_an_opinion_is_the_attention_and_timms_logits(self, tiny, images, batch):
        engine = load_engine("openvino", tiny, "opinion", threads=1, batch=batch)
        for part in images.split(batch or 4):
            attention, logits = engine(part)
            torch.testing.assert_close(attention, class_attention(tiny, part), atol=0, rtol=IMPORTANCE)
            with torch.inference_mode():
                torch.testing.assert_close(logits, tiny(part), atol=CONFIDENCE, rtol=0)

    def test_every_weight_counts(self):
        """Random biases, norms and embeddings: what is left out or takes another's place is seen."""
        model, images = small(), torch.randn(3, 3, 224, 224)
        with torch.inference_mode():
            logits = model(images)
        found = load_engine("openvino", model, "logits")(images)
        assert largest_difference(found, logits) <= TOLERANCE
        attention = load_engine("openvino", model, "attention")(images)
        assert largest_difference(attention, class_attention(model, images)) <= TOLERANCE
        tokens, attention = load_engine("openvino", model, "tokens")(images)
        wanted, wanted_attention = tokens_and_attention(model, images)
        assert largest_difference(tokens, wanted) <= TOLERANCE
        assert largest_difference(attention, wanted_attention) <= TOLERANCE
        attention, found = load_engine("openvino", model, "opinion")(images)
        assert largest_difference(attention, wanted_attention) <= TOLERANCE
        assert largest_difference(found, logits) <= TOLERANCE

    def test_bits_hardly_differ(self, tiny, pixels, images):
        """The bit map is transmitted: where rounding decides between equal gains, another patch may get a bit."""
        engine = load_engine("openvino", tiny, "attention", threads=1)
        scores = engine(images).numpy(), class_attention(tiny, images).numpy()
        one, other = (
            np.stack([iaq.encode(view, each).frame.bits for view, each in zip(pixels, way, strict=True)])
            for way in scores
        )
        assert np.mean(one != other) <= 0.01
        assert np.abs(one - other).max() <= 1

    def test_an_answer_outlives_the_next_call(self, tiny, images):
        engine = load_engine("openvino", tiny, "logits", threads=1)
        first = engine(images[:1])
        kept = first.clone()
        engine(images[1:2])
        torch.testing.assert_close(first, kept, atol=0, rtol=0)

    @pytest.mark.parametrize(
        "parts",
        [
            {"init_values": 0.5},
            {"qk_norm": True},
            {"reg_tokens": 4},
            {"act_layer": torch.nn.ReLU},
        ],
        ids=str,
    )
    def test_parts_of_other_transformers_count_too(self, parts):
        model, images = small(**parts), torch.randn(2, 3, 224, 224)
        with torch.inference_mode():
            logits = model(images)
        assert largest_difference(load_engine("openvino", model, "logits")(images), logits) <= TOLERANCE
        attention, found = attention_and_logits(model, images)
        assert largest_difference(found, logits) <= TOLERANCE
        assert largest_difference(attention, class_attention(model, images)) <= TOLERANCE

    @pytest.mark.parametrize(
        "parts", [{"global_pool": "avg"}, {"class_token": False, "global_pool": "avg"}], ids=str
    )
    def test_a_model_that_it_would_run_otherwise_is_refused(self, parts):
        with pytest.raises(EngineError, match="--engine torch"):
            load_engine("openvino", small(**parts), "logits")

    @pytest.mark.parametrize("wrong", [0, 1])
    def test_tokens_of_another_model_are_refused(self, monkeypatch, wrong):
        """Either of both answers is checked."""

        model = small()

        def compiled(*_):
            def run(images):
                answers = list(tokens_and_attention(model, images))
                answers[wrong] = answers[wrong].flip(-1)
                return tuple(answers)

            return run

        monkeypatch.setattr("semlink.vision.engines._compiled", compiled)
        with pytest.raises(EngineError, match="OpenVINO's tokens of small differ"):
            load_engine("openvino", model, "tokens")

    def test_no_answer_at_all_is_refused(self, monkeypatch):
        """As oneDNN gives where it is limited to SSE4.1."""
        monkeypatch.setattr("semlink.vision.engines._compiled", lambda *_: lambda images: torch.empty(0))
        with pytest.raises(EngineError, match="--engine torch"):
            load_engine("openvino", small(), "logits")

    def test_without_openvino(self, monkeypatch):
        monkeypatch.delitem(sys.modules, "semlink.vision.openvino_graph", raising=False)
        monkeypatch.setitem(sys.modules, "openvino", None)
        with pytest.raises(EngineError, match=r"pip install openvino; --engine torch"):
            load_engine("openvino", small(), "logits")

    def test_it_reports_to_nobody(self):
        """OpenVINO tells a web service that it was imported, unless it finds no telemetry and takes its stub."""
        load_engine("openvino", small(), "logits")
        assert sys.modules["openvino_telemetry"] is None
        assert "openvino.tools.ovc.telemetry_stub" in sys.modules


class TestTorch:
    def test_is_timm_and_takes_its_threads(self, images):
        model = small()
        logits = load_engine("torch", model, "logits", threads=2)(images[:2])
        assert torch.get_num_threads() == 2
        with torch.inference_mode():
            assert largest_difference(logits, model(images[:2])) <= TOLERANCE
        attention = load_engine("torch", model, "attention")(images[:2])
        assert largest_difference(attention, class_attention(model, images[:2])) <= TOLERANCE
        found, wanted = load_engine("torch", model, "tokens")(images[:2]), tokens_and_attention(model, images[:2])
        torch.testing.assert_close(found, wanted, atol=0, rtol=0)
        attention, found = load_engine("torch", model, "opinion")(images[:2])
        assert largest_difference(attention, class_attention(model, images[:2])) <= TOLERANCE
        assert largest_difference(found, logits) <= TOLERANCE
