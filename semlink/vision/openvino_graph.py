"""OpenVINO graph of a vision transformer, converted from torch in memory, without fetching or writing a file."""

import sys
import warnings
from typing import Literal

import torch
from timm.models import VisionTransformer
from torch import Tensor

from semlink.vision.vit import class_attention, class_logits

# OpenVINO reports every import to a web service, unless its telemetry package is missing: it does without.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

from openvino import Model, convert_model  # noqa: E402


def openvino_graph(model: VisionTransformer, answer: Literal["attention", "logits"], batch: int | None) -> Model:
    """Graph of normalised images (B, 3, H, W) -> attention (B, N) or logits (B, classes).

    Args:
        model: a vision transformer with a class token; from then on its parameters have no gradients.
        answer: that of `semlink.vision.vit.class_attention` or `class_logits`.
        batch: B, if it is always the same; that runs somewhat faster.
    """
    size = model.patch_embed.img_size
    answer_of = class_attention if answer == "attention" else class_logits
    model.requires_grad_(False)  # or else the tracer takes no parameter for a constant

    def answering(images: Tensor) -> Tensor:
        return answer_of(model, images)

    with warnings.catch_warnings(), torch.no_grad():
        # torch calls the tracer deprecated that OpenVINO builds on, and says that sizes become constants.
        warnings.simplefilter("ignore")
        # Two images, where there may be any number: of one, the number would become a constant. Of a function,
        # and not a module of 277 parts, DeiT-Tiny's graph takes 0.2 s instead of 0.5 s. Traced here, because
        # OpenVINO has torch check what it traced.
        traced = torch.jit.trace(answering, torch.zeros(batch or 2, 3, *size), check_trace=False)
        return convert_model(traced, input=[batch or -1, 3, *size])
