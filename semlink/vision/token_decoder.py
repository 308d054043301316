"""Token decoder: convolutions that paint a picture from the tokens of its patches (torch).

The decoder of transformer-aided selection (Mortaheb et al., arXiv 2405.01521, Section III and Fig. 5) at the
server: the tokens of the patches that were sent, on their grid and zeros elsewhere, go through convolutions and
pixel shuffles that enlarge 14 x 14 tokens to 224 x 224 pixels. The paper shows its layers in a picture without
numbers; these are ours. `experiments.training.decoder_training` trains them with the masked loss (2).

The folder of a decoder holds token_decoder.safetensors, the weights; token_decoder.json, the card; and scales.npz,
the scales of the quantizer that the tokens pass on the wire, which NumPy reads alone.
"""

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from semlink.vision.storage import read_weights, save_small
from semlink.vision.weights import PRETRAINED, WeightsError

TOKEN_DECODER = PRETRAINED / "token-decoder"
"""Folder of the decoder that comes with the package, for the tokens of the package's device model."""
WEIGHTS_NAME = "token_decoder.safetensors"
SCALES_NAME = "scales.npz"
"""File of the quantizer's scales; see `semlink.source.transformer_aided.quantizer.Scales`."""
MAX_DECODER_BYTES = 16 << 20
"""Largest weights file that is read."""
GRID = 14
"""Tokens down and across."""
WIDTHS = (160, 96, 48)
"""Channels at 14 x 14, 28 x 28 and 56 x 56."""
ENLARGED_LAST = 4
"""The last layer gives every position of the finest grid a square of so many pixels a side."""


class TokenDecoder(nn.Module):
    """Convolutions from a grid of tokens to pixels: 0.28 GMAC a picture at D = 192.

    Tokens are standardised by each channel's mean and deviation over training pictures, since a few channels of a
    vision transformer are far larger than all others; what was not sent is zero after that.

    Args:
        mean: (D,) mean of each channel of the tokens.
        deviation: (D,) their standard deviations, positive.

    >>> decoder = TokenDecoder(torch.zeros(192), torch.ones(192))
    >>> decoder(torch.randn(2, 196, 192), torch.rand(2, 196) < 0.5).shape
    torch.Size([2, 3, 224, 224])
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        """The layers' weights are random until they are trained or read."""
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        layers: list[nn.Module] = [nn.Conv2d(len(mean), WIDTHS[0], 3, padding=1), nn.GELU(), _Residual(WIDTHS[0])]
        for width, next_width in pairwise(WIDTHS):
            enlarge = (nn.Conv2d(width, 4 * next_width, 1), nn.PixelShuffle(2))
            layers += [*enlarge, nn.GELU(), _Residual(next_width)]
        last = nn.Conv2d(WIDTHS[-1], 3 * ENLARGED_LAST**2, 1)
        if last.bias is not None:
            nn.init.constant_(last.bias, 0.5)  # mid-grey
        self.layers = nn.Sequential(*layers, last, nn.PixelShuffle(ENLARGED_LAST))
        # Twice as fast on a CPU as channels first.
        self.layers.to(memory_format=torch.channels_last)

    def forward(self, tokens: Tensor, sent: Tensor) -> Tensor:
        """Pictures from the tokens that were sent.

        Args:
            tokens: (B, N, D) tokens in raster order of a square grid; any values where nothing was sent.
            sent: (B, N) bool: the tokens that were sent.

        Returns:
            (B, 3, H, W) pixels, black 0 and white 1, not clipped.
        """
        present = sent[..., None]
        standard = torch.where(present, (tokens - self.mean) / self.deviation, 0.0)
        grid = standard.transpose(1, 2).unflatten(2, (GRID, GRID))
        pixels: Tensor = self.layers(grid.contiguous(memory_format=torch.channels_last))
        return pixels


class _Residual(nn.Module):
    """A 3 x 3 convolution and a pointwise one, added to what they are given."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, width, 1))

    def forward(self, grid: Tensor) -> Tensor:
        added: Tensor = grid + self.branch(grid)
        return added


def scales_digest(folder: Path) -> str:
    """SHA-256 of the scale file of a decoder's folder, in hexadecimal; frames carry its first 4 bytes."""
    return hashlib.sha256((folder / SCALES_NAME).read_bytes()).hexdigest()


def save_decoder(folder: Path, decoder: TokenDecoder) -> None:
    """Writes a decoder's weights beside the scale file of its folder, which must be there; notes its SHA-256."""
    save_small(folder / WEIGHTS_NAME, decoder.state_dict(), (), scales_digest(folder))


def load_decoder(folder: Path | None = None) -> TokenDecoder:
    """Reads a decoder, ready for inference.

    Args:
        folder: of the decoder; None: the one that comes with the package.

    Raises:
        WeightsError: no decoder is there, its file is damaged or too large, its weights do not fit, or the scale
            file beside it is of another decoder; the message says what to do.
    """
    folder = TOKEN_DECODER if folder is None else folder
    path = folder / WEIGHTS_NAME
    remedy = "train one with semlink train-decoder, or name another folder"
    for wanted in (path, folder / SCALES_NAME):
        if not wanted.is_file():
            raise WeightsError(f"there is no token decoder in {folder}: {wanted.name} is missing; {remedy}")
    if path.stat().st_size > MAX_DECODER_BYTES:
        raise WeightsError(f"{path} is larger than {MAX_DECODER_BYTES >> 20} MiB; {remedy}")
    try:
        stored = read_weights(path)
        decoder = TokenDecoder(stored.state["mean"], stored.state["deviation"])
        decoder.load_state_dict(stored.state)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise WeightsError(f"{path} holds no token decoder ({error}); {remedy}") from error
    if stored.kind != scales_digest(folder):
        raise WeightsError(
            f"{path} belongs to other scales than those in {SCALES_NAME} beside it: copy both from the folder "
            f"where the decoder was trained, or {remedy}"
        )
    return decoder.eval()


@torch.inference_mode()
def decoded_pixels(
    decoder: TokenDecoder, tokens: NDArray[np.float32], sent: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """(B, H, W, 3) float32 pixels in [0, 255] from (B, N, D) tokens and (B, N) bool of those that were sent."""
    pixels = decoder(torch.from_numpy(tokens).float(), torch.from_numpy(sent)).clamp_(0, 1).mul_(255)
    painted: NDArray[np.float32] = pixels.permute(0, 2, 3, 1).numpy()
    return painted
