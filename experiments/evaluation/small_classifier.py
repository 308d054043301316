"""Convolutional classifier of 32 x 32 pictures: recognition beside PSNR, at a cost that a figure can carry.

A vision transformer on pictures enlarged to 224 x 224 takes some 100 times as long. This network has 0.87 million
weights and 28 million multiplications a picture; `python -m experiments.training.small_classifier` trains it on
clean pictures alone, so it does not know what a link does to them.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from semlink.vision.storage import read_weights
from semlink.vision.weights import WeightsError

WEIGHTS = Path(__file__).parent / "cifar10-classifier" / "small_classifier.safetensors"
"""The committed weights, for the classes of CIFAR-10; their card is beside them."""
SIDE = 32
WIDTHS = (32, 64, 128, 192)
BATCH = 250


class Residual(nn.Module):
    """Two convolutions whose result is added to what came in (He et al., CVPR 2016)."""

    def __init__(self, width: int) -> None:
        """Of so many channels in and out."""
        super().__init__()
        self.branch = nn.Sequential(_convolution(width, width), _convolution(width, width))

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, width, H, W) to the same shape."""
        result: Tensor = pixels + self.branch(pixels)
        return result


class SmallClassifier(nn.Module):
    """Three halvings of the picture, seven convolutions, the largest value of each channel, one dense layer."""

    def __init__(self, classes: int = 10, names: tuple[str, ...] = ()) -> None:
        """With random weights.

        Args:
            classes: how many.
            names: of them, where they are known.
        """
        super().__init__()
        self.classes = names
        first, second, third, fourth = WIDTHS
        self.layers = nn.Sequential(
            _convolution(3, first),
            nn.MaxPool2d(2),
            _convolution(first, second),
            Residual(second),
            nn.MaxPool2d(2),
            _convolution(second, third),
            _convolution(third, third),
            nn.MaxPool2d(2),
            _convolution(third, fourth),
            _convolution(fourth, fourth),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(fourth, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, classes) logits of (B, 3, 32, 32) pixels in [0, 1]."""
        logits: Tensor = self.head(self.layers(4 * pixels - 2))
        return logits


def load_classifier(weights: Path = WEIGHTS) -> SmallClassifier:
    """The trained classifier, ready to measure.

    Raises:
        WeightsError: there are no weights, with the command that trains them.
    """
    if not weights.is_file():
        raise WeightsError(f"{weights}: no weights; python -m experiments.training.small_classifier trains them")
    stored = read_weights(weights)
    names = stored.classes or ()
    model = SmallClassifier(len(names), names)
    model.load_state_dict(stored.state)
    return model.to(memory_format=torch.channels_last).eval()


def classify(model: SmallClassifier, pixels: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.int64]:
    """Labels of pictures.

    Args:
        model: the classifier.
        pixels: (B, 32, 32, 3) in [0, 255].

    Returns:
        (B,) labels.
    """
    labels = []
    with torch.inference_mode():
        for start in range(0, len(pixels), BATCH):
            batch = torch.from_numpy(np.asarray(pixels[start : start + BATCH], np.float32)).permute(0, 3, 1, 2)
            labels.append(model(batch / 255).argmax(1).numpy())
    return np.concatenate(labels)


def _convolution(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
