"""OpenVINO graphs of networks, converted from torch in memory, without fetching or writing a file."""

import warnings
from collections.abc import Callable
from typing import Literal

import torch
from openvino import Model, convert_model
from timm.models import VisionTransformer
from torch import Tensor

from semlink.vision.vit import attention_and_logits, class_attention, class_logits, tokens_and_attention

ANSWERS: dict[str, Callable[[VisionTransformer, Tensor], Tensor | tuple[Tensor, Tensor]]] = {
    "attention": class_attention,
    "logits": class_logits,
    "tokens": tokens_and_attention,
    "opinion": attention_and_logits,
}
"""Functions that a graph is made of, by the name of their answer."""


def openvino_graph(
    model: VisionTransformer, answer: Literal["attention", "logits", "tokens", "opinion"], batch: int | None
) -> Model:
    """Graph of normalised images (B, 3, H, W) -> what `load_engine` calls by the name of the answer.

    Args:
        model: a vision transformer with a class token; from then on its parameters have no gradients.
        answer: a key of `ANSWERS`; the graphs of "tokens" and "opinion" have two outputs.
        batch: B, if it is always the same; that runs somewhat faster.
    """
    answer_of = ANSWERS[answer]
    model.requires_grad_(False)  # or else the tracer takes no parameter for a constant
    return graph_of(lambda images: answer_of(model, images), (3, *model.patch_embed.img_size), batch)


def graph_of(
    function: Callable[[Tensor], Tensor | tuple[Tensor, ...]], size: tuple[int, ...], batch: int | None
) -> Model:
    """Graph of a function of (B, *size), of networks whose parameters have no gradients.

    Args:
        function: what torch traces: operations on tensors of sizes that its argument's size decides.
        size: of the argument, without the batch.
        batch: B, if it is always the same.
    """

    def traceable(values: Tensor) -> Tensor | tuple[Tensor, ...]:
        return function(values)

    with warnings.catch_warnings(), torch.no_grad():
        # torch calls the tracer deprecated that OpenVINO builds on, and says that sizes become constants.
        warnings.simplefilter("ignore")
        # Two items, where there may be any number: of one, the number would become a constant. Of a function,
        # and not a module of 277 parts, DeiT-Tiny's graph takes 0.2 s instead of 0.5 s. Traced here, because
        # OpenVINO has torch check what it traced.
        traced = torch.jit.trace(traceable, torch.zeros(batch or 2, *size), check_trace=False)
        return convert_model(traced, input=[batch or -1, *size])
