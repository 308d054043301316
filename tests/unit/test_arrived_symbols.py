"""Symbols as they arrived: on their grid, with the noise of the SNR, without a trace in what else is reported."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel_emulator.randomness import FrameRandomness
from channel_emulator.transmission import PRECISION, transmit
from semlink.access.planner import draw_importance, plan
from semlink.channel.arrived_symbols import spread
from semlink.channel.awgn import Awgn
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.channel.finite_blocklength import FiniteBlocklength
from semlink.channel.layout import BlockLayout
from semlink.channel.mimo_ofdm import MimoOfdm
from semlink.channel.rayleigh import Rayleigh
from semlink.source.iaq.coder import encode, encode_with
from semlink.source.iaq.frame import IaqFrame
from semlink.v1.link_pb2 import TransmissionPlan

pytestmark = pytest.mark.numeric

PIXELS = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
SCORES = np.random.default_rng(1).permutation(draw_importance(0))
FRAME = encode(PIXELS, SCORES, rho=1 / 8).frame
MOST = 4096
MEMBERS = np.array([-3, -1, 1, 3]) / math.sqrt(10)
GRID = np.add.outer(MEMBERS, 1j * MEMBERS).ravel()
"""Of 16-QAM with unit mean energy."""


def points_of(frame: IaqFrame) -> np.ndarray:
    """16-QAM symbols of a payload, by the formula of TS 38.211, Section 5.1.4."""
    bits = np.unpackbits(np.frombuffer(frame.payload, np.uint8), count=frame.payload_bits)
    b = 1 - 2 * np.pad(bits, (0, -bits.size % 4)).reshape(-1, 4).astype(int)
    return (b[:, 0] * (2 - b[:, 2]) + 1j * b[:, 1] * (2 - b[:, 3])) / math.sqrt(10)


def report_of(channel, number=MOST, frame=FRAME, message=None):
    return transmit(frame.to_bytes(), message, channel, FrameRandomness(5, "camera", 0), report_symbols=number)


def shown(constellation) -> np.ndarray:
    return np.frombuffer(constellation.symbols, "<c8").astype(complex)


def planned(channel: MimoOfdm):
    """A frame, its plan, the gains that it was made for, and the message."""
    randomness = FrameRandomness(5, "camera", 0)
    gains = np.linalg.svd(channel.draw_state(randomness.stream, precision=PRECISION).estimate, compute_uv=False)
    made = plan(SCORES, gains, channel.snr_db)
    message = TransmissionPlan(
        rho=made.rho, power=made.power, block_of_subchannel=made.block_of_subchannel.ravel()
    )
    return encode_with(PIXELS, made.bits), made, gains, message


def test_symbols_without_noise_are_the_points_of_the_grid():
    symbols = shown(report_of(Awgn(order=16, snr_db=60.0))[1].constellation)
    distances = np.abs(symbols[:, None] - GRID)
    assert symbols.size == MOST
    # P(|n|² > 25 σ²) = e^-25 for each of them.
    assert distances.min(axis=1).max() < 5 * 1e-3
    assert set(distances.argmin(axis=1)) == set(range(16))


def test_the_noise_is_that_of_the_snr_and_decisions_are_wrong_where_another_point_is_nearer():
    constellation = report_of(Awgn(order=16, snr_db=10.0))[1].constellation
    symbols, points = shown(constellation), points_of(FRAME)
    assert (constellation.order, constellation.snr_db, constellation.total) == (16, 10.0, points.size)
    sent = points[np.arange(MOST) * points.size // MOST]
    # |n|² is exponential: its standard deviation is its mean.
    assert np.mean(np.abs(symbols - sent) ** 2) == pytest.approx(0.1, rel=6 / math.sqrt(MOST))
    nearest = GRID[np.abs(symbols[:, None] - GRID).argmin(axis=1)]
    wrong = np.flatnonzero(np.abs(nearest - sent) > 1e-6)
    assert wrong.size > 100
    np.testing.assert_array_equal(constellation.wrong, wrong)


def test_half_of_all_equalised_noise_is_beyond_that_of_the_snr_over_rayleigh_fading():
    """P(|n|²/|h|² > σ²) = 1/2 for two exponentials of the same mean."""
    constellation = report_of(Rayleigh(order=16, snr_db=20.0))[1].constellation
    points = points_of(FRAME)
    errors = np.abs(shown(constellation) - points[np.arange(MOST) * points.size // MOST]) ** 2
    assert np.mean(errors > 0.01) == pytest.approx(0.5, abs=6 * 0.5 / math.sqrt(MOST))


@pytest.mark.parametrize("csi_error", [0.0, 1e-12])
def test_each_subchannel_of_mimo_ofdm_has_its_own_noise(csi_error):
    """Also the long way round, through all matrices."""
    channel = MimoOfdm(coding="uncoded", order=16, snr_db=15.0, csi_error=csi_error)
    frame, made, gains, message = planned(channel)
    constellation = report_of(channel, frame=frame, message=message)[1].constellation
    layout = BlockLayout(made.block_of_subchannel, frame.segment_bits[frame.segment_bits > 0], 16)
    sent = points_of(frame)  # 768 values a patch: no symbol is filled up
    places = np.arange(MOST) * sent.size // MOST
    power = (gains**2 * made.power_of_subchannel).take(layout.subchannels)[places]
    errors = np.abs(shown(constellation) - sent[places]) ** 2 * power
    assert (constellation.order, constellation.total) == (16, sent.size)
    assert errors.mean() == pytest.approx(10**-1.5, rel=6 / math.sqrt(MOST))


@pytest.mark.parametrize(
    "channel",
    [
        Awgn(order=64, snr_db=12.0),
        Awgn(order=16, snr_db=12.0, access="ldpc"),
        Rayleigh(order=16, snr_db=14.0, access="ldpc-qam"),
        MimoOfdm(order=64, snr_db=12.0, coding="uncoded"),
        MimoOfdm(order=64, snr_db=12.0, coding="uncoded", csi_error=0.01, redraw_every_coherence=True),
    ],
    ids=str,
)
def test_asking_changes_nothing_else(channel):
    frame, message = FRAME, None
    if isinstance(channel, MimoOfdm):
        frame, _, _, message = planned(channel)
    received, report = report_of(channel, 1000, frame, message)
    unasked, quiet = report_of(channel, 0, frame, message)
    assert received == unasked
    assert len(report.constellation.symbols) == 8 * 1000
    assert not quiet.HasField("constellation")
    report.ClearField("constellation")
    report.channel_ms = quiet.channel_ms = 0
    assert report == quiet


def test_a_short_frame_shows_all_its_symbols():
    frame = encode(PIXELS, SCORES, rho=1 / 192).frame
    constellation = report_of(Awgn(order=4), frame=frame)[1].constellation
    assert 0 < constellation.total == shown(constellation).size == frame.payload_bits // 2


def test_channels_without_symbols_show_none():
    for channel in (BinarySymmetricChannel(ber=0.1), BinarySymmetricChannel(ber=0.1, access="ldpc")):
        assert not report_of(channel)[1].HasField("constellation")
    for channel in (MimoOfdm(), FiniteBlocklength()):
        frame, _, _, message = planned(channel)
        assert not report_of(channel, frame=frame, message=message)[1].HasField("constellation")


@given(total=st.integers(0, 300), most=st.integers(0, 400))
def test_places_are_spread_evenly(total, most):
    places = spread(most, total)
    assert places.size == min(total, most)
    if places.size:
        steps = np.diff([*places, total])
        assert places[0] == 0
        assert steps.max() - steps.min() <= 1
        assert steps.min() >= 1
