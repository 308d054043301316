"""Loss (3) of transformer-aided selection, and resumed runs of the training with it."""

import math

import numpy as np
import pytest
import timm
import torch
from interruption import whole_and_resumed
from rich.progress import Progress

from experiments.training import received_training
from experiments.training.received_training import ReceivedOptions, fit_received, painted, received_loss
from experiments.training.tokens import CachedTokens
from semlink.vision.token_decoder import SCALES_NAME, TokenDecoder

D = 4


def test_loss_weighs_originals_by_beta_and_the_received_by_the_rest():
    """By hand: softmax of logits (ln 3, 0) is (3/4, 1/4), and of (0, 0) it is (1/2, 1/2)."""
    originals = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]])
    received = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    labels = torch.tensor([0, 1])
    of_originals = (-math.log(3 / 4) - math.log(1 / 2)) / 2
    of_received = (-math.log(1 / 2) - math.log(1 / 4)) / 2
    found = received_loss(originals, received, labels, beta=0.3).item()
    assert found == pytest.approx(0.3 * of_originals + 0.7 * of_received, rel=1e-5)
    # As printed, with the originals in both terms, β would make no difference.
    assert found != pytest.approx(of_originals, rel=1e-2)


def test_patches_that_were_not_sent_are_grey():
    decoder = TokenDecoder(torch.zeros(D), torch.ones(D)).eval()
    sent = np.zeros((1, 196), bool)
    sent[0, 15] = True  # second row, second column
    pixels = painted(decoder, np.ones((1, 196, D), np.float32), sent)
    assert (pixels[0, 16:32, 16:32] != 127.5).any()
    pixels[0, 16:32, 16:32] = 127.5
    assert (pixels == 127.5).all()


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.setattr(received_training, "CHECKPOINT_STEPS", 2)
    low = np.full((7, D), -3, np.float32)
    np.savez(tmp_path / SCALES_NAME, low=low, step=6 / (2.0 ** np.arange(2, 9)[:, None] - 1) - low * 0)
    with np.load(tmp_path / SCALES_NAME) as arrays:
        np.savez(tmp_path / SCALES_NAME, **{name: array.astype(np.float32) for name, array in arrays.items()})
    torch.manual_seed(1)
    decoder = TokenDecoder(torch.zeros(D), torch.ones(D)).eval()
    generator = np.random.default_rng(0)
    cache = CachedTokens(
        generator.standard_normal((4, 196, D)).astype(np.float16),
        generator.random((4, 196)).astype(np.float32),
        generator.integers(256, size=(4, 224, 224, 3), dtype=np.uint8),
        np.array([0, 1, 2, 0]),
    )
    options = ReceivedOptions("deit_tiny_patch16_224", None, tmp_path, 0.3, 0.85, 10, 4, 1, 1e-3, 0)

    def trained(folder):
        torch.manual_seed(0)
        classifier = timm.create_model("deit_tiny_patch16_224", num_classes=3)
        run, checkpoint = (options, "pictures"), folder / "checkpoint"
        fit_received(classifier, decoder, cache, run, checkpoint, Progress(disable=True))
        return classifier.state_dict()

    whole, resumed = whole_and_resumed(trained, tmp_path, taken=3)
    for name, values in whole.items():
        assert torch.equal(values, resumed[name]), name
    torch.manual_seed(0)
    new = timm.create_model("deit_tiny_patch16_224", num_classes=3).state_dict()
    changed = {name for name, values in new.items() if not torch.equal(values, whole[name])}
    assert {name.split(".")[1] for name in changed if name.startswith("blocks")} == {"10", "11"}
