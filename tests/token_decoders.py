"""Token decoder that a test makes in no time, of random weights, and the scales of its tokens."""

from pathlib import Path

import numpy as np
import torch

from semlink.vision.token_decoder import SCALES_NAME, TokenDecoder, save_decoder

DIMENSION = 192


def write_decoder(weights: Path, *, seed: int = 0) -> Path:
    """Writes a decoder and scales to the folder token-decoder of `weights`; returns `weights`."""
    folder = weights / "token-decoder"
    folder.mkdir()
    step = np.float32(8) / 2.0 ** np.arange(2, 9, dtype=np.float32)[:, None] * np.ones(DIMENSION, np.float32)
    np.savez(folder / SCALES_NAME, low=np.float32(-4) + step / 2 + np.float32(seed), step=step)
    torch.manual_seed(seed)
    decoder = TokenDecoder(torch.zeros(DIMENSION), torch.ones(DIMENSION))
    with torch.no_grad():
        for parameter in decoder.parameters():
            if parameter.ndim > 1:  # pixels of all greys, not of one
                parameter.mul_(3)
    save_decoder(folder, decoder)
    return weights
