"""Registry of source coders: by name for who encodes, by the frame's profile for who reads and decodes.

A source coder is a folder of `semlink/source`, and registers itself where its package is imported. Docs:
docs/add-a-coder.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from semlink.frame import FORMAT_RULES, Frame, FrameError, read_profile
from semlink.registry import Registry

FrameT = TypeVar("FrameT", bound=Frame, covariant=True)


@dataclass(frozen=True, eq=False)
class CodedImage(Generic[FrameT]):
    """Bits with importance: what a source coder makes of an image.

    Attributes:
        frame: the bits.
        importance: (N,) how much each segment of the frame's payload matters, in the order of its `segment_bits`.
    """

    frame: FrameT
    importance: NDArray[np.float64]


@dataclass(frozen=True)
class SourceCoder:
    """A source coder under its name.

    Attributes:
        name: unique among the coders, such as "iaq".
        frame_type: its frames; their profile is unique.
        encode: (H, W, C) 8-bit pixels, (N,) importance of the image's patches and settings of the coder's own ->
            `CodedImage`.
        decode: a frame of `frame_type`, its payload perhaps damaged -> (H, W, C) pixels within 0..255, unrounded.
    """

    name: str
    frame_type: type[Frame]
    encode: Callable[..., CodedImage[Frame]]
    decode: Callable[[Any], NDArray[np.float64]]


_coders: Registry[SourceCoder] = Registry("source coder", "semlink.source")
source_coder = _coders.get


def register(coder: SourceCoder) -> None:
    """Makes a source coder known.

    Raises:
        ValueError: another coder has its name or its profile.
    """
    if coder.frame_type.profile in {other.frame_type.profile for other in _coders.registered().values()}:
        raise ValueError(f"frame profile {coder.frame_type.profile} is registered already")
    _coders.register(coder)


def source_coders() -> tuple[SourceCoder, ...]:
    """Every source coder, by ascending profile."""
    return tuple(sorted(_coders.items().values(), key=lambda coder: coder.frame_type.profile))


def frame_rules() -> tuple[str, ...]:
    """Every reason that a `FrameError` may have."""
    return (*FORMAT_RULES, *dict.fromkeys(rule for coder in source_coders() for rule in coder.frame_type.rules))


def read_frame(data: bytes, *, most_bytes: int | None = None) -> Frame:
    """Reads a frame of any profile; the payload may be damaged, the header may not.

    Args:
        data: the frame as it was received.
        most_bytes: longest frame to take; None: any.

    Raises:
        FrameError: `data` is not a valid frame; `reason` and the message say why.
    """
    if most_bytes is not None and len(data) > most_bytes:
        raise FrameError("oversized", f"a frame of {len(data)} bytes; at most {most_bytes} are taken")
    profile = read_profile(data)
    for coder in source_coders():
        if coder.frame_type.profile == profile:
            return coder.frame_type.from_bytes(data)
    known = ", ".join(str(coder.frame_type.profile) for coder in source_coders())
    raise FrameError("profile", f"frame profile {profile} is unknown; this reads {known}")


def decode(frame: Frame) -> NDArray[np.float64]:
    """(H, W, C) pixels of a frame of any profile, within 0..255, unrounded."""
    for coder in source_coders():
        if isinstance(frame, coder.frame_type):
            return coder.decode(frame)
    raise ValueError(f"no source coder reads a {type(frame).__name__}")
