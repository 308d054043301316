"""Presets: channels by a name that says what they are like, with every parameter chosen."""

from dataclasses import dataclass

from semlink.channel.awgn import Awgn
from semlink.channel.base import Channel
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.channel.burst import GilbertElliott
from semlink.channel.mimo_ofdm import MimoOfdm
from semlink.channel.none import NoImpairment
from semlink.channel.packet_loss import PacketLoss
from semlink.channel.rayleigh import Rayleigh


@dataclass(frozen=True)
class Preset:
    """A channel with its parameters, and what it is like."""

    description: str
    channel: Channel


PRESETS = {
    "clear": Preset("nothing is damaged", NoImpairment()),
    "paper": Preset("independent bit errors at μ = 0.05", BinarySymmetricChannel(ber=0.05)),
    "good-radio": Preset("white noise, 64-QAM at 24 dB", Awgn(snr_db=24.0)),
    "poor-radio": Preset("white noise, 16-QAM at 12 dB", Awgn(snr_db=12.0, order=16)),
    "deep-fade": Preset("Rayleigh fading, 4-QAM at 0 dB", Rayleigh(snr_db=0.0, order=4)),
    "burst": Preset(
        "as many bit errors as `paper`, but in bursts of 2000 bits", GilbertElliott(ber=0.05, burst_length=2000.0)
    ),
    "lossy": Preset("a network that loses 5 % of its packets", PacketLoss(loss=0.05)),
    "mimo": Preset("MIMO-OFDM of 4 streams at 20 dB, for devices that send plans", MimoOfdm(snr_db=20.0)),
}
"""By name."""
