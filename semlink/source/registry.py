"""Registry of source coders: by name for who encodes, by the frame's profile for who reads and decodes.

A source coder is a folder of `semlink/source`, and registers itself where its package is imported. Docs:
docs/add-a-coder.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from semlink.frame import FORMAT_RULES, Frame, FrameError, read_profile
from semlink.parameters import Parameter, keywords
from semlink.registry import Registry
from semlink.source.opinion import OpinionFrame

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


@dataclass(frozen=True, eq=False)
class Seen:
    """Tokens of a vision transformer, and the attention on them, as a coder gets them that takes "tokens".

    Attributes:
        tokens: (N, D) float32, patch tokens of `semlink.vision.vit.tokens_and_attention`, in raster order.
        attention: (N,) float32 attention of the class token on the N patches, heads averaged; sums to 1.
    """

    tokens: NDArray[np.float32]
    attention: NDArray[np.float32]


@dataclass(frozen=True)
class SourceCoder:
    """A source coder under its name.

    Attributes:
        name: unique among the coders, in snake case, such as "iaq"; flags write it with hyphens.
        frame_type: its frames; their profile is unique.
        takes: what `encode` gets of the device's vision transformer: the class token's attention on the N patches
            ("attention", an (N,) array), tokens and attention ("tokens", a `Seen`), or nothing ("pixels", None).
        encode: (H, W, C) 8-bit pixels, what the coder `takes`, and settings of its own as keywords ->
            `CodedImage`. The keywords declare those settings, see `settings`.
        decode: a frame of `frame_type`, its payload perhaps damaged -> (H, W, C) pixels within 0..255, unrounded.
            A frame that is for other models than those at hand is a `FrameError`.
        load: reads the models that `encode` and `decode` need, looking into a folder first if one is given; called
            once at the start by who encodes or decodes. Raises what tells that a file is missing and what to do.
        decodes_apart: `decode` hands the payload to a library that may crash or hang on a hostile one: who decodes
            strangers' frames does it in a process that may be killed, which `semlink.vision.picture_worker` is.
        check: ValueError where settings, given as keywords, don't fit each other.
        model_files: the files that `load` reads where no folder is given: what was measured with others is of
            another coder.
    """

    name: str
    frame_type: type[Frame]
    takes: Literal["attention", "tokens", "pixels"]
    encode: Callable[..., CodedImage[Frame]]
    decode: Callable[[Any], NDArray[np.float64]]
    load: Callable[[Path | None], None] | None = None
    check: Callable[..., None] | None = None
    decodes_apart: bool = False
    model_files: Callable[[], tuple[Path, ...]] | None = None

    @property
    def flag(self) -> str:
        """The name as flags write it."""
        return self.name.replace("_", "-")

    @property
    def settings(self) -> tuple[Parameter, ...]:
        """The coder's own settings: the keywords of `encode`, each Annotated with an `Option` and its range.

        Raises:
            TypeError: one is not.
        """
        return keywords(self.encode)

    def prepare(self, weights: Path | None) -> None:
        """Loads the coder's models, if it has any; see `load`."""
        if self.load is not None:
            self.load(weights)

    @property
    def models_digest(self) -> str | None:
        """Beginning of the SHA-256 of what is in `model_files`, in hexadecimal; None for a coder that has none."""
        if self.model_files is None:
            return None
        return sha256(b"".join(sha256(file.read_bytes()).digest() for file in self.model_files())).hexdigest()[:12]

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """ValueError unless settings are within their ranges and fit each other."""
        for parameter in self.settings:
            if parameter.name in settings:
                parameter.check(settings[parameter.name])
        if self.check is not None:
            self.check(**settings)


_coders: Registry[SourceCoder] = Registry("source coder", "semlink.source")
source_coder = _coders.get


def register(coder: SourceCoder) -> None:
    """Makes a source coder known.

    Raises:
        ValueError: another coder has its name, or its profile is taken.
    """
    coders = _coders.registered().values()
    if coder.frame_type.profile in {OpinionFrame.profile, *(other.frame_type.profile for other in coders)}:
        raise ValueError(f"frame profile {coder.frame_type.profile} is registered already")
    _coders.register(coder)


def source_coders() -> tuple[SourceCoder, ...]:
    """Every source coder, by ascending profile."""
    return tuple(sorted(_coders.items().values(), key=lambda coder: coder.frame_type.profile))


def frame_rules() -> tuple[str, ...]:
    """Every reason that a `FrameError` may have."""
    return (*FORMAT_RULES, *dict.fromkeys(rule for kind in _frame_types() for rule in kind.rules))


def _frame_types() -> tuple[type[Frame], ...]:
    """Of every profile: the source coders', and opinions, which no source coder makes of a picture alone."""
    return (*(coder.frame_type for coder in source_coders()), OpinionFrame)


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
    for frame_type in _frame_types():
        if frame_type.profile == profile:
            return frame_type.from_bytes(data)
    known = ", ".join(map(str, sorted(frame_type.profile for frame_type in _frame_types())))
    raise FrameError("profile", f"frame profile {profile} is unknown; this reads {known}")


def coder_of(frame: Frame) -> SourceCoder:
    """The source coder whose frame this is.

    Raises:
        ValueError: there is none, as for an opinion.
    """
    for coder in source_coders():
        if isinstance(frame, coder.frame_type):
            return coder
    raise ValueError(f"no source coder makes a picture of frames of profile {frame.profile}")


def decode(frame: Frame) -> NDArray[np.float64]:
    """(H, W, C) pixels of a frame of any profile, within 0..255, unrounded; its coder's models are loaded."""
    return coder_of(frame).decode(frame)
