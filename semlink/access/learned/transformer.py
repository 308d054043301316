"""Vision transformer (ViT) blocks and ChannelModNet: the trunk of channel mapper and demapper.

ChannelModNet (Yang et al., WITT, ICASSP 2023) lets the state of the channel open and close gates between linear
layers, so that one network serves all of them.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Transformer block: layer norm and attention, layer norm and perceptron, each added to what came in."""

    def __init__(self, width: int, heads: int, ratio: int) -> None:
        """`ratio`: width of the perceptron, in widths of a token."""
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, width)."""
        _, count, width = tokens.shape
        qkv = self.qkv(self.norm1(tokens)).reshape(-1, count, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        # Written out: in bfloat16, torch's fused attention takes ten times as long backwards for so few tokens.
        attended = (query * self.scale @ key.transpose(2, 3)).softmax(-1) @ value
        tokens = tokens + self.projection(attended.transpose(1, 2).reshape(-1, count, width))
        after: Tensor = tokens + self.perceptron(self.norm2(tokens))
        return after


class ChannelModNet(nn.Module):
    """Tokens times gates: linear layers of 1.5 times the width, all but the last gated by the channel's state.

    Args:
        width: of the tokens.
        layers: gated layers; the paper has 7.
        conditions: values that state the channel.
    """

    def __init__(self, width: int, layers: int, conditions: int) -> None:
        """Random weights."""
        super().__init__()
        hidden = 3 * width // 2
        widths = [width, *[hidden] * layers]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.gates = nn.ModuleList(_gate(conditions, hidden) for _ in range(layers))
        self.last = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor, state: Tensor) -> Tensor:
        """Tokens (B, N, width); state (B, conditions), of the order of one."""
        found = tokens
        for layer, gate in zip(self.layers, self.gates, strict=True):
            found = layer(found) * gate(state)[:, None]
        return tokens * torch.sigmoid(self.last(found))


def _gate(conditions: int, hidden: int) -> nn.Sequential:
    """Three small layers from the channel's state to gates within (0, 1)."""
    return nn.Sequential(
        nn.Linear(conditions, hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, hidden),
        nn.Sigmoid(),
    )


def sine_positions(side: int, width: int) -> Tensor:
    """(side², width) sine positions of a square of tokens in raster order: half for the row, half for the column.

    Args:
        side: tokens down and across.
        width: of a token, a multiple of 4.
    """
    quarter = width // 4
    frequencies = torch.exp(-math.log(10_000) / quarter * torch.arange(quarter))
    angles = torch.arange(side)[:, None] * frequencies
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows = line[:, None].expand(side, side, -1)
    return torch.cat([rows, rows.transpose(0, 1)], dim=2).reshape(side * side, width)
