"""Cells of any source coder: its settings are part of the cell; of IAQ they are what its own cells are."""

import dataclasses
import json
from typing import Annotated

import numpy as np
import pytest
import typer
from annotated_types import Interval
from rich.progress import Progress
from test_planned_cells import PREPARED
from typer.testing import CliRunner

from cli.main import app
from cli.source_flags import SourceFlags
from experiments.data.image_sets import Example
from experiments.data.prepared import Prepared, open_prepared, prepare
from experiments.evaluation.frame_cells import FrameCell
from experiments.evaluation.grid import cell_of, grid
from experiments.evaluation.planned_source_cells import PlannedSourceCell
from experiments.evaluation.source_cells import SourceCell
from experiments.evaluation.summary import flat
from semlink.channel.awgn import Awgn
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.channel.finite_blocklength import FiniteBlocklength
from semlink.channel.mimo_ofdm import MimoOfdm
from semlink.channel.none import NoImpairment
from semlink.channel.packet_loss import PacketLoss
from semlink.parameters import Option
from semlink.source import registry
from semlink.source.iaq import IaqFrame
from semlink.source.iaq import coder as iaq
from semlink.source.registry import Seen, SourceCoder
from semlink.vision.photos import find_photos
from semlink.vision.vit import load_vit, normalise, tokens_and_attention
from semlink.vision.weights import DEVICE_MODEL

BSC = BinarySymmetricChannel(ber=0.02)
TOKENS = np.random.default_rng(5).normal(size=(*PREPARED.attention.shape, 4)).astype(np.float32)
WITH_TOKENS = Prepared(PREPARED.pixels, PREPARED.attention, PREPARED.cover, TOKENS)


@pytest.fixture
def toy(monkeypatch):
    """A coder that takes tokens and has a seed; what it was called with is listed."""
    calls = []

    def encode(
        image,
        seen,
        *,
        toy_ratio: Annotated[float, Interval(ge=0, le=1), Option("share of the bits")] = 0.5,
        toy_seed: Annotated[int, Interval(ge=0), Option("seed", is_seed=True)] = 0,
    ):
        calls.append((seen, toy_ratio, toy_seed))
        return iaq.encode(image, seen.attention, rho=toy_ratio)

    loaded = []
    coder = SourceCoder("toy_tokens", IaqFrame, "tokens", encode, iaq.decode, load=loaded.append)
    monkeypatch.setitem(registry._coders._items, "toy_tokens", coder)
    return calls


@pytest.mark.parametrize(
    "channel", [BSC, Awgn(snr_db=12.0), PacketLoss(loss=0.5)], ids=lambda channel: channel.name
)
def test_iaq_frames_are_those_of_its_own_cells(channel):
    found = SourceCell(channel, "iaq", (("rho", 0.125), ("gamma", 2.0)))
    wanted = FrameCell(channel, "incremental", 0.125, 2.0)
    ours, theirs = (cell.send(cell.shared(lambda *_: 0.0), PREPARED, 1, seed=3) for cell in (found, wanted))
    np.testing.assert_array_equal(ours.pixels, theirs.pixels)
    np.testing.assert_array_equal(ours.bits_per_patch, theirs.bits_per_patch)
    assert (ours.bits, ours.lost, ours.more) == (theirs.bits, theirs.lost, theirs.more)
    assert ours.payload_bits == theirs.bits_per_patch.sum()


def test_a_cell_is_found_again_by_its_row(toy):
    cell = SourceCell(BSC, "toy_tokens", (("toy_ratio", 0.25),))
    assert cell.coding == (("toy_ratio", 0.25), ("toy_seed", 0))
    row = json.loads(json.dumps({"cell": cell.settings}))
    assert cell_of(row) == cell
    assert (cell.value("toy_ratio"), cell.value("ber"), cell.value("gamma")) == (0.25, 0.02, None)
    settings = {"method": "toy_tokens", "toy_ratio": 0.25, "toy_seed": 0}
    assert flat(cell) == settings | {"channel": "bsc", "ber": 0.02, "access": "none", "code_ber": None}
    del row["cell"]["coding"]["toy_seed"]  # of a time when there was none
    assert cell_of(row) == cell
    assert cell_of({"cell": row["cell"] | {"method": "gone"}}) is None
    assert cell_of({"cell": row["cell"] | {"coding": {"width": 3}}}) is None


def test_a_row_of_other_models_is_of_no_cell(toy, monkeypatch, tmp_path):
    model = tmp_path / "toy.safetensors"
    model.write_bytes(b"one")
    coder = dataclasses.replace(registry.source_coder("toy_tokens"), model_files=lambda: (model,))
    monkeypatch.setitem(registry._coders._items, "toy_tokens", coder)
    cell = SourceCell(BSC, "toy_tokens")
    row = json.loads(json.dumps({"cell": cell.settings}))
    assert cell_of(row) == cell
    model.write_bytes(b"two")
    assert cell_of(row) is None
    model.unlink()
    assert cell_of(row) is None


def test_a_coder_gets_tokens_and_a_seed_for_each_image(toy):
    cell = SourceCell(BSC, "toy_tokens")
    assert cell.takes_tokens
    for image in (0, 1, 0):
        cell.send(None, WITH_TOKENS, image, seed=3)
    (seen, toy_ratio, first), (_, _, second), (_, _, again) = toy
    assert isinstance(seen, Seen)
    np.testing.assert_array_equal(seen.tokens, TOKENS[0])
    np.testing.assert_array_equal(seen.attention, PREPARED.attention[0])
    assert (toy_ratio, first == again, first != second) == (0.5, True, True)
    other = SourceCell(BSC, "toy_tokens", (("toy_seed", 1),))
    other.send(None, WITH_TOKENS, 0, seed=3)
    assert toy[-1][2] not in (first, second)


def test_tokens_are_prepared_where_a_cell_takes_them(tmp_path, monkeypatch):
    examples = tuple(Example(path, 0, {}) for path in find_photos(["chelsea", "coffee"]))
    with Progress(disable=True) as progress:
        folder = prepare(examples, DEVICE_MODEL, None, tmp_path, progress)
        assert open_prepared(folder).tokens is None
        assert prepare(examples, DEVICE_MODEL, None, tmp_path, progress, tokens=True) == folder
        monkeypatch.setattr("experiments.data.prepared.load_vit", None)
        prepare(examples, DEVICE_MODEL, None, tmp_path, progress, tokens=True)
    prepared, vit = open_prepared(folder), load_vit(DEVICE_MODEL)
    tokens, _ = tokens_and_attention(vit, normalise(vit, np.array(prepared.pixels)))
    np.testing.assert_allclose(prepared.tokens, tokens.numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("channel", "coding", "word"),
    [
        (BSC, (("toy_ratio", 2.0),), "toy_ratio must be at most 1"),
        (BSC, (("width", 2.0),), "toy_tokens has no setting width"),
        (MimoOfdm(), (), "mimo_ofdm takes frames with a plan"),
    ],
    ids=str,
)
def test_what_no_frame_can_be_sent_with_is_refused(toy, channel, coding, word):
    with pytest.raises(ValueError, match=word):
        SourceCell(channel, "toy_tokens", coding)


@pytest.mark.parametrize(
    ("channel", "plan", "word"),
    [(BSC, "exact", "bsc takes no plans"), (MimoOfdm(), "uniform", "plan must be one of exact, ia-qsmpa, fixed")],
)
def test_what_no_frame_can_be_planned_with_is_refused(toy, channel, plan, word):
    with pytest.raises(ValueError, match=word):
        PlannedSourceCell(channel, "toy_tokens", plan=plan)


def test_a_grid_has_every_coder_over_every_channel_without_plans(toy):
    sources = [("toy_tokens", (("toy_ratio", toy_ratio),)) for toy_ratio in (0.25, 0.5)]
    cells = grid([BSC, Awgn(), MimoOfdm()], rhos=(0.25,), sources=sources)
    assert cells[0] == FrameCell()
    assert cells[1:] == [SourceCell(channel, *source) for source in sources for channel in (BSC, Awgn())]
    planned = grid([BSC, MimoOfdm()], rhos=(0.25,), sources=sources[:1], load_plans=("exact", "fixed"))
    assert planned[2:] == [PlannedSourceCell(MimoOfdm(), *sources[0], plan) for plan in ("exact", "fixed")]


class TestPlanned:
    """Codecs' pictures under plans: what crosses is what the channel does to the frame, and everything counts."""

    CELL = PlannedSourceCell(MimoOfdm(snr_db=10.0), "codec", (("codec", "jpeg"), ("side", 64)))

    def sent(self, image=0, **changes):
        cell = dataclasses.replace(self.CELL, **changes)
        return cell.send(cell.shared(lambda *_: 0.0), PREPARED, image, seed=3)

    def test_ideal_transmission_is_that_of_no_channel_but_for_time_and_the_plans_bits(self):
        received = self.sent()
        free = SourceCell(NoImpairment(), "codec", self.CELL.coding).send(None, PREPARED, 0, seed=3)
        np.testing.assert_array_equal(received.pixels, free.pixels)
        assert received.bits == free.bits + received.more["plan_bits"]
        assert received.more["plan_bits"] < 8 * 32  # the method's name
        assert self.sent(mapping="inverse").more["plan_bits"] > 8 * 3136  # a byte or more for every subchannel
        assert 0 < received.more["t_d"] == received.more["air"] < self.sent(plan="fixed").more["t_d"]

    def test_what_comes_first_is_safest(self):
        """At a target of 1/2, which the least important block has."""
        channel = FiniteBlocklength(snr_db=10.0, target_bler=0.5)
        ways = [self.sent(image, channel=channel) for image in range(3)]
        assert 0 < np.mean([each.more["lost_blocks"] for each in ways]) < 0.3
        assert not any(each.lost for each in ways)

    def test_the_same_seed_the_same_result(self):
        channel = MimoOfdm(snr_db=10.0, coding="uncoded", order=4)
        first, again = (self.sent(channel=channel, mapping="random") for _ in range(2))
        assert first.more == again.more
        np.testing.assert_array_equal(first.pixels, again.pixels)

    def test_a_row_is_about_the_cell_that_wrote_it(self):
        row = json.loads(json.dumps({"cell": self.CELL.settings}))
        assert cell_of(row) == self.CELL
        assert flat(self.CELL)["plan"] == "exact"
        assert cell_of(row) != dataclasses.replace(self.CELL, plan="fixed")


def test_flags_are_the_coders_settings(toy):
    assert {"source", "toy_ratio", "toy_seed"} <= set(SourceFlags().names)
    assert not {"rho", "gamma"} & set(SourceFlags().names)
    chosen = SourceFlags().checked({"source": ["toy-tokens"], "toy_ratio": [0.25, 0.5], "toy_seed": None})
    assert not chosen.iaq
    assert chosen.others == [("toy_tokens", (("toy_ratio", 0.25),)), ("toy_tokens", (("toy_ratio", 0.5),))]
    assert SourceFlags().checked({}).iaq
    (told,) = [each for each in SourceFlags().options() if each.name == "toy_ratio"]
    assert "For toy-tokens" in told.annotation.__metadata__[0].help


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--source", "paper"], "--source must be one of iaq"),
        (["--source", "iaq", "--channel", "mimo-ofdm", "--method", "fixed"], "--method is for channels without"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(tmp_path, arguments, word):
    result = CliRunner().invoke(app, ["evaluate", str(tmp_path), str(tmp_path / "rows.jsonl"), *arguments])
    assert (result.exit_code, word in result.stderr) == (2, True), result.stderr


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"toy_ratio": [0.5]}, "--toy-ratio is for --source toy-tokens, not for iaq"),
        ({"source": ["toy-tokens"], "toy_ratio": [1.5]}, "toy_ratio must be at most 1"),
    ],
)
def test_flags_without_their_coder_or_out_of_range_are_refused(toy, capsys, values, word):
    with pytest.raises(typer.Exit):
        SourceFlags().checked(values)
    assert word in capsys.readouterr().err


@pytest.mark.parametrize("codec", ["avif", "webp"])
def test_stills_that_cannot_be_decoded_are_lost_and_grey(codec):
    cell = SourceCell(BinarySymmetricChannel(ber=0.4), "codec", (("codec", codec), ("budget_bytes", 500)))
    received = [cell.send(None, PREPARED, 0, seed=seed) for seed in range(20)]
    assert any(each.lost for each in received)
    for each in received:
        assert each.bits <= 8 * 500
        assert not each.lost or (each.pixels == 128).all()
    clean = SourceCell(PacketLoss(loss=0.0), "codec", (("codec", codec), ("budget_bytes", 500)))
    assert not clean.send(None, PREPARED, 0, seed=0).lost
