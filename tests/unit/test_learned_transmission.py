"""Learned access on frames: who is let in, which bits flip, and that each node knows only what it should."""

import json

import numpy as np
import pytest
import torch
from processors import needs_openvino

from channel_emulator.randomness import FrameRandomness
from channel_emulator.transmission import transmit
from semlink.access.learned import engine, transmission
from semlink.access.learned.bandwidth import CBRS
from semlink.access.learned.export import export_access
from semlink.access.learned.mapper import ChannelDemapper, ChannelMapper, Link
from semlink.access.symbol_link import AccessRefused
from semlink.channel.awgn import Awgn
from semlink.channel.base import RawBits
from semlink.channel.rayleigh import Rayleigh
from semlink.source.iaq.coder import encode_with
from semlink.source.learned.frame import LearnedFrame
from semlink.source.learned.interface import Interface, know_interface, to_bytes

pytestmark = [pytest.mark.numeric, needs_openvino]


@pytest.fixture(scope="module")
def interface() -> Interface:
    """A training of one's own."""
    epsilon = np.random.default_rng(4).uniform(0.01, 0.49, (64, 96)).astype(np.float32)
    made = Interface.from_bytes(to_bytes(epsilon))
    know_interface(made)
    return made


@pytest.fixture(scope="module", autouse=True)
def networks(interface, tmp_path_factory):
    """Networks of random weights in place of the package's."""
    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(0)
    for kind in ("awgn", "rayleigh"):
        (folder / kind).mkdir()
        link = Link("small")
        epsilon = torch.from_numpy(interface.epsilon)
        check = export_access(ChannelMapper(link, epsilon), ChannelDemapper(link, epsilon), folder / kind)
        card = {"interface": interface.id.hex(), "cbr": list(CBRS), "check": check}
        (folder / kind / engine.CARD).write_text(json.dumps(card))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "PRETRAINED", folder)
        patch.setattr(transmission, "PRETRAINED", folder)
        yield folder


def frame_of(interface: Interface, grid=(1, 2), present: object = True, seed: int = 0) -> LearnedFrame:
    bits = np.random.default_rng(seed).integers(0, 2, (grid[0] * grid[1], 64, 96))
    return LearnedFrame.from_bits(bits, grid, interface, present)


@pytest.mark.parametrize("kind", [Awgn, Rayleigh])
@pytest.mark.parametrize("cbr", CBRS)
def test_a_frame_takes_the_symbols_of_its_ratio_and_the_seed_decides_the_flips(kind, cbr, interface):
    frame = frame_of(interface)
    channel = kind(access="learned", cbr=cbr, snr_db=10.0)
    first, again, other = (channel.transmit(frame, None, None, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.channel_uses == 2 * 3072 // int(cbr[2:])
    np.testing.assert_array_equal(first.flips, again.flips)
    # Nobody has trained them: half of the bits.
    assert 0.4 * frame.payload_bits < first.flips.size < 0.6 * frame.payload_bits
    assert first.lost.size == 0
    assert first.flips.size != other.flips.size or (first.flips != other.flips).any()


def test_what_arrives_is_what_the_engine_decides(interface):
    """The long way round: bits, symbols, noise, symbols, bits."""
    frame = frame_of(interface, present=np.arange(16) < 11)
    channel = Awgn(access="learned", cbr="1/16", snr_db=7.0)
    arrival = channel.transmit(frame, None, None, np.random.default_rng(3))
    networks = engine.LearnedAccess("awgn", "1/16")
    symbols = networks.map(frame.bits, 7.0)
    noise = np.random.default_rng(3).standard_normal((symbols.size, 2)) @ [1, 1j] * np.sqrt(0.5 * 10**-0.7)
    decided = networks.demap(symbols + noise.reshape(symbols.shape), 1.0, 7.0)
    arrived = frame.with_payload(arrival.received(frame))
    np.testing.assert_array_equal(arrived.present, frame.present)
    np.testing.assert_array_equal(arrived.payload, frame.with_bits(decided).payload)
    assert (arrival.symbols.order, arrival.symbols.wrong(np.arange(5)).any()) == (0, False)
    np.testing.assert_allclose(
        arrival.symbols.arrived, (symbols + noise.reshape(symbols.shape)).ravel(), rtol=1e-9
    )


def test_the_access_node_does_the_same_to_equal_bits_of_another_picture(interface):
    """Two tiles beside each other, or one above the other."""
    wide, tall = frame_of(interface, (1, 2)), frame_of(interface, (2, 1))
    assert wide.payload == tall.payload
    channel = Rayleigh(access="learned", snr_db=12.0)
    one, two = (channel.transmit(frame, None, None, np.random.default_rng(1)) for frame in (wide, tall))
    np.testing.assert_array_equal(one.flips, two.flips)


def test_frames_of_another_coder_or_training_are_refused(interface):
    channel, random = Awgn(access="learned"), np.random.default_rng(0)
    pixels = encode_with(np.zeros((32, 32, 3), np.uint8), np.ones(4, int))
    for sent in (pixels, RawBits(bytes(768), values=3072)):
        with pytest.raises(AccessRefused, match="frames of the coder `learned` alone") as refused:
            channel.transmit(sent, None, None, random)
        assert refused.value.reason == "coder"
    other = Interface.from_bytes(to_bytes(np.full((64, 96), 0.1, np.float32)))
    with pytest.raises(AccessRefused, match=rf"{other.id.hex()}.*{interface.id.hex()}") as refused:
        channel.transmit(frame_of(other), None, None, random)
    assert refused.value.reason == "interface"
    # A header that is exposed would have to be sent by networks that know nothing of it.
    with pytest.raises(AccessRefused) as refused:
        transmit(frame_of(interface).to_bytes(), None, channel, FrameRandomness(0, "a", 0), impair_header=True)
    assert refused.value.reason == "coder"


def test_networks_that_do_not_run_are_a_refusal(interface, networks, monkeypatch):
    def broken(*_):
        raise engine.AccessError("no such processor")

    monkeypatch.setattr(transmission, "LearnedAccess", broken)
    with pytest.raises(AccessRefused, match="no such processor") as refused:
        Awgn(access="learned").transmit(frame_of(interface), None, None, np.random.default_rng(0))
    assert refused.value.reason == "networks"


def test_where_it_cannot_run_the_channel_is_refused_with_what_to_do(networks, monkeypatch, tmp_path):
    assert Rayleigh(access="learned", cbr="1/4").idle.keys() == {"order", "design_ber"}

    def absent(name):
        raise ModuleNotFoundError(name)

    for find_spec in (absent, lambda name: None):
        monkeypatch.setattr(transmission.importlib.util, "find_spec", find_spec)
        with pytest.raises(ValueError, match=r"access learned: .*pip install 'semlink\[access\]'"):
            Awgn(access="learned")
    monkeypatch.undo()
    monkeypatch.setattr(transmission, "PRETRAINED", tmp_path)
    with pytest.raises(ValueError, match=r"access learned: there are no networks for awgn; `semlink"):
        Awgn(access="learned")
    Awgn(access="ldpc-qam")
