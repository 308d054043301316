"""Channel mapper and demapper of the learned interface: bits to symbols, and what was received to bits.

Kong and Zhang, Learning-Based Interface for Semantic Communication with Bit Importance Awareness (arXiv
2507.12850), Section II-C. The mapper: bits, Importance-Aware Net, linear layer, ViT blocks, ChannelModNet,
symbols. The demapper mirrors it. Both know the interface, the flip probabilities that the source was trained
with; neither has ever seen a picture when it is used.

Two sizes. "paper" is the paper's: one dense layer from all tokens to all symbols, a network for each channel
bandwidth ratio. "small" is ours, for processors: each token gives twelve symbols, of which the first 2, 3, 6 or 12
go on the air, so one network serves all four ratios and the dense layer is gone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from semlink.access.learned.bandwidth import MOST_TOKEN_SYMBOLS, TOKEN_BITS, TOKENS, token_symbols
from semlink.access.learned.importance_aware_net import (
    SIDE,
    ImportanceAwareNet,
    Parts,
    ResidualBlock,
    SqueezeExcitation,
)
from semlink.access.learned.transformer import Block, ChannelModNet, sine_positions

SizeName = Literal["small", "paper"]
POSITION_SCALE = 0.1
"""Of the sine positions, beside bits of -1 and 1."""
SNR_SCALE = 20.0
"""dB that count as one in the state that ChannelModNet is told."""


@dataclass(frozen=True)
class Size:
    """Dimensions of mapper and demapper."""

    width: int
    blocks: int
    heads: int
    ratio: int
    """Width of a block's perceptron, in widths of a token."""
    gated_layers: int
    nested: bool
    """Symbols by token, for all channel bandwidth ratios; otherwise one dense layer, for one of them."""


SIZES: dict[SizeName, Size] = {
    "small": Size(width=96, blocks=2, heads=3, ratio=2, gated_layers=2, nested=True),
    "paper": Size(width=128, blocks=2, heads=8, ratio=4, gated_layers=7, nested=False),
}


@dataclass(frozen=True)
class Link:
    """What a mapper and its demapper agree on.

    Attributes:
        size: of both.
        parts: of their Importance-Aware Nets.
        snr_db: lowest and highest SNR trained for; the networks are told an SNR within these, whatever it is.
        cbr: the channel bandwidth ratio of size "paper"; "small" has all of them, and None here.
    """

    size: SizeName = "small"
    parts: Parts = "full"
    snr_db: tuple[float, float] = (5.0, 20.0)
    cbr: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError unless the parts fit each other."""
        if self.size not in SIZES:
            raise ValueError(f"size must be one of {', '.join(SIZES)}, not {self.size!r}")
        if (self.cbr is None) != SIZES[self.size].nested:
            raise ValueError(
                f"size {self.size} has {'all ratios: give no cbr' if self.cbr else 'one ratio: give cbr'}"
            )

    @property
    def symbols(self) -> int:
        """Most complex symbols of a token."""
        return MOST_TOKEN_SYMBOLS if self.cbr is None else token_symbols(self.cbr)

    def state(self, snr_db: Tensor, used: Tensor) -> Tensor:
        """(B, 1 or 2) values that tell ChannelModNet the SNR, and where there are several the ratio."""
        snr = snr_db.clamp(*self.snr_db) / SNR_SCALE
        columns = [snr, used / self.symbols] if self.cbr is None else [snr]
        return torch.stack(columns, dim=1)

    def mask(self, used: Tensor) -> Tensor:
        """(B, 1, symbols, 1) ones where a token's symbol is on the air."""
        on_air = torch.arange(self.symbols, device=used.device) < used[:, None]
        return on_air[:, None, :, None].to(used.dtype)


class _Side(nn.Module):
    """Importance-Aware Net and trunk that both ends have."""

    def __init__(self, link: Link, epsilon: Tensor) -> None:
        super().__init__()
        size = SIZES[link.size]
        self.link = link
        self.ian = ImportanceAwareNet(epsilon, link.parts)
        positions = POSITION_SCALE * sine_positions(SIDE, size.width)
        self.register_buffer("positions", positions, persistent=False)
        self.blocks = nn.Sequential(*(Block(size.width, size.heads, size.ratio) for _ in range(size.blocks)))
        self.mod = ChannelModNet(size.width, size.gated_layers, 2 if size.nested else 1)

    def residual_ends(self) -> Iterator[Tensor]:
        """Weights and biases with which branches end: zero them, and every branch adds nothing, or one factor."""
        for module in self.modules():
            if isinstance(module, Block):
                yield from (*module.projection.parameters(), *module.perceptron[-1].parameters())
            elif isinstance(module, ResidualBlock):
                yield from module.layers[-1].parameters()
            elif isinstance(module, ChannelModNet):
                yield module.last.weight
            elif isinstance(module, SqueezeExcitation):
                yield from module.excite.parameters()


class ChannelMapper(_Side):
    """Bits to symbols (equation 2) of unit mean power.

    Args:
        link: dimensions and variant.
        epsilon: (64, 96) flip probabilities of the interface.
    """

    def __init__(self, link: Link, epsilon: Tensor) -> None:
        """Random weights."""
        super().__init__(link, epsilon)
        width = SIZES[link.size].width
        self.embedding = nn.Linear(TOKEN_BITS, width)
        tokens = 1 if SIZES[link.size].nested else TOKENS
        self.head = nn.Linear(tokens * width, tokens * 2 * link.symbols)

    def forward(self, bits: Tensor, snr_db: Tensor, used: Tensor) -> Tensor:
        """Symbols of tiles.

        Args:
            bits: (B, 64, 96) values 0 and 1, and 0.5 where there is no bit.
            snr_db: (B,) mean SNR in dB.
            used: (B,) symbols of a token that go on the air, as floats; the others are zero.

        Returns:
            (B, 64, symbols, 2) real and imaginary parts; the mean power of a tile's symbols on the air is one.
        """
        tokens = self.embedding(self.ian(2 * bits - 1)) + self.positions
        tokens = self.mod(self.blocks(tokens), self.link.state(snr_db, used))
        if not SIZES[self.link.size].nested:
            tokens = tokens.flatten(1)
        raw = self.head(tokens).float().reshape(-1, TOKENS, self.link.symbols, 2) * self.link.mask(used)
        power = raw.square().sum((1, 2, 3), keepdim=True) / (TOKENS * used[:, None, None, None])
        symbols: Tensor = raw * (power + 1e-12).rsqrt()
        return symbols


class ChannelDemapper(_Side):
    """Received symbols to probabilities of bits (equation 5 before it rounds).

    Args:
        link: dimensions and variant.
        epsilon: (64, 96) flip probabilities of the interface.
    """

    def __init__(self, link: Link, epsilon: Tensor) -> None:
        """Random weights."""
        super().__init__(link, epsilon)
        width = SIZES[link.size].width
        tokens = 1 if SIZES[link.size].nested else TOKENS
        self.embedding = nn.Linear(tokens * 3 * link.symbols, tokens * width)
        self.head = nn.Linear(width, TOKEN_BITS)

    def forward(self, received: Tensor, gain: Tensor, snr_db: Tensor, used: Tensor) -> Tensor:
        """Probabilities that bits are 1.

        Args:
            received: (B, 64, symbols, 2) received symbols, divided by the channel's coefficients.
            gain: (B, 64, symbols) magnitudes |h| of the coefficients; ones where nothing fades.
            snr_db: (B,) mean SNR in dB, at |h| = 1.
            used: (B,) symbols of a token that are on the air, as floats; the others are not looked at.

        Returns:
            (B, 64, 96) within (0, 1).
        """
        # The share of the power that is signal, with which equalised noise, however large, is kept in bounds.
        noise = 10 ** (-snr_db / 10)
        power = gain.square()[..., None]
        trust = power / (power + noise[:, None, None, None])
        seen = torch.cat([received * trust, trust], dim=3) * self.link.mask(used)
        tokens = self.embedding(seen.flatten(2) if SIZES[self.link.size].nested else seen.flatten(1))
        tokens = tokens.reshape(-1, TOKENS, SIZES[self.link.size].width) + self.positions
        tokens = self.blocks(self.mod(tokens, self.link.state(snr_db, used)))
        return torch.sigmoid(self.ian(self.head(tokens)).float())
