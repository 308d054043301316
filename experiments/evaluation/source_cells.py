"""Source cell: frames of any registered source coder, with its own settings, over a channel without plans."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.data.prepared import Prepared
from experiments.evaluation.cells import SentCell, Tuning, channel_title
from experiments.evaluation.coders import Received, shares_of
from semlink.channel.base import Arrival
from semlink.frame import Frame, FrameError
from semlink.source.registry import CodedImage, Seen, SourceCoder, source_coder

Coding = tuple[tuple[str, Any], ...]
"""Settings of a source coder, by name, in the order in which it declares them."""


MODELS = "models_digest"


class Crossing(NamedTuple):
    """A frame that has crossed a channel."""

    arrival: Arrival
    bits: int = 0
    """What went on the air beside the frame."""
    more: Mapping[str, float] = {}
    """What else there is to tell, for `Received.more`."""


@dataclass(frozen=True)
class SourceCell(SentCell):
    """One setting of the link with a source coder, by its settings alone. IAQ has cells of its own: `FrameCell`.

    Attributes:
        method: name of the source coder.
        coding: its settings; those that are not given have their defaults.

    Raises:
        ValueError: there is no such coder or setting, one is out of its range, or the channel takes plans.
    """

    takes_plan: ClassVar[bool] = False
    """It is for channels that take plans."""

    method: str
    coding: Coding = ()

    def __post_init__(self) -> None:
        """Completes the settings, and refuses what no frame could be sent with."""
        given = dict(self.coding)
        coding = {each.name: given.pop(each.name, each.default) for each in self.coder.settings}
        if given:
            raise ValueError(f"{self.method} has no setting {', '.join(given)}")
        self.coder.check_settings(coding)
        if self.channel.takes_plan != self.takes_plan:
            takes = "frames with a plan" if self.channel.takes_plan else "no plans"
            raise ValueError(f"{self.channel.name} takes {takes}")
        object.__setattr__(self, "coding", tuple(coding.items()))

    @property
    def coder(self) -> SourceCoder:
        """The source coder."""
        return source_coder(self.method)

    @property
    def settings(self) -> dict[str, Any]:
        """See `SentCell`; the coder's settings are one object, and its models are known by a digest (`MODELS`)."""
        models = {} if (digest := self.coder.models_digest) is None else {MODELS: digest}
        return super().settings | {"coding": dict(self.coding)} | models

    def value(self, name: str) -> Any:
        """See `SentCell`; also a setting of the coder."""
        return dict(self.coding).get(name, super().value(name))

    @property
    def title(self) -> str:
        """In words, for the progress bar."""
        return ", ".join(
            [self.method, *(f"{name} {value}" for name, value in self.coding), channel_title(self.channel)]
        )

    @property
    def takes_tokens(self) -> bool:
        """See `SentCell`."""
        return self.coder.takes == "tokens"

    def shared(self, tuning: Tuning) -> None:
        """Nothing serves all images."""

    def send(self, shared: None, prepared: Prepared, image: int, seed: int) -> Received:
        """An image as it arrives, its header whole; cells of one seed meet the same errors image by image."""
        coder, pixels = _ready(self.method), np.array(prepared.pixels[image])
        coded = coder.encode(pixels, _seen(coder, prepared, image), **self._coding_of(image))
        frame, (arrival, bits, more) = coded.frame, self.cross(coded, image, seed)
        segments = frame.segment_bits
        lost = 0 < arrival.missing.size == np.count_nonzero(segments)
        try:
            decoded = coder.decode(frame.with_payload(arrival.received(frame)).without(arrival.missing))
        except FrameError:  # damaged beyond decoding
            decoded, lost = np.full(frame.shape, 128.0), True
        return Received(
            decoded,
            frame.header_bits + 8 * len(frame.payload) + bits,
            segments if segments.size == prepared.attention[image].size else None,
            lost=lost,
            more={**shares_of(arrival, frame), **more},
            payload_bits=frame.payload_bits,
        )

    def cross(self, coded: CodedImage[Frame], image: int, seed: int) -> Crossing:
        """What becomes of an image's frame on the channel; cells of one seed meet the same errors."""
        state = self.channel.draw_state(lambda *of: np.random.default_rng((seed, image, 1, *of)), frame=image)
        return Crossing(self.channel.transmit(coded.frame, None, state, np.random.default_rng((seed, image))))

    def fields(self, shared: None, seen: Mapping[str, NDArray]) -> dict[str, Any]:
        """Mean shares of inverted bits and of lost segments."""
        return {name: float(seen[name].mean()) for name in ("bit_errors", "lost_blocks")}

    def _coding_of(self, image: int) -> dict[str, Any]:
        """The coder's settings for an image; a seed is another for each."""
        coding = dict(self.coding)
        for each in self.coder.settings:
            if each.is_seed:
                coding[each.name] = int(np.random.SeedSequence([coding[each.name], image]).generate_state(1)[0])
        return coding


@cache
def _ready(name: str) -> SourceCoder:
    """A coder whose models this process has loaded."""
    coder = source_coder(name)
    coder.prepare(None)
    return coder


def _seen(coder: SourceCoder, prepared: Prepared, image: int) -> Seen | NDArray[np.float32] | None:
    if coder.takes == "pixels":
        return None
    attention = np.array(prepared.attention[image])
    if coder.takes == "attention":
        return attention
    assert prepared.tokens is not None
    return Seen(np.array(prepared.tokens[image]), attention)
