"""Fine-tuning of a classifier on what the link paints (Mortaheb et al., arXiv 2405.01521, Section IV-C).

A classifier that was trained on originals meets pictures whose other patches are missing. Loss (3) weighs the
cross-entropy of originals and that of the same pictures as the token decoder paints them:

    L = β · CE(y(X), c) + (1 - β) · CE(y(X̂), c),   β = 0.3.

The printed equation has y(X) in both terms, so that β would do nothing; the text names the two as that of
"uncompressed" and that of "compressed" images, and that is what is computed here. Which of them β weighs it does
not say: here it is the first, as in the printed order, so that reconstructions count more.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from timm.models import VisionTransformer
from torch import Tensor
from torch.nn.functional import cross_entropy

from experiments.data.image_sets import ImageSet
from experiments.evaluation.intervals import accuracy
from experiments.training.checkpoint import device_and_precision, write_card
from experiments.training.decoder_training import RATES, over_the_wire, selected
from experiments.training.steps import Steps
from experiments.training.tokens import CachedTokens, batch_of, cached_tokens
from experiments.training.train import measure
from semlink.source.transformer_aided.coder import GEOMETRY, NOT_SENT
from semlink.source.transformer_aided.quantizer import Scales
from semlink.vision.storage import save_small
from semlink.vision.token_decoder import SCALES_NAME, TOKEN_DECODER, TokenDecoder, decoded_pixels, load_decoder
from semlink.vision.vit import class_names, load_vit, normalise
from semlink.vision.weights import DEVICE_MODEL

KIND = "trained on received pictures"
MEASURED = 404
"""Most held-out pictures that it is measured on."""
MEASURED_RATE = 0.5
"""Rate r of the received pictures that the classifier is measured on."""
CHECKPOINT_STEPS = 20


@dataclass(frozen=True)
class ReceivedOptions:
    """How to train; see `semlink train-received --help`."""

    model: str
    weights: Path | None
    decoder: Path | None
    beta: float
    alpha: float
    frozen_blocks: int
    steps: int
    batch: int
    learning_rate: float
    seed: int


def train_received(
    options: ReceivedOptions, data: ImageSet, held_out: ImageSet, folder: Path, progress: Progress
) -> dict:
    """Fine-tunes a classifier with loss (3), writes it and its card into `folder`; resumes from its checkpoint.

    Args:
        options: hyperparameters.
        data: pictures to learn from, whose classes the model has by name.
        held_out: pictures to measure on, once, at the end.
        folder: gets NAME.safetensors and NAME.json, the card, and the cache of tokens and NAME.checkpoint while
            it trains.
        progress: progress bar.

    Returns:
        The card: accuracy on originals and on received pictures with 95 % intervals, options, data, command,
        versions, machine.

    Raises:
        ImageSetError: pictures that are missing, or classes that the model does not have.
        WeightsError: no model or no decoder.
    """
    for images in (data, held_out):
        images.check_files()
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"{options.model}.safetensors"
    torch.manual_seed(options.seed)
    classifier = load_vit(options.model, weights=options.weights)
    origin = str(classifier.origin)
    data, held_out = (images.labelled_as(class_names(classifier)) for images in (data, held_out))
    encoder = load_vit(DEVICE_MODEL, weights=options.weights)
    decoder = load_decoder(options.decoder)
    cache = cached_tokens(encoder, data, 1, options.seed, folder / "tokens", progress)
    run = (options, data.identity)
    fit_received(classifier, decoder, cache, run, out.with_suffix(".checkpoint"), progress)
    save_small(out, classifier.state_dict(), tuple(class_names(classifier)), KIND)
    stored = load_vit(options.model, weights=folder)
    held_out = held_out.at_most(MEASURED)
    seen = cached_tokens(encoder, held_out, 1, options.seed, folder / "tokens", progress)
    facts = {
        "kind": KIND,
        "from": origin,
        "encoder": str(encoder.origin),
        "data": data.name,
        "classes": stored.num_classes,
        "trained_on": len(cache),
        "held_out": measure(stored, held_out.examples, progress),
        "held_out_received": {"rate": MEASURED_RATE} | _measured(stored, decoder, seen, held_out, options),
    }
    card = write_card(out, options, facts)
    out.with_suffix(".checkpoint").unlink(missing_ok=True)
    return card


def received_loss(originals: Tensor, received: Tensor, labels: Tensor, beta: float) -> Tensor:
    """Loss (3) with its second term of the reconstructions, which the printed equation leaves out.

    Args:
        originals: (B, classes) logits of originals.
        received: (B, classes) logits of the same pictures, as they were painted.
        labels: (B,) classes.
        beta: weight β of the originals, within [0, 1].

    >>> sure, unsure = torch.tensor([[100.0, 0.0]]), torch.zeros(1, 2)
    >>> received_loss(sure, unsure, torch.tensor([0]), beta=0.25)  # 0.75 * ln 2
    tensor(0.5199)
    """
    return beta * cross_entropy(originals, labels) + (1 - beta) * cross_entropy(received, labels)


def fit_received(
    classifier: VisionTransformer,
    decoder: TokenDecoder,
    cache: CachedTokens,
    run: tuple[ReceivedOptions, str],
    checkpoint: Path,
    progress: Progress,
) -> None:
    """Trains a classifier in place; goes on from `checkpoint` where that is of the same run."""
    options, _ = run
    where, precision = device_and_precision()
    scales = Scales.read((options.decoder or TOKEN_DECODER) / SCALES_NAME)
    classifier.to(where).train()
    classifier.requires_grad_(False)
    parts = [*classifier.blocks[options.frozen_blocks :], classifier.norm, classifier.head]
    parameters = [weight.requires_grad_(True) for part in parts for weight in part.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=options.learning_rate)
    steps = Steps(classifier, optimizer, options.steps, run, checkpoint)
    for step in steps.left("classifier", progress):
        generator = np.random.default_rng((options.seed, step))
        chosen = generator.integers(len(cache), size=options.batch)
        rates = generator.choice(RATES, size=options.batch)
        sent = selected(cache.attention[chosen], rates, options.alpha, generator)
        arrived = over_the_wire(batch_of(cache, chosen)[0], scales, generator)
        pixels = np.concatenate([cache.pixels[chosen], painted(decoder, arrived.numpy(), sent)])
        with precision:
            originals, received = classifier(normalise(classifier, pixels).to(where)).float().chunk(2)
        labels = torch.from_numpy(cache.labels[chosen]).to(where)
        steps.take(received_loss(originals, received, labels, options.beta))
        if steps.due(CHECKPOINT_STEPS):
            steps.save()
    classifier.cpu().eval()


def painted(decoder: TokenDecoder, tokens: NDArray[np.float32], sent: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(B, H, W, 3) pixels as a server paints them: grey where nothing was sent."""
    pixels = decoded_pixels(decoder, tokens, sent)
    grid = sent.reshape(len(sent), GEOMETRY.rows, GEOMETRY.columns)
    mask = grid.repeat(GEOMETRY.patch_size, axis=1).repeat(GEOMETRY.patch_size, axis=2)
    return np.where(mask[..., None], pixels, np.float32(NOT_SENT))


def _measured(
    classifier: VisionTransformer,
    decoder: TokenDecoder,
    seen: CachedTokens,
    held_out: ImageSet,
    options: ReceivedOptions,
) -> dict[str, float | int]:
    """Accuracy on received pictures, unquantized, with its 95 % interval."""
    _, precision = device_and_precision()
    right: list[bool] = []
    for start in range(0, len(seen), options.batch):
        numbers = np.arange(start, min(start + options.batch, len(seen)))
        generator = np.random.default_rng((options.seed, start))
        sent = selected(seen.attention[numbers], np.full(len(numbers), MEASURED_RATE), options.alpha, generator)
        pixels = painted(decoder, seen.tokens[numbers].astype(np.float32), sent)
        with torch.inference_mode(), precision:
            answers = classifier(normalise(classifier, pixels)).argmax(1)
        right += (answers.numpy() == seen.labels[numbers]).tolist()
    return accuracy(right, [example.sample for example in held_out.examples])
