"""Training of the learned source coder: its gradient estimator, its interface, its networks, its files."""

import itertools
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from interruption import whole_and_resumed
from PIL import Image
from rich.progress import Progress
from torch import Tensor
from typer.testing import CliRunner

from cli.main import app
from experiments.data import ImageSetError
from experiments.data.image_sets import load_image_set
from experiments.training.learned_source import (
    LearnedSource,
    LearnedSourceOptions,
    flipped,
    regularization,
    save_source,
    squared_error,
    straight_through,
    train_learned_source,
)  # fmt: skip
from semlink.source.learned.interface import load_interface
from semlink.source.learned.mapper import Block, SourceDemapper, SourceMapper, _blocked, _unblocked
from semlink.source.learned.networks import networks

pytestmark = pytest.mark.numeric

BITS = 8
WORDS = torch.tensor(list(itertools.product((0.0, 1.0), repeat=BITS)), dtype=torch.float64)
SMALL = LearnedSourceOptions("source", "small", "learned", 300.0, 0.005, 0.1, 32, 8, 1e-3, 0)


def chance_of_words(arriving: Tensor) -> Tensor:
    """(256,) probability of each word of 8 independent bits."""
    return torch.where(WORDS == 1, arriving, 1 - arriving).prod(1)


def exact_gradients(loss, probabilities: Tensor, epsilon: Tensor) -> tuple[Tensor, ...]:
    """Of the expected loss over all 256 words that may arrive."""
    leaves = [value.clone().requires_grad_() for value in (probabilities, epsilon)]
    expected = (chance_of_words(flipped(*leaves)) * loss(WORDS)).sum()
    return torch.autograd.grad(expected, leaves)


def estimated_gradients(loss, probabilities: Tensor, epsilon: Tensor) -> tuple[Tensor, ...]:
    """Expectation of the straight-through estimate: every word is drawn once and counts as often as it comes."""
    leaves = [value.clone().requires_grad_() for value in (probabilities, epsilon)]
    arriving = flipped(*leaves)
    chance = chance_of_words(arriving.detach())
    draws = torch.where(WORDS == 1, 0.0, 1 - 1e-9)  # below any probability, above any
    drawn = straight_through(arriving.expand(len(WORDS), BITS), draws)
    assert torch.equal(drawn.detach().round(), WORDS)
    return torch.autograd.grad((chance * loss(drawn)).sum(), leaves)


@pytest.fixture
def bits_and_channels() -> tuple[Tensor, Tensor]:
    generator = np.random.default_rng(4)
    return torch.tensor(generator.uniform(0.05, 0.95, BITS)), torch.tensor(generator.uniform(0.01, 0.45, BITS))


def test_flipped_is_what_comes_behind_a_binary_symmetric_channel(bits_and_channels):
    probabilities, epsilon = bits_and_channels
    sent = torch.stack([1 - probabilities, probabilities])
    channel = torch.stack([torch.stack([1 - epsilon, epsilon]), torch.stack([epsilon, 1 - epsilon])])
    arriving = torch.einsum("sn,san->an", sent, channel)[1]
    torch.testing.assert_close(flipped(probabilities, epsilon), arriving, rtol=1e-9, atol=1e-9)


def test_the_estimator_is_unbiased_for_a_loss_that_is_linear_in_each_bit(bits_and_channels):
    """Alone, not in products: of these each bit's derivative is the same whatever the bit itself is."""
    weights = torch.linspace(-2, 3, BITS, dtype=torch.float64)

    def loss(bits: Tensor) -> Tensor:
        return bits @ weights + 3 * bits[:, 0] * bits[:, 5] - bits[:, 1] * bits[:, 2] * bits[:, 7]

    exact = exact_gradients(loss, *bits_and_channels)
    for estimate, truth in zip(estimated_gradients(loss, *bits_and_channels), exact, strict=True):
        torch.testing.assert_close(estimate, truth, rtol=1e-9, atol=1e-9)


def test_of_squares_the_estimators_bias_is_the_square_times_how_far_the_bit_is_from_undecided(bits_and_channels):
    """Of w·b², which is w·b, the derivative 2w·b is 2w·p' in the mean instead of w: off by w(2p' - 1)."""
    weights = torch.linspace(-2, 3, BITS, dtype=torch.float64)
    arriving = flipped(*bits_and_channels)
    exact = exact_gradients(lambda bits: bits.square() @ weights, *bits_and_channels)
    estimates = estimated_gradients(lambda bits: bits.square() @ weights, *bits_and_channels)
    probabilities, epsilon = bits_and_channels
    for estimate, truth, inner in zip(estimates, exact, (1 - 2 * epsilon, 1 - 2 * probabilities), strict=True):
        torch.testing.assert_close(estimate - truth, weights * (2 * arriving - 1) * inner, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_for_a_networks_squared_error_it_points_the_right_way(seed, bits_and_channels):
    torch.manual_seed(seed)
    network = torch.nn.Sequential(torch.nn.Linear(BITS, 16), torch.nn.GELU(), torch.nn.Linear(16, 3)).double()
    target = torch.rand(3, dtype=torch.float64)

    def loss(bits: Tensor) -> Tensor:
        return (network(bits) - target).square().sum(1)

    exact = exact_gradients(loss, *bits_and_channels)
    for estimate, truth in zip(estimated_gradients(loss, *bits_and_channels), exact, strict=True):
        assert torch.cosine_similarity(estimate, truth, dim=0) > 0


def test_a_bit_that_matters_more_ends_with_the_smaller_flip_probability():
    """One number of three bits of weights w, sent as it is: a flip costs w², and (9) pulls with λ.

    The bits are drawn anew, so that errors of different bits cancel in the mean: the estimate of the derivative of
    the error is 2w²ε, which is where λ/M·2(1/2 - ε) is at ε = κ/2/(κ + w²), κ = λ/M.
    """
    weights, strength = torch.tensor([1.0, 0.5, 0.1]), 0.3
    mu = torch.full((3,), -4.0, requires_grad=True)
    optimizer = torch.optim.Adam([mu], 0.05)
    generator = torch.Generator().manual_seed(0)
    last = []
    for _ in range(600):
        sent = (torch.rand(512, 3, generator=generator) < 0.5).float()
        epsilon = mu.sigmoid() / 2
        arrived = straight_through(flipped(sent, epsilon), torch.rand(512, 3, generator=generator))
        loss = ((arrived - sent) @ weights).square().mean() + strength * regularization(epsilon)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        last = [*last[-99:], epsilon.detach()]
    found, pull = torch.stack(last).mean(0), strength / 3
    assert found[0] < found[1] < found[2]
    # Adam's steps leave noise in μ, of some tenths: a tenth of ε at most.
    torch.testing.assert_close(found, pull / 2 / (pull + weights**2), rtol=0.15, atol=0)


def test_blocks_see_their_window_and_no_further_and_shifted_ones_do_not_see_around_the_border():
    """Which outputs depend on which inputs, against windows counted on paper."""
    side = 8
    for shifted in (False, True):
        torch.manual_seed(0)
        block = Block(8, 2, 2, side, shifted=shifted)
        tokens = torch.randn(1, side, side, 8, requires_grad=True)
        window = (lambda place: (place + 1) // 2) if shifted else (lambda place: place // 2)
        for row, column in ((0, 0), (3, 4), (7, 7), (0, 7), (4, 0)):
            (gradient,) = torch.autograd.grad(block(tokens)[0, row, column].sum(), tokens)
            seen = {tuple(place.tolist()) for place in (gradient[0].abs().sum(-1) > 1e-12).nonzero()}
            assert seen == {
                (other, another)
                for other in range(side)
                for another in range(side)
                if (window(other), window(another)) == (window(row), window(column))
            }


def test_attention_within_a_window_is_the_formula():
    """One window, no shift, head by head with plain loops."""
    torch.manual_seed(0)
    block = Block(6, 3, 2, 2, shifted=False).double()
    tokens = torch.randn(1, 2, 2, 6, dtype=torch.float64)
    with torch.no_grad():
        query, key, value = block.query_key_value(tokens.reshape(4, 6)).split(6, 1)
        mixed = torch.zeros(4, 6, dtype=torch.float64)
        for head, i in itertools.product(range(3), range(4)):
            part = slice(2 * head, 2 * head + 2)
            weights = []
            for j in range(4):
                down, right = i // 2 - j // 2 + 1, i % 2 - j % 2 + 1
                score = float(query[i, part] @ key[j, part]) / math.sqrt(2) + float(
                    block.bias[head, 3 * down + right]
                )
                weights.append(math.exp(score))
            for j in range(4):
                mixed[i, part] += weights[j] / sum(weights) * value[j, part]
        expected = block.projection(mixed).reshape(1, 2, 2, 6)
        torch.testing.assert_close(block._attention(tokens), expected, rtol=1e-9, atol=1e-9)


def test_blocks_of_two_by_two_are_what_the_indices_say():
    grid = torch.arange(36).reshape(1, 6, 6, 1)
    blocks = _blocked(grid)
    assert all(
        blocks[0, r, c, i, j, 0] == grid[0, 2 * r + i, 2 * c + j, 0]
        for r, c, i, j in itertools.product(range(3), range(3), range(2), range(2))
    )
    assert torch.equal(_unblocked(blocks), grid)


@pytest.mark.parametrize(("size", "parameters"), [("small", 0.345e6), ("paper", 3.714e6)])
def test_networks_have_the_papers_shapes(size, parameters):
    mapper, demapper = SourceMapper(size).eval(), SourceDemapper(size).eval()
    for network in (mapper, demapper):
        assert sum(weight.numel() for weight in network.parameters()) == pytest.approx(parameters, rel=2e-3)
    with torch.inference_mode():
        probabilities = mapper(torch.rand(2, 3, 32, 32))
        assert probabilities.shape == (2, 64, 96)
        assert ((probabilities > 0) & (probabilities < 1)).all()
        assert demapper(probabilities.round()).shape == (2, 3, 32, 32)
    with pytest.raises(ValueError, match="small, paper"):
        SourceMapper("large")


@pytest.mark.slow
def test_the_papers_size_learns_in_a_few_steps():
    options = LearnedSourceOptions("source", "paper", "learned", 1.0, 0.005, 0.1, 8, 8, 1e-3, 0)
    torch.manual_seed(0)
    model = LearnedSource(options)
    pixels = torch.rand(4, 3, 1, 1).expand(4, 3, 32, 32)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    errors = []
    for _ in range(8):
        epsilon = model.epsilon()
        bits = straight_through(flipped(model.mapper(pixels), epsilon), torch.rand(4, 64, 96))
        error = squared_error(pixels, model.demapper(bits))
        optimizer.zero_grad()
        (error + regularization(epsilon)).backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < errors[0] / 2
    assert model.epsilon.mu.grad.abs().min() > 0


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    lines = ["path,class,split"]
    for number in range(60):
        colour, name = generator.integers(0, 256, 3), ("red", "blue")[number % 2]
        pixels = np.clip(colour + generator.integers(-20, 20, (32, 32, 1)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{name},{'test' if number < 8 else 'train'}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def run(options: LearnedSourceOptions, pictures: Path, out: Path) -> dict:
    held_out, rest = load_image_set(pictures).where("split=test")
    with Progress(disable=True) as progress:
        return train_learned_source(options, rest, held_out, out, progress)


@pytest.mark.slow
def test_an_interrupted_training_goes_on_as_if_nothing_had_happened(pictures, tmp_path):
    whole, resumed = whole_and_resumed(partial(run, SMALL, pictures), tmp_path, taken=2, lost=0)
    assert resumed["history"] == whole["history"]
    assert resumed["id"] == whole["id"]
    assert not list((tmp_path / "cut").glob("*.checkpoint"))
    assert whole["trained_on"] + whole["chosen_on"]["images"] == 52
    assert whole["held_out"]["images"] == 8
    assert load_interface(tmp_path / "cut").id.hex() == whole["id"]
    stored = networks(tmp_path / "whole")
    assert stored.interface.id.hex() == whole["id"]


def test_prescribed_levels_are_fixed_and_the_same_in_every_token(pictures, tmp_path):
    options = LearnedSourceOptions("source", "small", "prescribed", 0.0, 0.005, 0.1, 16, 8, 1e-3, 0)
    run(options, pictures, tmp_path)
    epsilon = load_interface(tmp_path).epsilon
    np.testing.assert_allclose(epsilon, np.broadcast_to(np.linspace(0.005, 0.1, 96), (64, 96)), rtol=1e-6)


def test_pictures_of_another_size_are_refused(pictures, tmp_path):
    Image.new("RGB", (33, 32)).save(tmp_path / "a.png")
    Image.new("RGB", (32, 32)).save(tmp_path / "b.png")
    lines = "".join(f"{name}.png,x,{split}\n" for name, split in (("a", "train"), ("b", "test")))
    (tmp_path / "manifest.csv").write_text("path,class,split\n" + lines)
    with pytest.raises(ImageSetError, match="33 × 32"):
        run(SMALL, tmp_path, tmp_path / "out")


def test_what_is_saved_is_what_was_trained_but_for_float16(tmp_path):
    torch.manual_seed(0)
    model = LearnedSource(SMALL)
    interface = save_source(model, "small", tmp_path)
    np.testing.assert_array_equal(interface.epsilon, model.epsilon().detach().numpy())
    stored = networks(tmp_path)
    for name in ("mapper", "demapper"):
        weights = getattr(model, name).state_dict()
        for key, value in getattr(stored, name).state_dict().items():
            torch.testing.assert_close(value, weights[key], rtol=2**-11, atol=2**-24)


def test_options_of_the_other_interface_are_refused(pictures, tmp_path):
    for arguments, wrong in (
        (("--interface", "prescribed", "--strength", "1"), "--strength"),
        (("--low", "0.1"), "--low"),
        (("--high", "0.1"), "--high"),
    ):
        done = CliRunner().invoke(app, ["train-learned-source", str(pictures), str(tmp_path), *arguments])
        assert done.exit_code == 2
        assert wrong in done.output
        assert "has no effect" in done.output
    assert not list(tmp_path.iterdir())
