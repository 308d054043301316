"""A server and an emulator before it, as strangers and misfortune meet them."""

from collections.abc import Iterator

import numpy as np
import pytest
from processes import Running, running, wait_until

from semlink.decision.belief import Belief
from semlink.source.iaq.coder import encode
from semlink.source.opinion import opinion_frame
from semlink.source.registry import Seen, source_coders
from semlink.vision.images import model_pixels, open_image
from semlink.vision.photos import find_photos
from semlink.vision.weights import WeightsError


@pytest.fixture(scope="session")
def frames() -> list[bytes]:
    """Four views of the cat, all patches alike."""
    cat = open_image(find_photos(["chelsea"])[0])
    views = cat, cat.crop((60, 20, 400, 290)), cat.rotate(5), cat.point(lambda value: int(0.8 * value))
    return [encode(model_pixels(view), np.ones(196)).frame.to_bytes() for view in views]


@pytest.fixture(scope="session")
def other_frames() -> list[bytes]:
    """One view of the cat of each other source coder, but those whose models are not here, and an opinion."""
    pixels = model_pixels(open_image(find_photos(["chelsea"])[0]))
    attention = np.full(196, 1 / 196, np.float32)
    tokens = np.random.default_rng(0).normal(size=(196, 192)).astype(np.float32)
    made = [opinion_frame(Belief.of(np.full(1000, 1e-3))).to_bytes()]
    for coder in source_coders():
        try:
            coder.prepare(None)
        except WeightsError:
            continue
        seen = {"attention": attention, "tokens": Seen(tokens, attention), "pixels": None}[coder.takes]
        if coder.name != "iaq":
            made.append(coder.encode(pixels, seen).frame.to_bytes())
    return made


@pytest.fixture(scope="session")
def server(offline) -> Iterator[Running]:
    with running("-m", "server", **offline) as process:
        wait_until(lambda: process.is_ready)
        yield process


@pytest.fixture(scope="session")
def emulator(server) -> Iterator[Running]:
    with running("-m", "channel_emulator", "--upstream", server.grpc_address) as process:
        wait_until(lambda: process.is_ready)
        yield process
