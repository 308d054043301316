"""DeiT-Small grown from DeiT-Tiny: twice the width, the ensemble of DeiT-Tiny over a picture and its mirror image.

Net2Net (arXiv 1511.05641) and bert2BERT (arXiv 2110.07143) widen a trained network without changing what it
computes. A vision transformer can be widened to something better. The first half of the channels and heads is the
small network. The second half is the same network on the mirrored picture: the patches' kernels are flipped, and
the position embeddings change places with those of the mirrored column, so that its token at a place shows that
place's patch, mirrored. Attention does not depend on the order of tokens, so nothing else changes:

    tokens [x; x'],   W -> [[W, 0], [0, W]],   head -> [H/2, H/2]: the mean of both logits

Only LayerNorm sees both halves, and divides by their joint standard deviation instead of each half's own. The
halves see the same patch, so these are close; without LayerNorm the mean would be exact.
"""

import math

import torch
from torch import Tensor


def grow_with_mirror(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """State dict of a timm vision transformer -> one of twice its width and heads, seeing the mirror image too.

    Args:
        state: weights of a plain timm `VisionTransformer` (class token, LayerNorm, fused qkv, one head) whose
            patches are a square grid.
    """
    return {name: _grow(name, tensor) for name, tensor in state.items()}


def _grow(name: str, tensor: Tensor) -> Tensor:
    layer = name.removesuffix(".weight").removesuffix(".bias")
    if name == "cls_token":
        return torch.cat([tensor, tensor], dim=-1)
    if name == "pos_embed":
        return torch.cat([tensor, _mirrored_places(tensor)], dim=-1)
    if layer == "head":
        return torch.cat([tensor, tensor], dim=1) / 2 if tensor.ndim == 2 else tensor
    if layer.endswith("attn.qkv"):
        # Rows are [queries, keys, values], each of all heads: each third is doubled on its own.
        return torch.cat([_twice(third) for third in tensor.chunk(3)])
    if tensor.ndim == 4:  # the patches' kernels: out, in, rows, columns
        return torch.cat([tensor, tensor.flip(-1)])
    return _twice(tensor)


def _twice(tensor: Tensor) -> Tensor:
    """A vector for both halves, or a matrix that keeps them apart."""
    return torch.block_diag(tensor, tensor) if tensor.ndim == 2 else torch.cat([tensor, tensor])


def _mirrored_places(embedding: Tensor) -> Tensor:
    """(1, 1+N, D) position embeddings, those of the patches with their columns in reverse order."""
    class_token, patches = embedding[:, :1], embedding[:, 1:]
    side = math.isqrt(patches.shape[1])
    return torch.cat([class_token, patches.unflatten(1, (side, side)).flip(2).flatten(1, 2)], dim=1)
