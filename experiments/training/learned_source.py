"""Source mapper and demapper trained through binary symmetric channels, with learned or prescribed reliabilities.

First stage of Kong and Zhang (arXiv 2507.12850, Section II-B). A mapper's output p is the probability of a bit
being 1, a channel of flip probability ε makes it p' = p - 2pε + ε (12), a bit is drawn from p', and the gradient
of p' goes straight through the draw. The interface is either

    learned      ε = sigmoid(μ)/2, one μ a bit position, drawn towards 1/2 by λ/M Σ(ε - 1/2)² (9)
    prescribed   Split DeepJSCC's kind (Tung et al., arXiv 2407.05487): ε fixed, in levels from `low` to `high`
                 over the 96 bits of a token, the same in every token

Loss (15): the mean squared error of pixels on the scale 0..255, as in the authors' code, plus the regularization.
The paper prints λ in (9) and again in (15); it is taken once. The levels are a choice of ours: the baseline's own
are not in the paper that compares with it.

Where this departs from the paper: Adam with a short rise and half a cosine instead of a constant 1e-4, since there
are few passes over the pictures here and 250 there; a faster step for μ; horizontal flips. The weights that stay
are chosen on pictures of the training split that are not trained on; the authors' code takes the test set.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from safetensors.torch import save
from torch import Tensor, nn

from experiments.data import ImageSetError
from experiments.data.image_sets import Example, ImageSet
from experiments.training.checkpoint import device_and_precision, write_card
from experiments.training.steps import ChosenSteps
from semlink.source.learned.interface import BITS, FILE, SIDE, TOKENS, Interface, to_bytes
from semlink.source.learned.mapper import SourceDemapper, SourceMapper
from semlink.vision.images import open_image

VALIDATION_SHARE = 0.04
"""Of the pictures of every class: 2,000 of CIFAR-10's 50,000, which choose the weights that stay."""
INITIAL_MU = -4.0
"""ε ≈ 0.009, as in the authors' code."""
MU_FASTER = 10.0
"""Step of μ over that of the weights: it has far to go in few steps."""
VALIDATIONS = 20
"""So often in a run weights are saved and measured."""
READ_BATCH = 250


@dataclass(frozen=True)
class LearnedSourceOptions:
    """How to train; see `semlink train-learned-source --help`. `model` is the name of the files."""

    model: str
    size: str
    interface: str
    strength: float
    low: float
    high: float
    images: int
    batch: int
    learning_rate: float
    seed: int

    @property
    def steps(self) -> int:
        """Steps of the optimizer."""
        return max(1, self.images // self.batch)


class FlipProbabilities(nn.Module):
    """ε of every bit position: trained, or prescribed."""

    def __init__(self, options: LearnedSourceOptions) -> None:
        """`interface` says which."""
        super().__init__()
        if options.interface == "learned":
            self.mu = nn.Parameter(torch.full((TOKENS, BITS), INITIAL_MU))
        else:
            levels = torch.linspace(options.low, options.high, BITS).expand(TOKENS, BITS)
            self.fixed = nn.Parameter(levels.clone(), requires_grad=False)

    def forward(self) -> Tensor:
        """(64, 96) ε within (0, 0.5)."""
        epsilon: Tensor = self.mu.sigmoid() / 2 if hasattr(self, "mu") else self.fixed
        return epsilon


class LearnedSource(nn.Module):
    """Mapper, channels and demapper in a row."""

    def __init__(self, options: LearnedSourceOptions) -> None:
        """Random weights."""
        super().__init__()
        self.mapper, self.demapper = SourceMapper(options.size), SourceDemapper(options.size)
        self.epsilon = FlipProbabilities(options)


def flipped(probabilities: Tensor, epsilon: Tensor) -> Tensor:
    """p' = p(1 - ε) + (1 - p)ε of equation (12): what a bit is 1 with behind a channel that flips it with ε."""
    return probabilities - 2 * probabilities * epsilon + epsilon


def straight_through(probabilities: Tensor, draws: Tensor) -> Tensor:
    """Bits drawn from probabilities, whose gradient is that of the probabilities (Bengio et al., arXiv 1308.3432).

    Args:
        probabilities: any shape, of a bit being 1.
        draws: the same shape, uniform within [0, 1).
    """
    return (draws < probabilities.detach()).to(probabilities.dtype) + probabilities - probabilities.detach()


def regularization(epsilon: Tensor) -> Tensor:
    """Mean of (ε - 1/2)², equation (9) without λ."""
    return (epsilon - 0.5).square().mean()


def squared_error(pixels: Tensor, received: Tensor) -> Tensor:
    """Mean squared error on the scale 0..255 of pixels on the scale 0..1."""
    return 255.0**2 * (pixels - received).square().mean()


def train_learned_source(
    options: LearnedSourceOptions, data: ImageSet, held_out: ImageSet, folder: Path, progress: Progress
) -> dict:
    """Trains both networks and the interface; resumes from the checkpoint it finds.

    Args:
        options: hyperparameters.
        data: pictures of 32 × 32 to train on.
        held_out: pictures to measure on, once, at the end.
        folder: gets source.safetensors, interface.npy, their card source.json, and a checkpoint while it trains.
        progress: progress bar.

    Returns:
        The card: PSNR on the held-out pictures, the distribution of ε, options, command, versions, machine.

    Raises:
        ImageSetError: pictures that are missing or of another size, or too few.
    """
    for images in (data, held_out):
        images.check_files()
    if options.low >= options.high:
        raise ImageSetError(
            f"the lowest flip probability must be below the highest, not {options.low}, {options.high}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    chosen = data.stratified(VALIDATION_SHARE, "validation", least_left=2)
    fit = read_pixels([each for each in data.examples if each.sample not in chosen], progress)
    validation = read_pixels([each for each in data.examples if each.sample in chosen], progress)
    if len(fit) < options.batch or not len(validation):
        raise ImageSetError(f"{len(data.examples)} pictures are too few to train on and to choose by")
    torch.manual_seed(options.seed)
    model = LearnedSource(options)
    history = _fit(model, (options, data.identity), fit, validation, folder / "source.checkpoint", progress)
    interface = save_source(model, options.size, folder)
    facts = {
        "id": interface.id.hex(),
        "data": data.name,
        "trained_on": len(fit),
        "passes": round(options.steps * options.batch / len(fit), 2),
        "history": history,
        "chosen_on": {"images": len(validation)} | quality(model, validation, options.seed),
        "held_out": quality(model, read_pixels(list(held_out.examples), progress), options.seed)
        | {"data": held_out.name, "images": len(held_out.examples)},
        "epsilon": distribution(interface),
    }
    card = write_card(folder / "source.safetensors", options, facts)
    (folder / "source.checkpoint").unlink(missing_ok=True)
    return card


def read_pixels(examples: list[Example], progress: Progress) -> NDArray[np.uint8]:
    """(B, 3, 32, 32) 8-bit pixels.

    Raises:
        ImageSetError: a picture is not 32 × 32.
    """
    pixels = np.empty((len(examples), SIDE, SIDE, 3), np.uint8)
    for number, example in enumerate(progress.track(examples, description="reading")):
        image = open_image(example.path)
        if image.size != (SIDE, SIDE):
            raise ImageSetError(f"{example.path} is {image.width} × {image.height}; {SIDE} × {SIDE} is trained on")
        pixels[number] = np.asarray(image)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def save_source(model: LearnedSource, size: str, folder: Path) -> Interface:
    """Writes source.safetensors, in float16, and interface.npy; returns the interface as it is read."""
    file = to_bytes(model.epsilon().detach().cpu().numpy().astype(np.float32))
    networks = {"mapper": model.mapper, "demapper": model.demapper}
    state = {
        f"{name}.{key}": value.detach().cpu().half().contiguous()
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }
    interface = Interface.from_bytes(file)
    for name, content in (
        (FILE, file),
        ("source.safetensors", save(state, {"id": interface.id.hex(), "size": size})),
    ):
        partial = folder / f"{name}.partial"
        partial.write_bytes(content)
        partial.replace(folder / name)
    return interface


def quality(model: LearnedSource, pixels: NDArray[np.uint8], seed: int) -> dict[str, float]:
    """PSNR in dB with bits as they are (1), PSNR and mean squared error of pixels behind the interface's channels.

    Args:
        model: both networks and ε.
        pixels: (B, 3, 32, 32) 8-bit.
        seed: of the flips.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    clean: list[Tensor] = []
    damaged: list[Tensor] = []
    model.eval()
    with torch.inference_mode():
        epsilon = model.epsilon().cpu()
        for start in range(0, len(pixels), READ_BATCH):
            sent = torch.from_numpy(pixels[start : start + READ_BATCH])
            bits = model.mapper(sent.to(device) / 255).round().cpu()
            flips = (torch.rand(bits.shape, generator=generator) < epsilon).float()
            for received, errors in ((bits, clean), ((bits - flips).abs(), damaged)):
                arrived = (255 * model.demapper(received.to(device)).cpu()).round().clamp(0, 255)
                errors.append((arrived - sent).square().flatten(1).mean(1))
    return {
        "psnr_db": _mean_psnr(torch.cat(clean)),
        "psnr_db_flipped": _mean_psnr(torch.cat(damaged)),
        "error_flipped": float(torch.cat(damaged).mean()),
    }


def _mean_psnr(errors: Tensor) -> float:
    """Mean of the pictures' PSNR in dB, of their mean squared errors; none counts as above 80 dB."""
    return float((10 * torch.log10(255**2 / errors.clamp_min(255**2 / 1e8))).mean())


def distribution(interface: Interface) -> dict[str, Any]:
    """Mean and tenths of ε over all positions, and the mean importance of each level."""
    tenths = np.quantile(interface.epsilon.astype(np.float64), np.linspace(0, 1, 11))
    return {
        "mean": float(interface.epsilon.mean(dtype=np.float64)),
        "tenths": [float(f"{value:.4g}") for value in tenths],
        "level_importance": [round(float(value), 5) for value in interface.level_importance()],
    }


def _fit(
    model: LearnedSource,
    run: tuple[LearnedSourceOptions, str],
    fit: NDArray[np.uint8],
    validation: NDArray[np.uint8],
    checkpoint: Path,
    progress: Progress,
) -> list[dict[str, float]]:
    """Trains; the model ends with the weights of the best validation. Returns a row for each."""
    options, _ = run
    device, precision = device_and_precision()
    model.to(device)
    mu = [weight for weight in model.epsilon.parameters() if weight.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [*model.mapper.parameters(), *model.demapper.parameters()], "lr": options.learning_rate},
        *([{"params": mu, "lr": MU_FASTER * options.learning_rate}] if mu else []),
    ]
    optimizer = torch.optim.Adam(groups)
    steps = ChosenSteps(model, optimizer, options.steps, run, checkpoint)
    every = max(1, options.steps // VALIDATIONS)
    for step in steps.left("training", progress):
        generator = torch.Generator().manual_seed(options.seed * options.steps + step)
        pixels = _batch(fit, options.batch, generator).to(device)
        draws = torch.rand((options.batch, TOKENS, BITS), generator=generator).to(device)
        with precision:
            epsilon = model.epsilon()
            bits = straight_through(flipped(model.mapper(pixels), epsilon), draws)
            error = squared_error(pixels, model.demapper(bits))
            loss = error + options.strength * regularization(epsilon)
        steps.take(loss)
        if not steps.due(every):
            continue
        row = {"images": steps.step * options.batch, "error": error.item()}
        row |= quality(model, validation, options.seed)
        row["mean_epsilon"] = epsilon.mean().item()
        score = row["error_flipped"] + options.strength * regularization(epsilon.detach()).item()
        steps.validated(-score, {name: round(value, 4) for name, value in row.items()})
        model.train()
    return steps.choose()


def _batch(pixels: NDArray[np.uint8], size: int, generator: torch.Generator) -> Tensor:
    """(size, 3, 32, 32) in [0, 1] of pictures by chance, half of them mirrored."""
    chosen = torch.randint(len(pixels), (size,), generator=generator).numpy()
    batch = torch.from_numpy(pixels[chosen]).float() / 255
    mirrored = torch.rand((size, 1, 1, 1), generator=generator) < 0.5
    return torch.where(mirrored, batch.flip(-1), batch)
