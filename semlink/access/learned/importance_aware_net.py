"""Importance-Aware Net (IAN): features of bits weighed by their importance (Kong, Zhang, Section II-C, Fig. 4).

Two parts, each of which can be left out, as the paper's ablation does: interface attention, which adds what three
residual blocks find, weighed by the importance 1 - 2ε of the bit at the same place; and squeeze-and-excitation,
which weighs the 96 positions within a token by what the whole tile looks like (Hu et al., CVPR 2018).
"""

from typing import Literal

import torch
from torch import Tensor, nn

from semlink.access.learned.bandwidth import TOKEN_BITS, TOKENS

Parts = Literal["full", "no-interface-attention", "no-ian"]
"""Parts of an IAN: both; squeeze-and-excitation alone; none, and then it is the identity."""
PARTS: tuple[Parts, ...] = ("full", "no-interface-attention", "no-ian")
SIDE = 8
"""Tokens down and across of a tile."""
BLOCKS = 3
"""Residual blocks of the trunk."""
REDUCTION = 16
"""Of squeeze-and-excitation: hidden values for 16 positions."""


class ImportanceAwareNet(nn.Module):
    """(B, 64, 96) features at the places of bits -> the same shape.

    Args:
        epsilon: (64, 96) flip probabilities ε of the bits, within [0, 0.5].
        parts: what it has.
    """

    def __init__(self, epsilon: Tensor, parts: Parts = "full") -> None:
        """Random weights."""
        super().__init__()
        if epsilon.shape != (TOKENS, TOKEN_BITS):
            raise ValueError(f"epsilon must be ({TOKENS}, {TOKEN_BITS}), not {tuple(epsilon.shape)}")
        if parts not in PARTS:
            raise ValueError(f"parts must be one of {', '.join(PARTS)}, not {parts!r}")
        self.attention = InterfaceAttention(epsilon) if parts == "full" else None
        self.excitation = SqueezeExcitation() if parts != "no-ian" else None

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, 64, 96) of any range."""
        grid = features.transpose(1, 2).reshape(-1, TOKEN_BITS, SIDE, SIDE)
        if self.attention is not None:
            grid = self.attention(grid)
        if self.excitation is not None:
            grid = self.excitation(grid)
        return grid.flatten(2).transpose(1, 2)


class InterfaceAttention(nn.Module):
    """x + trunk(x)·(1 - 2ε): what the trunk finds counts as much as the bit there does."""

    importance: Tensor

    def __init__(self, epsilon: Tensor) -> None:
        """`epsilon` (64, 96)."""
        super().__init__()
        importance = (1 - 2 * epsilon.float()).T.reshape(TOKEN_BITS, SIDE, SIDE)
        self.register_buffer("importance", importance.contiguous())
        self.trunk = nn.Sequential(*(ResidualBlock(TOKEN_BITS) for _ in range(BLOCKS)))

    def forward(self, grid: Tensor) -> Tensor:
        """Grid (B, 96, 8, 8)."""
        found: Tensor = self.trunk(grid)
        return grid + found * self.importance


class ResidualBlock(nn.Module):
    """x + convolutions 1×1, 3×3, 1×1 at half the width, each with batch norm."""

    def __init__(self, width: int) -> None:
        """`width`: positions of a token."""
        super().__init__()
        half = width // 2
        self.layers = nn.Sequential(
            nn.Conv2d(width, half, 1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, half, 3, padding=1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, grid: Tensor) -> Tensor:
        """Grid (B, width, 8, 8)."""
        found: Tensor = self.layers(grid)
        return grid + found


class SqueezeExcitation(nn.Module):
    """x·s, s within (0, 1) for each of the 96 positions, from their means over the tile."""

    def __init__(self) -> None:
        """Random weights."""
        super().__init__()
        self.squeeze = nn.Linear(TOKEN_BITS, TOKEN_BITS // REDUCTION)
        self.excite = nn.Linear(TOKEN_BITS // REDUCTION, TOKEN_BITS)

    def forward(self, grid: Tensor) -> Tensor:
        """Grid (B, 96, 8, 8)."""
        weights = torch.sigmoid(self.excite(torch.relu(self.squeeze(grid.mean((2, 3))))))
        return grid * weights[:, :, None, None]
