"""Masked mean squared error: training of the token decoder (Mortaheb et al., arXiv 2405.01521, equation 2).

The encoder, a device's vision transformer, stays as it is; its tokens are cached. For every picture of a batch a
rate r is drawn, patches are selected as the coder selects them, and their tokens pass the wire's quantizer at a
random number of bits, or none; the loss is that of the pixels of the selected patches alone.

The paper's encoder is DINO's ViT-S/8 at 480 x 320 pixels, whose weights are not to be had here, and it gives no
numbers of its decoder's layers: there is no "paper" size of this training. Ours is DeiT-Tiny, 14 x 14 tokens of
192 values, and a decoder of 0.28 GMAC. Adam starts at the paper's step size of 5e-4 with its batch of 32.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor

from experiments.data.image_sets import ImageSet
from experiments.training.checkpoint import device_and_precision, write_card
from experiments.training.steps import Steps
from experiments.training.tokens import CachedTokens, batch_of, cached_tokens
from semlink.source.transformer_aided.quantizer import Scales, dequantize, quantize
from semlink.source.transformer_aided.selection import select
from semlink.vision.token_decoder import (
    SCALES_NAME,
    WEIGHTS_NAME,
    TokenDecoder,
    load_decoder,
    save_decoder,
)
from semlink.vision.vit import load_vit

log = structlog.get_logger(__name__)

RATES = (0.25, 0.5, 0.75, 1.0)
"""Rates r of the paper: shares of the patches that are sent."""
BITS = (2, 3, 4, 5, 6, 7, 8)
"""Bits a token value on the wire."""
UNQUANTIZED_SHARE = 0.25
"""Share of the pictures of a batch whose tokens are not quantized."""
CLIPS = np.arange(1.0, 8.01, 0.25)
"""Clip ranges that are tried, in standard deviations of a channel to both sides of its mean."""
MEASURED = 120
"""Most held-out pictures that a decoder is measured on."""
CHECKPOINT_STEPS = 100


@dataclass(frozen=True)
class DecoderOptions:
    """How to train; see `semlink train-decoder --help`."""

    model: str
    weights: Path | None
    start: Path | None
    alpha: float
    crops: int
    steps: int
    batch: int
    learning_rate: float
    seed: int


def train_decoder(
    options: DecoderOptions, data: ImageSet, held_out: ImageSet, folder: Path, progress: Progress
) -> dict:
    """Trains a token decoder and writes it, its scales and its card into `folder`; resumes from its checkpoint.

    Args:
        options: hyperparameters.
        data: pictures to learn from; their labels are not used.
        held_out: pictures to measure on, once, at the end; the first MEASURED, evenly spread.
        folder: gets token_decoder.safetensors, token_decoder.json, scales.npz, and the cache of tokens and
            token_decoder.checkpoint while it trains.
        progress: progress bar.

    Returns:
        The card: the masked mean squared error of each rate and of each number of bits, options, data, command,
        versions, machine.

    Raises:
        ImageSetError: pictures that are missing.
        WeightsError: no encoder, or no decoder to start from.
    """
    for images in (data, held_out):
        images.check_files()
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    encoder = load_vit(options.model, weights=options.weights)
    cache = cached_tokens(encoder, data, options.crops, options.seed, folder / "tokens", progress)
    mean, deviation = channel_moments(cache.tokens)
    scales = write_scales(folder / SCALES_NAME, cache.tokens, mean, deviation)
    decoder = TokenDecoder(torch.from_numpy(mean), torch.from_numpy(deviation))
    if options.start is not None:
        decoder.layers.load_state_dict(load_decoder(options.start).layers.state_dict())
    run = (options, data.identity)
    fit_decoder(decoder, cache, scales, run, folder / "token_decoder.checkpoint", progress)
    save_decoder(folder, decoder)
    decoder = load_decoder(folder)
    seen = cached_tokens(encoder, held_out.at_most(MEASURED), 1, options.seed, folder / "tokens", progress)
    facts = {
        "kind": "token decoder",
        "encoder": str(encoder.origin),
        "encoder_sha256": encoder.origin.weights.sha256,
        "scales": scales.id.hex(),
        "parameters": sum(weight.numel() for weight in decoder.parameters()),
        "data": data.name,
        "trained_on": len(cache),
        "held_out": {
            "pictures": len(seen),
            "masked_mse": masked_errors(decoder, seen, scales, options),
        },
    }
    card = write_card(folder / WEIGHTS_NAME, options, facts)
    (folder / "token_decoder.checkpoint").unlink(missing_ok=True)
    return card


def masked_mse(painted: Tensor, pixels: Tensor, sent: Tensor) -> Tensor:
    """Mean squared error of the pixels of the selected patches: equation (2), divided by their number.

    Args:
        painted: (B, C, H, W) what the decoder gives.
        pixels: (B, C, H, W) originals.
        sent: (B, N) bool, the mask M in raster order of a square grid, which (2) enlarges by a Kronecker product.

    >>> picture = torch.zeros(1, 1, 4, 4)
    >>> masked_mse(picture + torch.eye(4), picture, torch.tensor([[True, False, False, False]]))
    tensor(0.5000)
    """
    side = round(sent.shape[1] ** 0.5)
    mask = sent.unflatten(1, (side, side))[:, None].to(painted.dtype)
    patch = pixels.shape[-1] // side
    mask = mask.repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    return (mask * (painted - pixels).square()).sum() / (mask.sum() * pixels.shape[1])


def channel_moments(tokens: NDArray[np.float16]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(D,) mean and standard deviation of each channel over the tokens of up to 2,000 pictures, spread evenly.

    They are rounded to float16, as the decoder's file keeps them.
    """
    some = tokens[:: max(1, len(tokens) // 2000)].astype(np.float32)
    mean, deviation = some.mean(axis=(0, 1)), some.std(axis=(0, 1))
    return mean.astype(np.float16).astype(np.float32), deviation.astype(np.float16).astype(np.float32)


def write_scales(
    path: Path, tokens: NDArray[np.float16], mean: NDArray[np.float32], deviation: NDArray[np.float32]
) -> Scales:
    """Writes the scales of uniform quantizers of 2 to 8 bits, and reads them again.

    Each reaches c deviations to both sides of a channel's mean. For every number of bits, c is the one of CLIPS
    that has the least squared error in units of the channels' variances: fewer bits clip more.
    """
    some = tokens[:: max(1, len(tokens) // 100)].astype(np.float32)
    standard = np.abs((some - mean) / deviation)
    low, step = [], []
    for bits in BITS:
        cells = 2**bits - 1
        errors = []
        for clip in CLIPS:
            size = 2 * clip / cells
            levels = np.clip(np.rint((standard + clip) / size), 0, cells)
            errors.append(float(np.square(levels * size - clip - standard).mean()))
        clip = CLIPS[int(np.argmin(errors))]
        log.info("quantizer", bits=bits, deviations=float(clip), error=min(errors))
        low.append(mean - clip * deviation)
        step.append(2 * clip / cells * deviation)
    np.savez(path, low=np.stack(low).astype(np.float32), step=np.stack(step).astype(np.float32))
    return Scales.read(path)


def received(tokens: NDArray[np.float32], bits: int | None, scales: Scales) -> NDArray[np.float32]:
    """(N, D) tokens of a picture as they arrive over a wire without errors at so many bits; None: as they are."""
    return tokens if bits is None else dequantize(quantize(tokens, scales, bits), scales, bits)


def fit_decoder(
    decoder: TokenDecoder,
    cache: CachedTokens,
    scales: Scales,
    run: tuple[DecoderOptions, str],
    checkpoint: Path,
    progress: Progress,
) -> None:
    """Trains a decoder in place on cached tokens; goes on from `checkpoint` where that is of the same run."""
    options, _ = run
    where, precision = device_and_precision()
    decoder.to(where).train()
    optimizer = torch.optim.Adam(decoder.parameters(), lr=options.learning_rate)
    steps = Steps(decoder, optimizer, options.steps, run, checkpoint)
    for step in steps.left("token decoder", progress):
        generator = np.random.default_rng((options.seed, step))
        chosen = generator.integers(len(cache), size=options.batch)
        tokens, pixels = batch_of(cache, chosen)
        sent = selected(
            cache.attention[chosen], generator.choice(RATES, size=options.batch), options.alpha, generator
        )
        arrived = over_the_wire(tokens, scales, generator).to(where)
        mask = torch.from_numpy(sent).to(where)
        with precision:
            painted = decoder(arrived, mask)
        steps.take(masked_mse(painted.float(), pixels.to(where), mask))
        if steps.due(CHECKPOINT_STEPS):
            steps.save()
    decoder.cpu().eval()


def selected(
    attention: NDArray[np.float32], rates: NDArray[np.float64], alpha: float, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """(B, N) masks of the patches that the coder selects at each picture's rate."""
    pairs = zip(attention, rates, strict=True)
    return np.stack([select(row, float(rate), alpha, generator) for row, rate in pairs])


def over_the_wire(tokens: Tensor, scales: Scales, generator: np.random.Generator) -> Tensor:
    """(B, N, D) tokens, each picture's at a random number of bits."""
    arrived = tokens.numpy()
    for picture, bits in zip(arrived, generator.choice(BITS, size=len(arrived)), strict=True):
        if generator.random() >= UNQUANTIZED_SHARE:
            picture[:] = received(picture, int(bits), scales)
    return torch.from_numpy(arrived)


@torch.inference_mode()
def masked_errors(
    decoder: TokenDecoder, seen: CachedTokens, scales: Scales, options: DecoderOptions
) -> dict[str, dict[str, float]]:
    """Masked mean squared errors, pixels in [0, 1]: of each rate without quantization, of each bits at r = 0.5."""

    def error(rate: float, bits: int | None) -> float:
        generator = np.random.default_rng(options.seed)
        errors = []
        for number in range(len(seen)):
            tokens, pixels = batch_of(seen, np.array([number]))
            sent = torch.from_numpy(selected(seen.attention[[number]], np.array([rate]), options.alpha, generator))
            arrived = torch.from_numpy(received(tokens[0].numpy(), bits, scales))[None]
            errors.append(masked_mse(decoder(arrived, sent).clamp(0, 1), pixels, sent).item())
        return float(np.mean(errors))

    return {
        "by_rate": {str(rate): error(rate, None) for rate in RATES},
        "by_bits": {str(bits): error(0.5, bits) for bits in BITS},
    }
