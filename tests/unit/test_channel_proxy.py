"""Where the proxy damages a frame: in the event loop what is quick, in a worker what others need not wait for."""

import asyncio
import threading

import grpc
import numpy as np
import pytest

from channel_emulator import proxy
from channel_emulator.impairments import impairment_of
from channel_emulator.live import LiveImpairments
from channel_emulator.metrics import Metrics
from channel_emulator.per_device import Impairments
from channel_emulator.settings import Settings
from semlink.channel.awgn import Awgn
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.channel.none import NoImpairment
from semlink.source.iaq.frame import Geometry, IaqFrame
from semlink.v1.link_pb2 import ClassifyRequest

SMALL = IaqFrame(Geometry(14, 14, 16, 3), 8, 0, 255, np.full(196, 2, np.uint8), bytes(196 * 192)).to_bytes()
LARGE = IaqFrame(Geometry(4, 8, 255, 1), 8, 0, 255, np.full(32, 4, np.uint8), bytes(32 * 255**2 // 2)).to_bytes()


@pytest.mark.parametrize(
    ("channel", "frame", "in_loop"),
    [
        (NoImpairment(), LARGE, True),
        (BinarySymmetricChannel(ber=0.01), SMALL, True),
        (BinarySymmetricChannel(ber=0.1), SMALL, True),
        (BinarySymmetricChannel(ber=0.001), LARGE, True),
        (BinarySymmetricChannel(ber=0.5), SMALL, False),
        (BinarySymmetricChannel(ber=0.05), LARGE, False),
        (BinarySymmetricChannel(ber=1), LARGE, False),
        (Awgn(), SMALL, False),
    ],
)
def test_many_flips_are_made_in_a_worker(monkeypatch, channel, frame, in_loop):
    threads, transmit = [], proxy.transmit

    def noted(*arguments, **named):
        threads.append(threading.current_thread())
        return transmit(*arguments, **named)

    monkeypatch.setattr(proxy, "transmit", noted)

    async def impair():
        settings = Settings(upstream="nowhere:1")
        async with grpc.aio.insecure_channel(settings.upstream) as upstream:
            live = LiveImpairments(Impairments(default=impairment_of(channel)))
            emulator = proxy.ImpairingProxy(upstream, settings, live, Metrics())
            return await emulator._impair(ClassifyRequest(frame=frame))

    received, report = asyncio.run(impair())
    assert (threads == [threading.current_thread()]) == in_loop
    assert report.impairment == channel.name
    flipped = np.bitwise_count(np.frombuffer(received, np.uint8) ^ np.frombuffer(frame, np.uint8)).sum()
    assert flipped == report.bits_flipped
