"""Channel mapper and demapper trained for the picture, through a source demapper that stays as it is.

Second stage of Kong and Zhang (arXiv 2507.12850, Section II-C). The bits of every picture are computed once. A
step maps them to symbols, sends these over the air, demaps what was received to probabilities, draws bits, and
takes the squared error of the picture that the source demapper makes of them, loss (16); the gradient of the
probabilities goes straight through the draw. Every picture of a batch has an SNR and a channel bandwidth ratio
of its own: uniform within 5 to 20 dB, and any of the four ratios that its network serves.

    full                     the Importance-Aware Net on the learned interface
    no-interface-attention   squeeze-and-excitation alone
    no-ian                   neither
    split                    Split DeepJSCC's kind: no importance, and an SNR of 20 dB, as the paper trains its
                             baseline; meant for a source that was trained with prescribed reliabilities

Where this departs from the paper: one network for all ratios in size "small"; Adam with a short rise and half a
cosine instead of a constant step, since there is one pass over the pictures here and there are 80 there; for the
same reason networks start as a linear code (`experiments.training.linear_code`); a network for Rayleigh fading
may start from the weights of the one for AWGN; the demapper is told how much each symbol faded; the weights that
stay are chosen on pictures of the training split that are not trained on, in the authors' code on the test set.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from experiments.data import ImageSetError
from experiments.data.image_sets import Example, ImageSet
from experiments.training.checkpoint import device_and_precision, write_card
from experiments.training.learned_source import VALIDATION_SHARE, read_pixels, squared_error, straight_through
from experiments.training.linear_code import SAMPLE, start_linear
from experiments.training.steps import ChosenSteps
from semlink.access.learned.bandwidth import CBRS, TOKEN_SYMBOLS, TOKENS
from semlink.access.learned.export import export_access
from semlink.access.learned.importance_aware_net import Parts
from semlink.access.learned.mapper import ChannelDemapper, ChannelMapper, Link, SizeName
from semlink.source.learned.interface import BITS
from semlink.source.learned.networks import Networks, networks
from semlink.vision.weights import WeightsError

Air = Literal["awgn", "rayleigh"]
Variant = Literal["full", "no-interface-attention", "no-ian", "split"]
PARTS: dict[Variant, Parts] = {
    "full": "full",
    "no-interface-attention": "no-interface-attention",
    "no-ian": "no-ian",
    "split": "no-ian",
}
WEIGHTS = "access.safetensors"
SNR_DB = (5.0, 20.0)
"""Range of the SNR of training; of "split" the upper end alone."""
VALIDATIONS = 5
"""So often in a run weights are saved and measured."""
VALIDATION_PICTURES = 400
HELD_OUT_PICTURES = 1000
"""Most pictures of the report at the end."""
REPORTED_SNR_DB = (5.0, 10.0, 20.0)
AT_ONCE = 250
"""Pictures in one pass without gradients."""


@dataclass(frozen=True)
class LearnedChannelOptions:
    """How to train; see `semlink train-learned-channel --help`. `model` is the name of the files."""

    model: str
    air: Air
    variant: Variant
    size: SizeName
    cbr: str | None
    start: Path | None
    images: int
    batch: int
    learning_rate: float
    seed: int

    @property
    def steps(self) -> int:
        """Steps of the optimizer."""
        return max(1, self.images // self.batch)

    @property
    def link(self) -> Link:
        """What mapper and demapper agree on."""
        snr_db = (SNR_DB[1], SNR_DB[1]) if self.variant == "split" else SNR_DB
        return Link(self.size, PARTS[self.variant], snr_db, self.cbr)


class Coded(NamedTuple):
    """Pictures and their bits, in memory."""

    pixels: NDArray[np.uint8]
    """(B, 3, 32, 32)."""
    packed: NDArray[np.uint8]
    """(B, 768) bits of the source mapper, eight a byte."""

    def batch(self, chosen: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Pixels (B, 3, 32, 32) in [0, 1] and bits (B, 64, 96) of some pictures."""
        bits = np.unpackbits(self.packed[chosen], axis=1).reshape(-1, TOKENS, BITS)
        return torch.from_numpy(self.pixels[chosen]).float() / 255, torch.from_numpy(bits).float()


class LearnedChannel(nn.Module):
    """Mapper and demapper of one link."""

    def __init__(self, link: Link, epsilon: Tensor) -> None:
        """Random weights."""
        super().__init__()
        self.link = link
        self.mapper, self.demapper = ChannelMapper(link, epsilon), ChannelDemapper(link, epsilon)

    def forward(self, bits: Tensor, air: Air, snr_db: Tensor, used: Tensor, generator: torch.Generator) -> Tensor:
        """Probabilities (B, 64, 96) that the bits which arrive are 1."""
        symbols = self.mapper(bits, snr_db, used)
        received, gain = send(symbols, air, snr_db, generator)
        probabilities: Tensor = self.demapper(received, gain, snr_db, used)
        return probabilities


def send(symbols: Tensor, air: Air, snr_db: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Symbols over the air (equation 4), divided by the coefficients that the receiver knows.

    Args:
        symbols: (B, ..., 2) real and imaginary parts, unit mean power.
        air: "awgn", or "rayleigh": a coefficient CN(0, 1) for every symbol.
        snr_db: (B,) mean SNR; the noise is CN(0, 10^(-SNR/10)).
        generator: the source of all randomness.

    Returns:
        Received symbols over h, of the shape of `symbols`, and |h|, without the last axis.
    """
    deviation = (10 ** (-snr_db / 20) / math.sqrt(2)).reshape(-1, *[1] * (symbols.ndim - 1))
    noise = torch.randn(symbols.shape, generator=generator).to(symbols.device) * deviation
    if air == "awgn":
        return symbols + noise, torch.ones_like(symbols[..., 0])
    # The noise is as likely at any phase: divided by h, it is as if divided by |h|.
    gain = (torch.randn(symbols.shape, generator=generator) / math.sqrt(2)).norm(dim=-1).to(symbols.device)
    return symbols + noise / gain[..., None], gain


def train_learned_channel(
    options: LearnedChannelOptions,
    source: Path,
    data: ImageSet,
    held_out: ImageSet,
    folder: Path,
    progress: Progress,
) -> dict:
    """Trains mapper and demapper for a source; resumes from the checkpoint it finds.

    Args:
        options: hyperparameters.
        source: folder of the source's networks and interface; gets bits-*.npz, the bits of `data`, once.
        data: pictures of 32 × 32 to train on.
        held_out: pictures to measure on, once, at the end.
        folder: gets mapper.xml, mapper.bin, demapper.xml and demapper.bin, which `LearnedAccess` runs,
            access.safetensors, which a training may start from, access.json, the card, and access.checkpoint
            while it trains.
        progress: progress bar.

    Returns:
        The card: interface, PSNR on the held-out pictures, options, command, versions, machine.

    Raises:
        ImageSetError: pictures that are missing or of another size, or too few.
        WeightsError: there is no source in that folder, or no network to start from.
    """
    for images in (data, held_out):
        images.check_files()
    folder.mkdir(parents=True, exist_ok=True)
    coder = networks(source)
    coder.demapper.requires_grad_(False)
    chosen = data.stratified(VALIDATION_SHARE, "validation", least_left=2)
    fit = coded([each for each in data.examples if each.sample not in chosen], data, coder, source, progress)
    rest = [each for each in data.examples if each.sample in chosen][:VALIDATION_PICTURES]
    validation = coded(rest, data, coder, None, progress)
    if len(fit.pixels) < options.batch or not len(validation.pixels):
        raise ImageSetError(f"{len(data.examples)} pictures are too few to train on and to choose by")
    torch.manual_seed(options.seed)
    model = LearnedChannel(options.link, torch.from_numpy(coder.interface.epsilon))
    _start(model, options, fit)
    run = (options, coder.interface.id.hex(), data.identity)
    history = fit_channel(model, coder, run, fit, validation, folder / "access.checkpoint", progress)
    model.cpu()
    save_file(model.state_dict(), folder / WEIGHTS)
    checked = export_access(model.mapper, model.demapper, folder)
    examples = list(held_out.at_most(HELD_OUT_PICTURES).examples)
    measured = coded(examples, held_out, coder, None, progress)
    facts = {
        "interface": coder.interface.id.hex(),
        "channel": options.air,
        "variant": options.variant,
        "size": options.size,
        "cbr": list(CBRS) if options.cbr is None else [options.cbr],
        "snr_db": list(options.link.snr_db),
        "parameters": {
            name: sum(each.numel() for each in network.parameters())
            for name, network in (("mapper", model.mapper), ("demapper", model.demapper))
        },
        "data": data.name,
        "trained_on": len(fit.pixels),
        "passes": round(options.steps * options.batch / len(fit.pixels), 2),
        "history": history,
        "held_out": {
            "data": held_out.name,
            "images": len(examples),
            "psnr_db": report(model, coder, options, measured),
        },
        "check": checked,
    }
    card = write_card(folder / WEIGHTS, options, facts)
    (folder / "access.checkpoint").unlink(missing_ok=True)
    return card


def _start(model: LearnedChannel, options: LearnedChannelOptions, fit: Coded) -> None:
    """Gives the model the weights to start from: those of an earlier training, or those of the linear code."""
    if options.start is not None:
        try:
            model.load_state_dict(load_file(options.start / WEIGHTS))
        except (OSError, RuntimeError, SafetensorError) as error:
            raise WeightsError(
                f"no network to start from in {options.start}: {error}; "
                "name a folder that `semlink train-learned-channel` wrote, of the same size, variant and cbr"
            ) from error
    elif options.cbr is None:
        sample = np.arange(min(SAMPLE, len(fit.pixels)))
        _, bits = fit.batch(sample)
        start_linear(model.mapper, model.demapper, fit.pixels[sample], bits.numpy())


def coded(
    examples: list[Example], data: ImageSet, coder: Networks, keep: Path | None, progress: Progress
) -> Coded:
    """Pixels of pictures and the bits that the source gives them, from the file that an earlier run kept."""
    name = f"bits-{coder.interface.id.hex()}-{data.identity[:16]}-{len(examples)}.npz"
    if keep is not None and (keep / name).is_file():
        with np.load(keep / name) as file:
            return Coded(file["pixels"], file["packed"])
    pixels = read_pixels(examples, progress)
    tiles = pixels.transpose(0, 2, 3, 1)
    starts = progress.track(range(0, len(tiles), AT_ONCE), description="source bits")
    packed = [
        np.packbits(coder.bits(tiles[start : start + AT_ONCE]).reshape(-1, TOKENS * BITS), axis=1)
        for start in starts
    ]
    made = Coded(pixels, np.concatenate(packed))
    if keep is not None:
        partial = keep / f"partial-{name}"
        np.savez(partial, **made._asdict())
        partial.replace(keep / name)
    return made


def fit_channel(
    model: LearnedChannel,
    coder: Networks,
    run: tuple[LearnedChannelOptions, str, str],
    fit: Coded,
    validation: Coded,
    checkpoint: Path,
    progress: Progress,
) -> list[dict[str, float]]:
    """Trains; the model ends with the weights of the best validation. Returns a row for each.

    Args:
        model: of random weights, or of those to start from.
        coder: the source.
        run: options, and what the data is; only a run with the same ones resumes from the checkpoint.
        fit: to train on.
        validation: to choose the weights by.
        checkpoint: file.
        progress: progress bar.
    """
    options = run[0]
    device, precision = device_and_precision()
    model.to(device)
    demapper = coder.demapper.to(device)
    optimizer = torch.optim.Adam(model.parameters(), options.learning_rate)
    steps = ChosenSteps(model, optimizer, options.steps, run, checkpoint)
    every = math.ceil(options.steps / VALIDATIONS)
    for step in steps.left("training", progress):
        generator = torch.Generator().manual_seed(options.seed * options.steps + step)
        chosen = torch.randint(len(fit.pixels), (options.batch,), generator=generator).numpy()
        pixels, bits = (each.to(device) for each in fit.batch(chosen))
        snr_db, used = (each.to(device) for each in drawn_conditions(options, generator))
        model.train()
        with precision:
            probabilities = model(bits, options.air, snr_db, used, generator)
            draws = torch.rand(probabilities.shape, generator=generator).to(device)
            loss = squared_error(pixels, demapper(straight_through(probabilities, draws)))
        steps.take(loss)
        if not steps.due(every):
            continue
        score = validated(model, coder, options, validation)
        images, error = steps.step * options.batch, round(loss.item(), 2)
        steps.validated(score, {"images": images, "error": error, "psnr_db": round(score, 4)})
    history = steps.choose()
    model.eval()
    coder.demapper.cpu()
    return history


def drawn_conditions(options: LearnedChannelOptions, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(B,) SNR in dB, and (B,) symbols of a token on the air, of the pictures of a batch."""
    low, high = options.link.snr_db
    snr_db = low + (high - low) * torch.rand(options.batch, generator=generator)
    choices = torch.tensor([TOKEN_SYMBOLS[cbr] for cbr in (CBRS if options.cbr is None else [options.cbr])])
    used = choices[torch.randint(len(choices), (options.batch,), generator=generator)]
    return snr_db, used.float()


def validated(model: LearnedChannel, coder: Networks, options: LearnedChannelOptions, validation: Coded) -> float:
    """Mean PSNR in dB over the ratios, at the middle of the SNRs trained for."""
    found = report(model, coder, options, validation, (sum(options.link.snr_db) / 2,))
    return float(np.mean([value for row in found.values() for value in row.values()]))


def report(
    model: LearnedChannel,
    coder: Networks,
    options: LearnedChannelOptions,
    pictures: Coded,
    snrs_db: tuple[float, ...] = REPORTED_SNR_DB,
) -> dict[str, dict[str, float]]:
    """Mean PSNR in dB of pictures as they are received, by ratio and SNR."""
    ratios = CBRS if options.cbr is None else (options.cbr,)
    return {
        cbr: {
            f"{snr_db:g}": round(float(np.mean(psnrs(model, coder, options, pictures, cbr, snr_db))), 3)
            for snr_db in snrs_db
        }
        for cbr in ratios
    }


def psnrs(
    model: LearnedChannel,
    coder: Networks,
    options: LearnedChannelOptions,
    pictures: Coded,
    cbr: str,
    snr_db: float,
) -> NDArray[np.float64]:
    """(B,) PSNR in dB of every picture, received with one draw of the channel."""
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(options.seed)
    found = []
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(pictures.pixels), AT_ONCE):
            chosen = np.arange(start, min(start + AT_ONCE, len(pictures.pixels)))
            pixels, bits = pictures.batch(chosen)
            snr = torch.full((len(chosen),), snr_db, device=device)
            used = torch.full((len(chosen),), float(TOKEN_SYMBOLS[cbr]), device=device)
            arrived = model(bits.to(device), options.air, snr, used, generator).round()
            received = (255 * coder.demapper(arrived).cpu()).round().clamp(0, 255)
            error = (received - 255 * pixels).square().flatten(1).mean(1).clamp_min(1e-3)
            found.append(10 * torch.log10(255**2 / error))
    return torch.cat(found).numpy().astype(np.float64)
