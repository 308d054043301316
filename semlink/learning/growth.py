"""DeiT-Small grown from DeiT-Tiny: twice the width, exactly the same function.

Net2Net (arXiv 1511.05641) and bert2BERT (arXiv 2110.07143) widen a trained network without changing what it
computes. Here every channel and every head stands twice, and weights that sum over doubled inputs are halved:

    x -> [x; x],   y = W x  ->  [y; y] = [[W/2, W/2], [W/2, W/2]] [x; x]

LayerNorm over doubled channels has the same mean and variance. Heads keep their 64 channels, so the attention
of each is unchanged. Halving is exact in binary floating point; what differs is the order of summation.

The two halves are identical, so they would also learn identically: training must first break the symmetry
with a little noise. That belongs to training, not here.
"""

import torch
from torch import Tensor


def grow_to_double_width(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """State dict of a timm vision transformer -> one of twice its width and heads, with the same logits.

    Args:
        state: weights of a plain timm `VisionTransformer` (class token, LayerNorm, fused qkv, one head).
    """
    return {name: _grow(name, tensor) for name, tensor in state.items()}


def _grow(name: str, tensor: Tensor) -> Tensor:
    layer = name.removesuffix(".weight").removesuffix(".bias")
    if name in ("cls_token", "pos_embed"):
        return torch.cat([tensor, tensor], dim=-1)
    if layer == "head":
        return _double_inputs(tensor) if tensor.ndim == 2 else tensor
    if layer.endswith("attn.qkv"):
        # Rows are [queries, keys, values], each of all heads: each third is doubled on its own.
        return torch.cat([_double(third) for third in tensor.chunk(3)])
    return _double(tensor)


def _double(tensor: Tensor) -> Tensor:
    """Doubles the outputs and, of a matrix, the inputs. A convolution's inputs are pixels: they stay."""
    return torch.cat([_double_inputs(tensor) if tensor.ndim == 2 else tensor] * 2)


def _double_inputs(matrix: Tensor) -> Tensor:
    return torch.cat([matrix, matrix], dim=1) / 2
