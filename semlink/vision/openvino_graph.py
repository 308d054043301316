"""A vision transformer as an OpenVINO graph, built from its weights: nothing is traced or written to a file."""

import sys

import numpy as np
from numpy.typing import NDArray
from timm.models import VisionTransformer
from timm.models.vision_transformer import Block
from torch import Tensor, nn

# OpenVINO reports every import to a web service, unless its telemetry package is missing: it does without.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

from openvino import Model, Node, opset13  # noqa: E402


def attention_graph(vit: VisionTransformer, batch: int) -> Model:
    """Normalised images (B, 3, H, W) -> attention (B, N), as `semlink.vision.vit.class_attention`.

    Args:
        vit: a plain vision transformer, such as DeiT: a class token, fused qkv with biases, no layer scale, no
            norm of queries and keys, GELU.
        batch: B, or -1 for any; a known one runs somewhat faster.
    """
    images = _images(vit, batch)
    last = vit.blocks[-1]
    tokens = _norm(last.norm1, _tokens(vit, images))
    query_weight, key_weight, _ = np.split(_array(last.attn.qkv.weight), 3)
    query_bias, key_bias, _ = np.split(_array(last.attn.qkv.bias), 3)
    heads, scale = last.attn.num_heads, np.float32(last.attn.scale)
    query = _heads(_affine(_class_token(tokens), scale * query_weight, scale * query_bias), heads)
    patches = opset13.slice(
        tokens, _indices(1), _indices(1 + vit.patch_embed.num_patches), _indices(1), _indices(1)
    )
    keys = _heads(_affine(patches, key_weight, key_bias), heads)
    attention = opset13.softmax(opset13.matmul(query, keys, False, True), -1)
    return Model([opset13.reduce_mean(attention, _indices(1, 2))], [images])


def logits_graph(vit: VisionTransformer, batch: int) -> Model:
    """Normalised images (B, 3, H, W) -> logits (B, classes), as timm's forward; arguments as above.

    The last block's query, projection and MLP run for the class token only, which alone is looked at.
    """
    images = _images(vit, batch)
    last = vit.blocks[-1]
    tokens = _tokens(vit, images)
    query, keys, values = _query_key_value(last, tokens)
    token = _attend(last, _class_token(tokens), _class_token(query, axis=2), keys, values)
    return Model([opset13.squeeze(_linear(vit.head, _norm(vit.norm, token)), _indices(1))], [images])


def _images(vit: VisionTransformer, batch: int) -> Node:
    return opset13.parameter([batch, 3, *vit.patch_embed.img_size], np.float32, name="images")


def _tokens(vit: VisionTransformer, images: Node) -> Node:
    """(B, 1+N, D) tokens before the last block."""
    kernels = vit.patch_embed.proj
    patches = opset13.convolution(
        images, _array(kernels.weight), list(kernels.stride), [0, 0], [0, 0], list(kernels.dilation)
    )
    patches = opset13.reshape(patches, _indices(0, vit.embed_dim, vit.patch_embed.num_patches), True)
    positions = _array(vit.pos_embed)
    patches = opset13.add(opset13.transpose(patches, _indices(0, 2, 1)), positions[:, 1:] + _array(kernels.bias))
    class_token = _array(vit.cls_token) + positions[:, :1]
    batch = opset13.gather(opset13.shape_of(images), _indices(0), _indices(0))
    shape = opset13.concat([batch, _indices(*class_token.shape[1:])], 0)
    tokens = opset13.concat([opset13.broadcast(class_token, shape), patches], 1)
    for block in vit.blocks[:-1]:
        tokens = _attend(block, tokens, *_query_key_value(block, tokens))
    return tokens


def _query_key_value(block: Block, tokens: Node) -> list[Node]:
    """Three times (B, heads, 1+N, D/heads)."""
    both = _linear(block.attn.qkv, _norm(block.norm1, tokens))
    return [_heads(part, block.attn.num_heads) for part in opset13.split(both, np.int64(2), 3).outputs()]


def _attend(block: Block, tokens: Node, query: Node, keys: Node, values: Node) -> Node:
    """What a block makes of (B, n, D) tokens whose queries are given."""
    attended = opset13.scaled_dot_product_attention(query, keys, values)
    attended = opset13.transpose(attended, _indices(0, 2, 1, 3))
    attended = opset13.reshape(attended, _indices(0, 0, -1), True)
    tokens = opset13.add(tokens, _linear(block.attn.proj, attended))
    hidden = opset13.gelu(_linear(block.mlp.fc1, _norm(block.norm2, tokens)), "erf")
    return opset13.add(tokens, _linear(block.mlp.fc2, hidden))


def _heads(tokens: Node, heads: int) -> Node:
    """(B, n, D) -> (B, heads, n, D/heads)."""
    split = opset13.reshape(tokens, _indices(0, 0, heads, -1), True)
    return opset13.transpose(split, _indices(0, 2, 1, 3))


def _class_token(tokens: Node, axis: int = 1) -> Node:
    return opset13.slice(tokens, _indices(0), _indices(1), _indices(1), _indices(axis))


def _norm(layer: nn.LayerNorm, tokens: Node) -> Node:
    normed = opset13.mvn(tokens, _indices(-1), True, layer.eps, "inside_sqrt")
    return opset13.add(opset13.multiply(normed, _array(layer.weight)), _array(layer.bias))


def _linear(layer: nn.Linear, tokens: Node) -> Node:
    return _affine(tokens, _array(layer.weight), _array(layer.bias))


def _affine(tokens: Node, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> Node:
    return opset13.add(opset13.matmul(tokens, weight, False, True), bias)


def _array(parameter: Tensor) -> NDArray[np.float32]:
    return parameter.detach().numpy()


def _indices(*values: int) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)
