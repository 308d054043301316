"""Networks of the learned source coder by OpenVINO, beside torch; and torch where OpenVINO cannot be had."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from processors import needs_openvino
from skimage import data
from structlog.testing import capture_logs

from semlink.source.learned.interface import PRETRAINED
from semlink.source.learned.mapper import SourceDemapper, SourceMapper
from semlink.source.learned.networks import Networks, networks
from semlink.vision import engines, network_engine
from semlink.vision.network_engine import NetworkEngine

pytestmark = pytest.mark.numeric

UNDECIDED = 1e-3
"""A probability this close to 1/2 may be rounded either way: the self check allows as much of the largest."""
PIXEL = 0.1
"""Of 255. Pixels are rounded to 8 bits next: this much changes one in ten at most, by one. Float32 stays below
1e-3, and bfloat16, which an engine must not take, is off by more than 1."""


@pytest.fixture(scope="module")
def tiles() -> np.ndarray:
    """49 tiles of a photo, as a picture of 224 x 224 has."""
    photo = np.ascontiguousarray(data.astronaut()[:224, :224])
    return photo.reshape(7, 32, 7, 32, 3).swapaxes(1, 2).reshape(49, 32, 32, 3)


@pytest.fixture
def untold():
    """What is logged once for each reason may be logged anew."""
    network_engine._tell.cache_clear()
    yield
    network_engine._tell.cache_clear()


def mapped(chosen: Networks, tiles: np.ndarray) -> np.ndarray:
    """(B, 64, 96) probabilities by torch."""
    with torch.inference_mode():
        return chosen.mapper(torch.from_numpy(tiles).movedim(-1, 1).float() / 255).numpy()


def painted(chosen: Networks, bits: np.ndarray) -> np.ndarray:
    """(B, 32, 32, 3) pixels within 0..255 by torch."""
    with torch.inference_mode():
        pixels = 255 * chosen.demapper(torch.from_numpy(bits))
    return pixels.clamp(0, 255).movedim(1, -1).numpy()


@needs_openvino
@pytest.mark.parametrize("folder", sorted(PRETRAINED.glob("*/")), ids=lambda folder: folder.name)
def test_the_packages_networks_answer_as_torch_does(folder, tiles, untold):
    chosen = networks(folder)
    with capture_logs() as logs:
        chosen.start()
    assert logs == [], "OpenVINO runs them"
    probabilities = mapped(chosen, tiles)
    decided = np.abs(probabilities - 0.5) > UNDECIDED
    bits = chosen.bits(tiles)
    np.testing.assert_array_equal(bits[decided], (probabilities >= 0.5)[decided])
    assert decided.mean() > 0.99, "the comparison is of nearly all bits"
    received = bits.astype(np.float32)
    received[:, :, 5:9] = 0.5  # absent
    for count in (1, 7, 49):
        part = received[:count]
        np.testing.assert_allclose(chosen.tiles(part), painted(chosen, part), rtol=0, atol=PIXEL)


@needs_openvino
def test_openvino_is_what_answers(tiles):
    """Once converted, torch's modules are not called."""
    chosen = Networks(networks(PRETRAINED / "learned").interface, SourceMapper("small"), SourceDemapper("small"))
    chosen.start()
    called = []
    for network in (chosen.mapper, chosen.demapper):
        network.register_forward_hook(lambda *_: called.append(1))
    chosen.tiles(chosen.bits(tiles).astype(np.float32))
    assert called == []


def test_without_openvino_torch_answers_and_the_log_says_so_once(monkeypatch, tiles, untold):
    monkeypatch.delitem(sys.modules, "semlink.vision.openvino_graph", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    torch.manual_seed(3)
    chosen = Networks(networks(PRETRAINED / "learned").interface, SourceMapper("small"), SourceDemapper("small"))
    with capture_logs() as logs:
        chosen.start()
        bits = chosen.bits(tiles)
        shown = chosen.tiles(bits.astype(np.float32))
    np.testing.assert_array_equal(bits, mapped(chosen, tiles) >= 0.5)
    np.testing.assert_array_equal(shown, painted(chosen, bits.astype(np.float32)))
    (line,) = logs
    assert line["log_level"] == "warning"
    assert "pip install openvino" in line["reason"]
    assert "--engine" not in line["reason"], "there is no option for it"


def test_an_engine_that_answers_otherwise_is_not_used(monkeypatch, untold):
    """As oneDNN gives where it is limited to SSE4.1: nothing at all."""
    monkeypatch.setattr(engines, "_compiled", lambda *_: lambda values: torch.empty(0))
    network = torch.nn.Linear(3, 2)
    with capture_logs() as logs:
        answer = NetworkEngine(network, (3,), "an example")(torch.ones(4, 3))
    torch.testing.assert_close(answer, network(torch.ones(4, 3)))
    assert "an example differ from torch's" in logs[0]["reason"]


@needs_openvino
def test_threads_may_share_an_engine():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.GELU(), torch.nn.Linear(256, 64))
    engine = NetworkEngine(network, (64,), "an example")
    inputs = torch.rand(40, 8, 64)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(engine, inputs))
    with torch.inference_mode():
        torch.testing.assert_close(torch.stack(answers), network(inputs), rtol=0, atol=engines.TOLERANCE)
