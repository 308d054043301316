"""Learned access: channel mapper, demapper, Importance-Aware Net, export and engine (Kong, Zhang)."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from processors import needs_openvino

from semlink.access.learned import engine
from semlink.access.learned.bandwidth import CBRS, TOKEN_SYMBOLS, token_symbols
from semlink.access.learned.engine import CARD, AccessError, LearnedAccess
from semlink.access.learned.export import export_access
from semlink.access.learned.importance_aware_net import PARTS, ImportanceAwareNet
from semlink.access.learned.mapper import ChannelDemapper, ChannelMapper, Link
from semlink.access.learned.transformer import Block, ChannelModNet, sine_positions

WEIGHT_ROUNDING = 5e-3
"""Symbols of unit power and probabilities: what float16 weights may move, far below what would move many bits."""


def epsilon(seed=0):
    return torch.rand(64, 96, generator=torch.Generator().manual_seed(seed)) / 2


def bits_of(tiles, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (tiles, 64, 96))


def pair(link=None, seed=0):
    torch.manual_seed(seed)
    link = link or Link()
    return ChannelMapper(link, epsilon()).eval(), ChannelDemapper(link, epsilon()).eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Networks of random weights, exported, and the same ones of torch."""
    folder = tmp_path_factory.mktemp("access")
    mapper, demapper = pair()
    check = export_access(mapper, demapper, folder)
    card = {"interface": "01020304", "cbr": list(CBRS), "check": check}
    (folder / CARD).write_text(json.dumps(card))
    return folder, mapper, demapper


def test_a_ratio_is_channel_uses_by_values():
    assert [64 * token_symbols(cbr) for cbr in ("1/24", "1/16", "1/8", "1/4")] == [128, 192, 384, 768]
    with pytest.raises(ValueError, match="1/24, 1/16, 1/8, 1/4, not '1/12'"):
        token_symbols("1/12")


def test_symbols_have_unit_mean_power_and_the_others_are_not_on_the_air():
    mapper, _ = pair()
    used = torch.tensor([float(TOKEN_SYMBOLS[cbr]) for cbr in CBRS])
    with torch.no_grad():
        symbols = mapper(torch.from_numpy(bits_of(4)).float(), torch.full((4,), 10.0), used)
    for tile, count in zip(symbols, used.int().tolist(), strict=True):
        sent = tile[:, :count]
        assert float(sent.square().sum()) / (64 * count) == pytest.approx(1, abs=1e-4)  # float32 over 768 symbols
        assert not tile[:, count:].any()


def test_what_is_not_on_the_air_is_not_looked_at():
    _, demapper = pair()
    received = torch.randn(1, 64, 12, 2, generator=torch.Generator().manual_seed(0))
    other = received.clone()
    other[:, :, 3:] = 7
    state = torch.ones(1, 64, 12), torch.tensor([10.0]), torch.tensor([3.0])
    with torch.no_grad():
        assert torch.equal(demapper(received, *state), demapper(other, *state))


def test_an_ablation_leaves_out_its_parameters_and_no_others():
    names = {parts: {name for name, _ in pair(Link(parts=parts))[0].named_parameters()} for parts in PARTS}
    assert names["no-ian"] < names["no-interface-attention"] < names["full"]
    attention = names["full"] - names["no-interface-attention"]
    excitation = names["no-interface-attention"] - names["no-ian"]
    assert attention
    assert all(name.startswith("ian.attention.") for name in attention)
    assert excitation
    assert all(name.startswith("ian.excitation.") for name in excitation)


def test_interface_attention_weighs_by_importance_alone():
    """x + trunk(x)·(1 - 2ε): nothing is added where ε is 1/2, all of it where ε is 0."""
    torch.manual_seed(0)
    half = torch.full((64, 96), 0.5)
    half[:, :10] = 0
    net = ImportanceAwareNet(half).eval()
    net.excitation = None
    x = torch.randn(2, 64, 96)
    with torch.no_grad():
        added = net(x) - x
        found = net.attention.trunk(x.transpose(1, 2).reshape(2, 96, 8, 8)).flatten(2).transpose(1, 2)
    assert not added[..., 10:].any()
    torch.testing.assert_close(added[..., :10], found[..., :10])


def test_without_its_parts_an_ian_is_the_identity():
    x = torch.randn(2, 64, 96)
    assert torch.equal(ImportanceAwareNet(epsilon(), "no-ian")(x), x)


@pytest.mark.parametrize(
    ("wrong", "words"), [((torch.rand(96, 64), "full"), "64, 96"), ((epsilon(), "half"), "one of")]
)
def test_an_ian_refuses_what_it_cannot_be(wrong, words):
    with pytest.raises(ValueError, match=words):
        ImportanceAwareNet(*wrong)


def test_an_snr_enters_within_what_was_trained_for():
    mapper, _ = pair()
    bits = torch.from_numpy(bits_of(1)).float()

    def symbols(snr_db):
        with torch.no_grad():
            return mapper(bits, torch.tensor([snr_db]), torch.tensor([12.0]))

    assert not torch.equal(symbols(6.0), symbols(15.0))
    assert torch.equal(symbols(20.0), symbols(40.0))
    assert torch.equal(symbols(5.0), symbols(-3.0))


def test_attention_is_that_of_torch():
    torch.manual_seed(0)
    block = Block(96, 3, 2)
    for layer in block.perceptron:
        for weight in layer.parameters():
            torch.nn.init.zeros_(weight)
    reference = torch.nn.MultiheadAttention(96, 3, batch_first=True)
    reference.load_state_dict(
        {"in_proj_weight": block.qkv.weight, "in_proj_bias": block.qkv.bias}
        | {f"out_proj.{name}": value for name, value in block.projection.state_dict().items()}
    )
    x = torch.randn(2, 64, 96)
    with torch.no_grad():
        normed = block.norm1(x)
        torch.testing.assert_close(block(x), x + reference(normed, normed, normed)[0], atol=1e-5, rtol=1e-4)


def test_a_closed_gate_leaves_one_factor_for_all_tokens():
    """With every gate shut only the last layer's bias is left: x·sigmoid(bias)."""
    net = ChannelModNet(8, 2, 1)
    with torch.no_grad():
        for gate in net.gates:
            gate[-2].weight.zero_()
            gate[-2].bias.fill_(-100)
        x = torch.randn(3, 5, 8)
        torch.testing.assert_close(net(x, torch.ones(3, 1)), x * torch.sigmoid(net.last.bias))


def test_sine_positions_tell_every_place():
    positions = sine_positions(8, 96)
    apart = torch.cdist(positions, positions) + 100 * torch.eye(64)
    assert positions.shape == (64, 96)
    assert float(apart.min()) > 0.5
    assert float(positions.abs().max()) <= 1


@pytest.mark.parametrize(("cbr", "millions"), [("1/24", 3.4), ("1/4", 13.9)])
def test_the_papers_size_has_as_many_parameters_as_the_authors_network(cbr, millions):
    with torch.device("meta"):
        mapper = ChannelMapper(Link("paper", cbr=cbr), epsilon())
    assert sum(each.numel() for each in mapper.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


def test_a_link_has_a_ratio_where_its_size_has_one():
    with pytest.raises(ValueError, match="give cbr"):
        Link("paper")
    with pytest.raises(ValueError, match="give no cbr"):
        Link("small", cbr="1/4")
    with pytest.raises(ValueError, match="small, paper"):
        Link("huge")


@pytest.mark.numeric
@needs_openvino
@pytest.mark.parametrize("cbr", CBRS)
def test_the_engine_agrees_with_torch(exported, cbr):
    folder, mapper, demapper = exported
    access, count = LearnedAccess(folder, cbr), token_symbols(cbr)
    bits, snr_db, used = bits_of(3), torch.full((3,), 8.0), torch.full((3,), float(count))
    rng = np.random.default_rng(1)
    gain = rng.rayleigh(0.7, (3, 64 * count))
    with torch.no_grad():
        wanted = mapper(torch.from_numpy(bits).float(), snr_db, used)
    symbols = access.map(bits, 8.0)
    assert symbols.shape == (3, access.symbols) == (3, 64 * count)
    wanted_symbols = torch.view_as_complex(wanted[:, :, :count].contiguous()).reshape(3, -1).numpy()
    np.testing.assert_allclose(symbols, wanted_symbols, atol=WEIGHT_ROUNDING)
    np.testing.assert_allclose((np.abs(symbols) ** 2).mean(axis=1), 1, rtol=1e-3)

    received = symbols + rng.normal(0, 0.3, symbols.shape)
    seen = torch.zeros(3, 64, 12, 2)
    seen[:, :, :count] = torch.view_as_real(torch.from_numpy(received)).reshape(3, 64, count, 2).float()
    gains = torch.ones(3, 64, 12)
    gains[:, :, :count] = torch.from_numpy(gain).reshape(3, 64, count).float()
    with torch.no_grad():
        probabilities = demapper(seen, gains, snr_db, used).numpy()
    found = access.probabilities(received, gain, 8.0)
    np.testing.assert_allclose(found, probabilities, atol=WEIGHT_ROUNDING)
    clear = np.abs(probabilities - 0.5) > WEIGHT_ROUNDING
    assert (access.demap(received, gain, 8.0) == (probabilities > 0.5))[clear].all()
    assert access.interface == b"\1\2\3\4"


def test_tiles_do_not_meddle_with_each_other(exported):
    access = LearnedAccess(exported[0], "1/8")
    bits = bits_of(3)
    together = access.map(bits, 10.0)
    np.testing.assert_allclose(access.map(bits[1:2], 10.0)[0], together[1], atol=1e-4)  # float32, another batch


def test_absent_bits_may_be_half(exported):
    bits = bits_of(1).astype(np.float32)
    bits[:, :, 50:] = 0.5
    symbols = LearnedAccess(exported[0], "1/24").map(bits, 10.0)
    assert np.isfinite(symbols).all()


def test_the_engine_works_without_torch(exported):
    code = f"""
import sys, numpy as np
from pathlib import Path
from semlink.access.learned.engine import LearnedAccess
assert "openvino" not in sys.modules
access = LearnedAccess(Path({str(exported[0])!r}), "1/16")
bits = np.random.default_rng(0).integers(0, 2, (2, 64, 96))
received = access.map(bits, 10.0)
assert access.demap(received, 1.0, 10.0).shape == bits.shape
assert "torch" not in sys.modules, "torch was loaded"
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "done"


def test_without_openvino_it_says_what_to_install(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    engine._read.cache_clear()
    with pytest.raises(AccessError, match=r"pip install 'semlink\[access\]'"):
        LearnedAccess(exported[0], "1/8")
    engine._read.cache_clear()


def test_networks_that_do_not_answer_as_torch_did_are_refused(exported, tmp_path):
    for file in exported[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    card = json.loads((tmp_path / CARD).read_text())
    card["check"]["symbols"][0] += 0.5
    (tmp_path / CARD).write_text(json.dumps(card))
    with pytest.raises(AccessError, match=r"off by 5\.0e-01"):
        LearnedAccess(tmp_path, "1/8")


def test_a_processor_on_which_openvino_answers_nothing_is_refused(exported, monkeypatch):
    nothing = np.empty((0, 64, 12, 2), np.float32)
    monkeypatch.setattr(engine._Networks, "_answer", lambda *_: nothing)
    engine._read.cache_clear()
    with pytest.raises(AccessError, match=r"symbols .* off by inf"):
        LearnedAccess(exported[0], "1/8")
    engine._read.cache_clear()


def test_missing_networks_are_said_to_be_missing(tmp_path):
    with pytest.raises(AccessError, match="train-learned-channel"):
        LearnedAccess(tmp_path, "1/8")
    with pytest.raises(ValueError, match="for awgn and rayleigh, not for 'bsc'"):
        LearnedAccess("bsc", "1/8")


@pytest.mark.parametrize("card", ["", "[]", "{}", '{"cbr": ["1/3"]}', '{"cbr": 4}'])
def test_a_card_that_says_nothing_is_refused(tmp_path, card):
    (tmp_path / CARD).write_text(card)
    with pytest.raises(AccessError, match="no networks of learned access"):
        LearnedAccess(tmp_path, "1/8")


def test_a_ratio_that_was_not_trained_for_is_refused(tmp_path):
    mapper, demapper = pair(Link("paper", cbr="1/24"))
    check = export_access(mapper, demapper, tmp_path)
    (tmp_path / CARD).write_text(json.dumps({"interface": "00000000", "cbr": ["1/24"], "check": check}))
    assert LearnedAccess(tmp_path, "1/24").map(bits_of(1), 10.0).shape == (1, 128)
    with pytest.raises(ValueError, match="for cbr 1/24, not for 1/4"):
        LearnedAccess(tmp_path, "1/4")


@pytest.mark.parametrize(
    ("bits", "words"),
    [(np.zeros((64, 96)), "tiles, 64, 96"), (np.full((1, 64, 96), 2), "within 0 and 1"),
     (np.full((1, 64, 96), np.nan), "within 0 and 1")],
)  # fmt: skip
def test_what_are_no_bits_is_refused(exported, bits, words):
    with pytest.raises(ValueError, match=words):
        LearnedAccess(exported[0], "1/8").map(bits, 10.0)


@pytest.mark.parametrize(
    ("received", "gain", "words"),
    [(np.zeros((1, 128), complex), 1.0, "tiles, 384"), (np.full((1, 384), np.nan + 0j), 1.0, "finite"),
     (np.zeros((1, 384), complex), np.inf, "finite")],
)  # fmt: skip
def test_what_cannot_have_been_received_is_refused(exported, received, gain, words):
    with pytest.raises(ValueError, match=words):
        LearnedAccess(exported[0], "1/8").demap(received, gain, 10.0)
