"""One frame over the air: which bits are exposed, where the randomness comes from, what arrives."""

import time
from hashlib import sha256

import numpy as np

from channel_emulator.impairments import Impairment
from semlink.bitstream import MAX_FRAME_BYTES, Frame, FrameError
from semlink.bsc import invert_bits
from semlink.v1.link_pb2 import ChannelReport


def random_stream(seed: int, device_id: str, frame_id: int) -> np.random.Generator:
    """The randomness that one frame meets.

    It depends on nothing else: not on which device came first, nor on what was sent before. A frame that is
    sent again meets the same flips.
    """
    digest = int.from_bytes(sha256(device_id.encode()).digest())
    return np.random.default_rng(np.random.SeedSequence([seed, digest, frame_id]))


def transmit(
    frame: bytes, impairment: Impairment, generator: np.random.Generator, *, impair_header: bool
) -> tuple[bytes, ChannelReport]:
    """Sends a frame through the channel.

    Args:
        frame: a valid frame, version 1.
        impairment: what the channel does.
        generator: the source of its randomness.
        impair_header: expose the header as well. Otherwise it is taken as protected, as in the papers. The
            padding of the payload carries nothing and is never exposed.

    Returns:
        The frame as it arrives, and the report of what happened to it.

    Raises:
        FrameError: `frame` is longer than `MAX_FRAME_BYTES`, or breaks a rule of the format.
    """
    started = time.perf_counter()
    if len(frame) > MAX_FRAME_BYTES:
        raise FrameError("oversized", f"a frame of {len(frame)} bytes; at most {MAX_FRAME_BYTES} are taken")
    sent = Frame.from_bytes(frame)
    first = 0 if impair_header else sent.header_bits
    exposed = sent.header_bits + sent.payload_bits - first
    positions = impairment.flips(exposed, generator)
    received = bytearray(frame)
    invert_bits(received, first + positions)
    report = ChannelReport(
        impairment=impairment.type,
        bits_flipped=len(positions),
        bits_exposed=exposed,
        channel_ms=1000 * (time.perf_counter() - started),
    )
    return bytes(received), report
