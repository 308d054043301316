"""What the studio shows of symbols that arrived: those of the report, by patch, and no nonsense."""

import numpy as np
import pytest

from channel_emulator.randomness import FrameRandomness
from channel_emulator.transmission import transmit
from device.capture import Encoded
from device.sent import Layer
from semlink.channel.awgn import Awgn
from semlink.source.iaq.coder import encode
from semlink.v1 import link_pb2 as pb
from studio.radio import SYMBOLS, constellation_report, radio_report

GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (224, 224, 3), np.uint8)
ATTENTION = GENERATOR.dirichlet(np.full(196, 0.3)).astype(np.float32)
VIEW = Encoded(encode(PIXELS, ATTENTION, rho=0.1).frame.to_bytes(), ATTENTION, PIXELS, 0, 0)


def layer_of(report: pb.ChannelReport, planned: object = None) -> Layer:
    return Layer(0, VIEW, planned, pb.ClassifyResponse(channel=report), 0)


def arrived(order: int = 16) -> pb.ChannelReport:
    channel = Awgn(order=order, snr_db=12.0)
    return transmit(VIEW.data, None, channel, FrameRandomness(0, "camera", 0), report_symbols=SYMBOLS)[1]


def test_symbols_are_shown_as_they_were_reported():
    report = arrived()
    found = radio_report(layer_of(report), None)
    assert found["plan"] is None
    shown = found["constellation"]
    np.testing.assert_allclose(
        np.array(shown["in_phase"]) + 1j * np.array(shown["quadrature"]),
        np.frombuffer(report.constellation.symbols, "<c8"),
        atol=1e-3,
    )
    assert (shown["order"], shown["snr_db"], shown["total"]) == (16, 12.0, VIEW.frame.payload_bits // 4)
    np.testing.assert_allclose(np.array(shown["amplitudes"]) * np.sqrt(10), [-3, -1, 1, 3], atol=1e-3)
    assert shown["wrong"] == list(report.constellation.wrong)
    assert shown["patch"] is None  # without a plan, symbols do not end where patches do


@pytest.mark.parametrize("order", [4, 64])
def test_under_a_plan_symbols_are_of_the_patches_in_their_order(order):
    """Of a frame that is sent block after block, counted one by one."""
    width = order.bit_length() - 1
    patches = [patch for patch, bits in enumerate(VIEW.frame.segment_bits.tolist()) for _ in range(0, bits, width)]
    report = arrived(order)
    report.constellation.total = len(patches)
    found = constellation_report(layer_of(report, planned=object()))
    assert found["patch"] == [patches[at * len(patches) // SYMBOLS] for at in range(SYMBOLS)]
    report.constellation.total += 1
    assert constellation_report(layer_of(report, planned=object()))["patch"] is None


@pytest.mark.parametrize(
    "changes",
    [
        {"order": 7},
        {"order": 2**32 - 1},
        {"symbols": b"7 bytes"},
        {"symbols": bytes(8 * SYMBOLS + 8)},
        {"symbols": b""},
        {"total": 3},
    ],
    ids=str,
)
def test_a_channel_that_reports_nonsense_has_no_constellation(changes):
    report = arrived()
    for name, value in changes.items():
        setattr(report.constellation, name, value)
    assert constellation_report(layer_of(report)) is None
    assert constellation_report(layer_of(pb.ChannelReport())) is None


def test_places_beyond_the_symbols_and_numbers_that_are_none_are_left_out():
    report = arrived()
    report.constellation.wrong.extend([SYMBOLS, 2**32 - 1, 0, 0])
    report.constellation.symbols = np.full(SYMBOLS, np.nan, "<c8").tobytes()
    report.constellation.snr_db = np.inf
    found = constellation_report(layer_of(report))
    assert max(found["wrong"]) < SYMBOLS
    assert len(set(found["wrong"])) == len(found["wrong"])
    assert (found["in_phase"], found["snr_db"]) == ([None] * SYMBOLS, None)
