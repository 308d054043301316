"""The two vision transformers of the link, and the class token's attention (torch, timm)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import structlog
import timm
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from timm.data import ImageNetInfo
from timm.models import VisionTransformer
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention

from semlink.vision.growth import grow_with_mirror
from semlink.vision.images import IMAGE_SIZE
from semlink.vision.storage import read_weights
from semlink.vision.weights import MAX_WEIGHTS_BYTES, Weights, WeightsError, find_weights

log = structlog.get_logger(__name__)

TOKEN_BLOCKS = 1
"""Blocks behind which a device takes the tokens that it sends, measured; see `tokens_and_attention`."""


@dataclass(frozen=True)
class Origin:
    """What a loaded model is, so that nobody takes it for something else."""

    model: str
    weights: Weights
    kind: str = ""

    @property
    def grown(self) -> bool:
        """The model is a smaller one, widened; not the release of its name."""
        return self.weights.model != self.model

    @property
    def name(self) -> str:
        """In words, wherever the weights were found, such as: link-trained deit_tiny_patch16_224."""
        name = f"{self.kind} {self.model}".strip()
        return f"{name} grown from {self.weights.model}, not the release" if self.grown else name

    def __str__(self) -> str:
        """In words, such as: link-trained deit_tiny_patch16_224 (--weights)."""
        return f"{self.name} ({self.weights.place})"


def load_vit(name: str, *, weights: Path | None = None) -> VisionTransformer:
    """A pretrained timm vision transformer, ready for inference; logs which weights it uses.

    Its `origin` attribute says what it is. Where weights are searched: `semlink.vision.weights.find_weights`.

    Args:
        name: timm's name: deit_tiny_patch16_224 or deit_small_patch16_224.
        weights: folder to look in first.

    Raises:
        WeightsError: no weights, or a file that does not fit the model; the message says what to do.
    """
    found = find_weights(name, weights)
    if found.path.stat().st_size > MAX_WEIGHTS_BYTES:
        raise WeightsError(f"{found.path} is larger than {MAX_WEIGHTS_BYTES >> 30} GiB")
    try:
        with _one_thread():
            stored = read_weights(found.path)
            origin = Origin(name, found, stored.kind)
            state = grow_with_mirror(stored.state) if origin.grown else stored.state
            with torch.device("meta"):  # or else weights are drawn, only to be replaced
                model = timm.create_model(name, num_classes=len(state["head.bias"]))
            model.load_state_dict(state, assign=True)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise WeightsError(f"{found.path} holds no weights for {name}: {error}") from error
    if not isinstance(model, VisionTransformer) or model.patch_embed.img_size != (IMAGE_SIZE, IMAGE_SIZE):
        raise WeightsError(f"{name} is no vision transformer for pictures of {IMAGE_SIZE} x {IMAGE_SIZE} pixels")
    log.info("weights", model=str(origin), path=str(found.path))
    model.origin, model.class_names = origin, stored.classes
    return model.eval()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Has torch keep to one thread: several spin while they wait, which costs whoever shares the cores dearly."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def first_blocks(model: VisionTransformer, images: Tensor, blocks: int) -> Tensor:
    """(B, 1+N, D) tokens of (B, 3, H, W) normalised images behind the first so many blocks."""
    tokens: Tensor = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))
    for block in model.blocks[:blocks]:
        tokens = block(tokens)
    return tokens


@torch.inference_mode()
def class_attention(model: VisionTransformer, images: Tensor) -> Tensor:
    """Mean attention a of the last block's class token on the N patches (IAQ, equations 3-4).

    The softmax runs over the patches' keys only, per head; the heads are then averaged. Nothing is computed
    that this does not need: of the last block only the class token's query and the patches' keys, no values,
    projection or MLP; no final norm and no head.

    Args:
        model: a timm vision transformer with a class token.
        images: (B, 3, H, W) normalised images, see `normalise`.

    Returns:
        (B, N) attention, each row sums to 1.
    """
    return _last_attention(model, first_blocks(model, images, len(model.blocks) - 1))


@torch.inference_mode()
def tokens_and_attention(model: VisionTransformer, images: Tensor) -> tuple[Tensor, Tensor]:
    """Patch tokens z_1..z_N behind the first TOKEN_BLOCKS blocks, and the class token's attention in the last.

    They are what transformer-aided selection sends and selects by (Mortaheb et al., arXiv 2405.01521, Sections
    II-B and III). Both come of one pass; the attention is that of `class_attention`, bit by bit.

    The paper sends tokens of the last block. It has a model that was trained without labels; DeiT's last tokens
    hold so little of the picture that hardly any class is recognised in what is painted from them
    (docs/transformer-aided.md), and those behind its first block enough.

    Args:
        model: a timm vision transformer with a class token.
        images: (B, 3, H, W) normalised images, see `normalise`.

    Returns:
        (B, N, D) tokens and (B, N) attention, whose rows sum to 1.
    """
    tokens = first_blocks(model, images, TOKEN_BLOCKS)
    before = tokens
    for block in model.blocks[TOKEN_BLOCKS:-1]:
        before = block(before)
    return tokens[:, model.num_prefix_tokens :], _last_attention(model, before)


@torch.inference_mode()
def attention_and_logits(model: VisionTransformer, images: Tensor) -> tuple[Tensor, Tensor]:
    """What a device needs that has an opinion: `class_attention`, and logits as timm's forward gives them.

    Of the last block only the class token goes through projection, MLP and head, so that the logits cost hardly
    anything beside the attention. Its values W·x_n + b are averaged before they are made: the tokens x_n, weighted
    by each head's attention, go through W, which is once a head instead of once a token.

    Args:
        model: a timm vision transformer with a class token that its head reads.
        images: (B, 3, H, W) normalised images, see `normalise`.

    Returns:
        (B, N) attention, whose rows sum to 1, and (B, classes) logits.
    """
    tokens = first_blocks(model, images, len(model.blocks) - 1)
    last = model.blocks[-1]
    normed = last.norm1(tokens)
    scores = _class_scores(model, normed[:, 0], normed)
    weighted = torch.einsum("bhn,bnd->bhd", scores.softmax(dim=-1), normed)
    _, _, weight = last.attn.qkv.weight.chunk(3)
    _, _, bias = last.attn.qkv.bias.chunk(3)
    values = torch.einsum("bhd,hed->bhe", weighted, weight.unflatten(0, (last.attn.num_heads, -1)))
    attention = scores[..., model.num_prefix_tokens :].softmax(dim=-1).mean(dim=1)
    return attention, _logits(model, tokens[:, 0], values.flatten(1) + bias)


def _last_attention(model: VisionTransformer, tokens: Tensor) -> Tensor:
    """(B, N) attention of `class_attention`, of the (B, 1+N, D) tokens that enter the last block."""
    normed = model.blocks[-1].norm1(tokens)
    return _class_scores(model, normed[:, 0], normed[:, model.num_prefix_tokens :]).softmax(dim=-1).mean(dim=1)


def _class_scores(model: VisionTransformer, class_token: Tensor, tokens: Tensor) -> Tensor:
    """(B, H, N) products of the last block's query of (B, D) class tokens and keys of (B, N, D), before softmax.

    Both are normed; H is the number of heads.
    """
    attention = model.blocks[-1].attn
    query_weight, key_weight, _ = attention.qkv.weight.chunk(3)
    query_bias, key_bias, _ = attention.qkv.bias.chunk(3)
    per_head = (attention.num_heads, -1)
    query = attention.q_norm(linear(class_token, query_weight, query_bias).unflatten(-1, per_head))
    keys = attention.k_norm(linear(tokens, key_weight, key_bias).unflatten(-1, per_head))
    return torch.einsum("bhd,bnhd->bhn", query * attention.scale, keys)


def class_logits(model: VisionTransformer, images: Tensor) -> Tensor:
    """Logits as timm's forward gives them; of the last block only what the class token needs is computed.

    Args:
        model: a timm vision transformer with a class token that its head reads.
        images: (B, 3, H, W) normalised images, see `normalise`.

    Returns:
        (B, classes) logits.
    """
    last = model.blocks[-1]
    tokens = first_blocks(model, images, len(model.blocks) - 1)
    attention = last.attn
    parts = attention.qkv(last.norm1(tokens)).unflatten(-1, (3, attention.num_heads, -1))
    query, keys, values = parts.permute(2, 0, 3, 1, 4).unbind()
    attended = scaled_dot_product_attention(
        attention.q_norm(query[:, :, :1]), attention.k_norm(keys), values, scale=attention.scale
    )
    return _logits(model, tokens[:, 0], attended.flatten(1))


def _logits(model: VisionTransformer, class_token: Tensor, attended: Tensor) -> Tensor:
    """(B, classes) logits of (B, D) class tokens that enter the last block, and of what they attend to there."""
    last = model.blocks[-1]
    token = class_token + last.ls1(last.attn.proj(attended))
    token = token + last.ls2(last.mlp(last.norm2(token)))
    logits: Tensor = model.head(model.norm(token))
    return logits


def normalise(model: VisionTransformer, pixels: NDArray[Any]) -> Tensor:
    """(B, H, W, 3) pixels in [0, 255], any real dtype -> (B, 3, H, W) float32 input of `model`."""
    mean, std = _moments(model)
    images = torch.empty(len(pixels), 3, *pixels.shape[1:3])
    images.copy_(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    return images.sub_(mean[:, None, None]).div_(std[:, None, None])


def class_names(model: VisionTransformer) -> list[str]:
    """Name of every class: as its weights file says, or ImageNet-1k's for 1000 classes, or the bare numbers."""
    if model.class_names is not None and len(model.class_names) == model.num_classes:
        return list(model.class_names)
    if model.num_classes == 1000:
        return _imagenet_names()
    return [str(label) for label in range(model.num_classes)]


def _moments(model: VisionTransformer) -> tuple[Tensor, Tensor]:
    configuration = model.pretrained_cfg
    return 255 * torch.tensor(configuration["mean"]), 255 * torch.tensor(configuration["std"])


@cache
def _imagenet_names() -> list[str]:
    info = ImageNetInfo("imagenet-1k")
    return [info.index_to_description(label).split(",")[0] for label in range(info.num_classes())]
