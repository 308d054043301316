"""Frames that nobody sent: what a parser does with them, and how they come from frames that somebody sent."""

import contextlib
import tracemalloc

from hypothesis import strategies as st

from semlink.frame import Frame, FrameError


def read_or_refused(frame_type: type[Frame], data: bytes) -> None:
    """The parser answers with a frame or a FrameError, and takes little memory for it."""
    tracemalloc.start()
    try:
        # Anything but a FrameError passes through and fails the test.
        with contextlib.suppress(FrameError):
            frame_type.from_bytes(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024 + 32 * len(data)


@st.composite
def mutated(draw: st.DrawFn, frame: bytes) -> bytes:
    """A frame in which a few runs of bytes are others, fewer or more."""
    mutant = bytearray(frame)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(mutant)))
        end = draw(st.integers(start, min(start + 4, len(mutant))))
        mutant[start:end] = draw(st.binary(max_size=6))
    return bytes(mutant)


@st.composite
def mutated_header(draw: st.DrawFn, frame: Frame) -> bytes:
    """A frame's header, without its CRC, in which a few fields behind the version are others."""
    mutant = bytearray(frame.to_bytes()[: frame.header_bits // 8 - 4])
    for _ in range(draw(st.integers(1, 3))):
        mutant[draw(st.integers(3, len(mutant) - 1))] = draw(st.integers(0, 255))
    return bytes(mutant)
