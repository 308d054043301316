"""Swin source mapper and demapper: a 32 × 32 picture to the probabilities of 6144 bits, and bits to a picture.

Kong and Zhang, Section II-B and Fig. 3a; the sizes are those of the authors' published code, whose two networks
mirror each other:

    picture -> patches of 2 × 2 -> blocks on 16 × 16 tokens -> merging of 2 × 2 -> blocks on 8 × 8 -> 96 bits each

A block is a Swin transformer's (Liu et al., ICCV 2021): attention within windows of 2 × 2 tokens with a bias of
their relative place, which every second block shifts by one token, then two dense layers.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from semlink.source.learned.interface import BITS, SIDE, TOKENS

PATCH = 2
WINDOW = 2
GRID = SIDE // PATCH
"""Tokens a side before merging; half as many after."""
CHANNELS = 3


@dataclass(frozen=True)
class Size:
    """Widths, depths and heads of the blocks before and after merging, and how much wider their dense layer is."""

    widths: tuple[int, int]
    depths: tuple[int, int]
    heads: tuple[int, int]
    expansion: int


SIZES = {
    "small": Size((64, 128), (1, 2), (2, 4), 2),
    "paper": Size((128, 256), (2, 4), (4, 8), 4),
}
"""By name: "paper" has 3.7 million parameters in each network, as the authors' code; "small" is for processors."""


class SourceMapper(nn.Module):
    """f_θ of equation (1): what is the probability of each bit being 1.

    Args:
        size: a key of `SIZES`.
    """

    def __init__(self, size: str) -> None:
        """Random weights."""
        super().__init__()
        (narrow, wide), (first, second), (few, many), expansion = _parts(size)
        self.patches = nn.Linear(PATCH * PATCH * CHANNELS, narrow)
        self.before = _blocks(first, narrow, few, expansion, GRID)
        self.merging = nn.Linear(4 * narrow, wide)
        self.after = _blocks(second, wide, many, expansion, GRID // 2)
        self.norm = nn.LayerNorm(wide)
        self.head = nn.Linear(wide, BITS)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, 32, 32) pixels in [0, 1] -> (B, 64, 96) probabilities."""
        tokens = self.before(self.patches(_gathered(2 * pixels.movedim(1, -1) - 1)))
        tokens = self.after(self.merging(_gathered(tokens)))
        probabilities: Tensor = self.head(self.norm(tokens)).float().sigmoid()
        return probabilities.flatten(1, 2)


class SourceDemapper(nn.Module):
    """f_φ of equation (6): the picture that bits stand for.

    Args:
        size: a key of `SIZES`.
    """

    def __init__(self, size: str) -> None:
        """Random weights."""
        super().__init__()
        (narrow, wide), (first, second), (few, many), expansion = _parts(size)
        self.tail = nn.Linear(BITS, wide)
        self.before = _blocks(second, wide, many, expansion, GRID // 2)
        self.splitting = nn.Linear(wide, 4 * narrow)
        self.after = _blocks(first, narrow, few, expansion, GRID)
        self.norm = nn.LayerNorm(narrow)
        self.pixels = nn.Linear(narrow, PATCH * PATCH * CHANNELS)

    def forward(self, bits: Tensor) -> Tensor:
        """(B, 64, 96) bits, or probabilities, in [0, 1] -> (B, 3, 32, 32) pixels, about [0, 1] and not clipped."""
        side = math.isqrt(TOKENS)
        tokens = self.before(self.tail(2 * bits.unflatten(1, (side, side)) - 1))
        tokens = self.after(_spread(self.splitting(tokens)))
        pixels: Tensor = self.pixels(self.norm(tokens)).float()
        return _spread(pixels).movedim(-1, 1) / 2 + 0.5


class Block(nn.Module):
    """A Swin block: attention within windows, shifted or not, and two dense layers, each around a shortcut."""

    def __init__(self, width: int, heads: int, expansion: int, side: int, *, shifted: bool) -> None:
        """`side`: tokens a side of the grid."""
        super().__init__()
        self.heads, self.shifted = heads, shifted
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, expansion * width), nn.Linear(expansion * width, width)
        self.bias = nn.Parameter(torch.zeros(heads, (2 * WINDOW - 1) ** 2))
        nn.init.trunc_normal_(self.bias, std=0.02)
        self.places: Tensor
        self.register_buffer("places", _relative_places(), persistent=False)
        self.walls: Tensor
        self.register_buffer("walls", _walls(side) if shifted else torch.zeros(1), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, S, S, width) -> the same shape."""
        tokens = tokens + self._attention(self.first_norm(tokens))
        mixed: Tensor = tokens + self.down(gelu(self.up(self.second_norm(tokens))))
        return mixed

    def _attention(self, tokens: Tensor) -> Tensor:
        if self.shifted:
            tokens = tokens.roll((-1, -1), (1, 2))
        side, width = tokens.shape[2:]
        windows = _windows(tokens)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(-2, -3)
            for part in self.query_key_value(windows).chunk(3, -1)
        )
        scores = query @ key.transpose(-1, -2) / math.sqrt(width // self.heads)
        scores = scores + self.bias[:, self.places]
        if self.shifted:
            scores = scores + self.walls
        mixed = (scores.softmax(-1) @ value).transpose(-2, -3).flatten(-2)
        tokens = _grid(self.projection(mixed), side)
        return torch.roll(tokens, (1, 1), (1, 2)) if self.shifted else tokens


def _parts(size: str) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]:
    if size not in SIZES:
        raise ValueError(f"size must be one of {', '.join(SIZES)}, not {size!r}")
    chosen = SIZES[size]
    return chosen.widths, chosen.depths, chosen.heads, chosen.expansion


def _blocks(depth: int, width: int, heads: int, expansion: int, side: int) -> nn.Sequential:
    return nn.Sequential(*(Block(width, heads, expansion, side, shifted=bool(i % 2)) for i in range(depth)))


def _gathered(grid: Tensor) -> Tensor:
    """(B, S, S, C) -> (B, S/2, S/2, 4C): each 2 × 2 becomes one."""
    return _blocked(grid).flatten(3)


def _spread(grid: Tensor) -> Tensor:
    """(B, S, S, 4C) -> (B, 2S, 2S, C), the way back from `_gathered`."""
    batch, side, _, width = grid.shape
    return _unblocked(grid.reshape(batch, side, side, 2, 2, width // 4))


def _windows(tokens: Tensor) -> Tensor:
    """(B, S, S, C) -> (B, S²/4, 4, C): the tokens of each window of 2 × 2."""
    return _blocked(tokens).flatten(3, 4).flatten(1, 2)


def _grid(windows: Tensor, side: int) -> Tensor:
    """(B, S²/4, 4, C) -> (B, S, S, C), the way back from `_windows`."""
    batch, _, _, width = windows.shape
    return _unblocked(windows.reshape(batch, side // 2, side // 2, 2, 2, width))


def _blocked(grid: Tensor) -> Tensor:
    """(B, S, S, C) -> (B, S/2, S/2, 2, 2, C)."""
    batch, side, _, width = grid.shape
    return grid.reshape(batch, side // 2, 2, side // 2, 2, width).transpose(2, 3)


def _unblocked(blocks: Tensor) -> Tensor:
    """(B, S/2, S/2, 2, 2, C) -> (B, S, S, C), the way back from `_blocked`."""
    return blocks.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _relative_places() -> Tensor:
    """(4, 4) number of the relative place of each pair of tokens of a window."""
    places = torch.cartesian_prod(torch.arange(WINDOW), torch.arange(WINDOW))
    apart = places[:, None] - places[None] + WINDOW - 1
    return apart[..., 0] * (2 * WINDOW - 1) + apart[..., 1]


def _walls(side: int) -> Tensor:
    """(S²/4, 1, 4, 4) of a shifted grid: -100 between tokens that are in one window by wrapping alone, else 0."""
    wrapped = torch.zeros(1, side, side, 1)
    wrapped[:, -1] += 1
    wrapped[:, :, -1] += 2
    region = _windows(wrapped)[0, :, :, 0]
    return -100.0 * (region[:, None, :, None] != region[:, None, None, :])
