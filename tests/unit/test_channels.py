"""Channels by name: the registry, parameters declared once, what arrives of a payload."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pytest
from annotated_types import Interval

from channel_emulator import settings
from channel_emulator.settings import channel_fields
from semlink.channel.base import Arrival, Channel, RawBits, channel_type, channels, register
from semlink.channel.mimo_ofdm import MimoOfdm
from semlink.parameters import Option, parameters

NAMES = list(channels())


def test_every_file_registers_its_channel():
    assert {"awgn", "bsc", "finite_blocklength", "mimo_ofdm", "none", "rayleigh"} <= set(NAMES)
    assert channel_type("mimo-ofdm") is channel_type("mimo_ofdm") is MimoOfdm
    with pytest.raises(ValueError, match=r"channel must be one of awgn, .*, not 'fog'"):
        channel_type("fog")
    with pytest.raises(ValueError, match="channel 'mimo_ofdm' is registered already"):
        register(MimoOfdm)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_explained_and_keeps_to_its_range(name):
    kind = channel_type(name)
    defaults = {each.name: each.initial for each in parameters(kind)}
    assert kind(**defaults) == kind(**defaults)
    for each in parameters(kind):
        assert each.help
        for wrong in (float("nan"), None, "much", -1e9):
            if wrong is None and each.default is None:
                continue
            with pytest.raises(ValueError, match=f"{each.name} must be|^channel file much: No such file"):
                kind(**{**defaults, each.name: wrong})


def test_two_channels_may_not_declare_one_flag_in_different_ways(monkeypatch):
    @dataclass(frozen=True, kw_only=True)
    class Other(Channel):
        name = "other"
        loss: Annotated[float, Interval(ge=0, le=1), Option("something else", flag="ber")] = 0.5

        def transmit(self, frame, plan, state, generator):
            return Arrival(np.empty(0, np.int64))

    known = {**channels(), "other": Other}
    monkeypatch.setattr(settings, "channels", lambda: known)
    with pytest.raises(ValueError, match="other and bsc declare --ber in different ways"):
        channel_fields()


def test_a_planned_channel_wants_a_plan_and_a_state():
    with pytest.raises(ValueError, match="mimo_ofdm takes frames with a plan and a state"):
        MimoOfdm().transmit(RawBits(b"\0"), None, None, np.random.default_rng(0))


@dataclass(frozen=True)
class Segments:
    """Three segments of 3, 4 and 5 bits."""

    payload = bytes([0b11111111, 0b11110000])
    payload_bits = 12
    segment_bits = np.array([3, 4, 5])
    importance = np.ones(3)


@pytest.mark.parametrize(
    ("arrival", "missing", "bits"),
    [
        (Arrival(np.array([0, 11])), [], "011111111110"),
        (Arrival(np.array([0]), np.array([1])), [1], "011000011111"),
        (Arrival(np.array([], int), seconds=np.array([np.inf, 1, 2])), [0], "000111111111"),
        (Arrival(np.array([11]), np.array([0]), np.array([1, np.inf, 2])), [0, 1], "000000011110"),
    ],
)
def test_missing_segments_arrive_as_zeros(arrival, missing, bits):
    assert arrival.missing.tolist() == missing
    received = np.unpackbits(np.frombuffer(arrival.received(Segments()), np.uint8))
    assert "".join(map(str, received)) == bits + "0000"
