"""Training of channel mapper and demapper: the air, the gradient through drawn bits, a linear start, resuming."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from interruption import whole_and_resumed
from PIL import Image
from rich.progress import Progress
from safetensors.torch import load_file
from scipy.special import exp1

from experiments.data.image_sets import load_image_set
from experiments.training import learned_channel
from experiments.training.learned_channel import (
    Coded,
    LearnedChannel,
    LearnedChannelOptions,
    drawn_conditions,
    fit_channel,
    psnrs,
    send,
    train_learned_channel,
)  # fmt: skip
from experiments.training.learned_source import (
    LearnedSource,
    LearnedSourceOptions,
    save_source,
    straight_through,
)
from experiments.training.linear_code import linear_code, start_linear
from semlink.access.learned.bandwidth import CBRS
from semlink.access.learned.engine import LearnedAccess
from semlink.access.learned.export import export_access
from semlink.access.learned.mapper import Link
from semlink.source.learned.frame import LearnedFrame
from semlink.source.learned.interface import Interface, know_interface, load_interface, to_bytes
from semlink.source.learned.mapper import SourceDemapper, SourceMapper
from semlink.source.learned.networks import Networks
from semlink.vision.weights import WeightsError

WEIGHT_ROUNDING = 5e-3
"""Of symbols of unit power: what float16 weights may move, far below what would move many bits."""
SOURCE = LearnedSourceOptions("source", "small", "learned", 1.0, 0.01, 0.3, 4, 4, 1e-3, 0)
EPSILON = np.random.default_rng(0).uniform(0.01, 0.4, (64, 96)).astype(np.float32)


def options(**changed):
    given = {
        "model": "access", "air": "awgn", "variant": "full", "size": "small", "cbr": None, "start": None,
        "images": 24, "batch": 4, "learning_rate": 1e-3, "seed": 0,
    }  # fmt: skip
    return LearnedChannelOptions(**(given | changed))


def source():
    torch.manual_seed(0)
    interface = Interface.from_bytes(to_bytes(EPSILON))
    demapper = SourceDemapper("small").eval().requires_grad_(False)
    return Networks(interface, SourceMapper("small").eval(), demapper)


def pictures(count=12):
    rng = np.random.default_rng(1)
    return Coded(rng.integers(0, 256, (count, 3, 32, 32), np.uint8), rng.integers(0, 256, (count, 768), np.uint8))


def trained(made, folder):
    torch.manual_seed(0)
    model = LearnedChannel(made.link, torch.from_numpy(EPSILON))
    with Progress(disable=True) as progress:
        history = fit_channel(
            model, source(), (made, "a", "b"), pictures(), pictures(2), folder / "checkpoint", progress
        )
    return model.state_dict(), history


def test_awgn_has_the_variance_of_its_snr():
    symbols = torch.zeros(2, 100_000, 2)
    received, gain = send(symbols, "awgn", torch.tensor([3.0, 12.0]), torch.Generator().manual_seed(0))
    variance = received.square().sum(-1).mean(1)
    # The energy of 100,000 complex normal values, relative: one standard error is 1/√100,000.
    np.testing.assert_allclose(variance, 10 ** (-np.array([3.0, 12.0]) / 10), rtol=6 / 100_000**0.5)
    assert (gain == 1).all()


def test_equalised_rayleigh_noise_has_the_closed_forms_variance():
    """σ²/|h|² given |h|; over |h|² > a its mean is σ² e^a E₁(a), since |h|² is exponential."""
    count, least, snr_db = 400_000, 0.5, 7.0
    sent = torch.ones(1, count, 2)
    received, gain = send(sent, "rayleigh", torch.tensor([snr_db]), torch.Generator().manual_seed(1))
    noise = (received - sent).square().sum(-1)[0].double().numpy()
    power = gain[0].double().numpy() ** 2
    variance = 10 ** (-snr_db / 10)
    assert power.mean() == pytest.approx(1, abs=6 / count**0.5)
    scaled = noise * power / variance  # exponential of mean one, whatever |h|
    for part in (power < 0.2, (power > 0.2) & (power < 1), power > 1):
        assert scaled[part].mean() == pytest.approx(1, abs=6 / part.sum() ** 0.5)
    strong = power > least
    wanted = variance * np.exp(least) * exp1(least)
    assert noise[strong].mean() == pytest.approx(wanted, abs=6 * noise[strong].std() / strong.sum() ** 0.5)


def test_conditions_are_within_what_is_trained_for():
    made = options(batch=4000)
    snr_db, used = drawn_conditions(made, torch.Generator().manual_seed(0))
    assert snr_db.min() >= 5
    assert snr_db.max() <= 20
    assert snr_db.std() == pytest.approx(15 / 12**0.5, rel=0.1)
    assert sorted(used.unique().tolist()) == [2, 3, 6, 12]
    split, _ = drawn_conditions(options(variant="split"), torch.Generator().manual_seed(0))
    assert (split == 20).all()
    _, one = drawn_conditions(options(size="paper", cbr="1/8"), torch.Generator().manual_seed(0))
    assert (one == 6).all()


def test_the_gradient_goes_through_drawn_bits_to_mapper_and_demapper():
    made = options()
    torch.manual_seed(0)
    model, coder = LearnedChannel(made.link, torch.from_numpy(EPSILON)), source()
    generator = torch.Generator().manual_seed(0)
    pixels, bits = pictures().batch(np.arange(4))
    probabilities = model(bits, "awgn", *drawn_conditions(made, generator), generator)
    drawn = straight_through(probabilities, torch.rand(probabilities.shape, generator=generator))
    assert set(drawn.detach().round(decimals=5).unique().tolist()) == {0, 1}
    (coder.demapper(drawn) - pixels).square().mean().backward()
    for network in (model.mapper, model.demapper):
        assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in network.parameters())
    assert all(each.grad is None for each in coder.demapper.parameters())


@pytest.mark.numeric
def test_a_resumed_training_ends_as_an_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.setattr(learned_channel, "VALIDATIONS", 2)  # of six steps, after the third and the sixth
    (whole, rows), (resumed, rows_resumed) = whole_and_resumed(partial(trained, options()), tmp_path, taken=4)
    assert [row["images"] for row in rows] == [12, 24]
    assert rows == rows_resumed
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_papers_size_takes_steps(tmp_path):
    state, history = trained(options(size="paper", cbr="1/24", images=2, batch=2), tmp_path)
    assert len(history) == 1
    assert all(value.isfinite().all() for value in state.values())


def test_a_linear_code_sends_what_matters_first():
    """Values that are sums of bits: 4 bits of weight 3, and a bit of weight 1; the strong one is first."""
    rng = np.random.default_rng(0)
    bits = rng.choice([-1.0, 1.0], (20_000, 6))
    values = np.stack([3 * bits[:, :4].sum(axis=1), bits[:, 4]], axis=1)
    sending, receive, _ = linear_code(bits, values, 2)
    sent = bits @ sending.T
    assert (sent**2).mean() == pytest.approx(1, abs=6 / 20_000**0.5)
    assert abs(np.corrcoef(sent[:, 0], values[:, 0])[0, 1]) == pytest.approx(1, abs=1e-3)
    assert abs(np.corrcoef(sent[:, 1], values[:, 1])[0, 1]) == pytest.approx(1, abs=1e-3)
    estimate = sent @ receive.T
    assert np.corrcoef(estimate[:, 4], bits[:, 4])[0, 1] > 0.99
    assert abs(estimate[:, 5]).max() < 0.1  # of a bit that stands for nothing, nothing is sent


def test_training_starts_as_the_linear_code():
    """Bits that say something of the pixels at their place arrive without any training."""
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (200, 3, 8, 8), np.uint8)
    pixels = levels.repeat(4, axis=2).repeat(4, axis=3)
    bits = rng.integers(0, 2, (200, 64, 96), np.uint8)
    bits[:, :, :24] = np.unpackbits(levels.transpose(0, 2, 3, 1).reshape(200, 64, 3), axis=2)
    torch.manual_seed(0)
    model = LearnedChannel(Link(), torch.from_numpy(EPSILON)).eval()
    start_linear(model.mapper, model.demapper, pixels, bits)
    with torch.no_grad():
        state = torch.full((50,), 20.0), torch.full((50,), 12.0)
        found = model(
            torch.from_numpy(bits[:50]).float(), "awgn", *state, torch.Generator().manual_seed(0)
        ).round()
    agree = (found.numpy() == bits[:50]).mean(axis=(0, 1))
    assert (agree[[0, 8, 16]] > 0.85).all()  # the largest bit of each level; by chance 0.5
    assert agree[24:].mean() == pytest.approx(0.5, abs=0.05)  # bits of no meaning


def test_pictures_are_measured_one_by_one():
    model = LearnedChannel(Link(), torch.from_numpy(EPSILON))
    found = psnrs(model, source(), options(), pictures(3), CBRS[0], 10.0)
    assert found.shape == (3,)
    assert np.isfinite(found).all()


@pytest.mark.slow
def test_a_training_leaves_networks_that_run(tmp_path):
    """From pictures to files: the engine's symbols are those of the trained network, the card says what it is."""
    data = folder_of_pictures(tmp_path / "pictures", 30)
    source_folder = tmp_path / "source"
    source_folder.mkdir()
    save_source(LearnedSource(SOURCE), SOURCE.size, source_folder)
    made, out = options(images=8), tmp_path / "access"
    held_out, rest = load_image_set(data).where("share=0.2")
    with Progress(disable=True) as progress:
        card = train_learned_channel(made, source_folder, rest, held_out, out, progress)
    access = LearnedAccess(out, "1/24")
    assert card == json.loads((out / "access.json").read_text())
    assert access.interface.hex() == card["interface"] == load_interface(source_folder).id.hex()
    assert set(card["held_out"]["psnr_db"]) == set(CBRS)
    model = LearnedChannel(made.link, torch.from_numpy(load_interface(source_folder).epsilon)).eval()
    model.load_state_dict(load_file(out / "access.safetensors"))
    bits = np.random.default_rng(0).integers(0, 2, (2, 64, 96))
    with torch.no_grad():
        wanted = model.mapper(torch.from_numpy(bits).float(), torch.full((2,), 9.0), torch.full((2,), 2.0))
    sent = torch.view_as_complex(wanted[:, :, :2].contiguous()).reshape(2, -1).numpy()
    np.testing.assert_allclose(access.map(bits, 9.0), sent, atol=WEIGHT_ROUNDING)

    faded = options(images=4, air="rayleigh", start=out)
    with Progress(disable=True) as progress:
        train_learned_channel(faded, source_folder, rest, held_out, tmp_path / "faded", progress)
        with pytest.raises(WeightsError, match="of the same size, variant and cbr"):
            train_learned_channel(
                options(variant="no-ian", start=out), source_folder, rest, held_out, tmp_path / "other", progress
            )


def folder_of_pictures(folder, count):
    rng = np.random.default_rng(0)
    for number in range(count):
        file = folder / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(file)
    return folder


def test_the_access_node_knows_nothing_of_the_picture(tmp_path):
    """Pictures of two shapes that happen to have the same bits: the same symbols."""
    check = export_access(*parts(LearnedChannel(Link(), torch.from_numpy(EPSILON))), tmp_path)
    (tmp_path / "access.json").write_text(json.dumps({"interface": "00", "cbr": list(CBRS), "check": check}))
    access = LearnedAccess(tmp_path, "1/16")
    interface = source().interface
    know_interface(interface)
    bits = np.random.default_rng(0).integers(0, 2, (6, 64, 96), np.uint8)
    tall, wide = (LearnedFrame.from_bits(bits, grid, interface) for grid in ((6, 1), (2, 3)))
    assert tall.to_bytes() != wide.to_bytes()
    np.testing.assert_array_equal(access.map(tall.bits, 10.0), access.map(wide.bits, 10.0))
    bits[0, 0, 0] ^= 1
    other = access.map(LearnedFrame.from_bits(bits, (6, 1), interface).bits, 10.0)
    assert not np.array_equal(access.map(tall.bits, 10.0)[0], other[0])


def parts(model):
    return model.mapper, model.demapper
