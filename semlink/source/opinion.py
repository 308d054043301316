"""Opinion, frame profile 3: what a device takes its picture for, in 16 bytes instead of the picture.

The profile's own header fields, 64 bits, the most significant first:

    label of each of the 5 likeliest classes 10 | code of each one's probability 5, 4, 2, 2, 1

The first label again stands for no further class; its code is then 0. There is no PAYLOAD: all is in the header,
which its CRC-32 covers, and the device's tag of it too.

The classes come in descending order, so that a probability p_i is a fraction f_i of the most that it can be: what
its predecessors leave, or p_{i-1}, whichever is less. A code k of n stands for the middle of its cell,
f_i = u = (k + 1/2)/n; of the likeliest class for f_1 = 1 - (1 - u)^2, in finer steps where a device is sure. So
every code is a valid one. Bits and steps are those that lost least on photos (docs/opinion.md).
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.decision.belief import Belief
from semlink.frame import Frame, FrameError

MOST_CLASSES = 5
"""Classes that an opinion names, at most."""
LABEL_BITS = 10
CODE_BITS = (5, 4, 2, 2, 1)
"""Of each class's probability, the likeliest first."""
FIELDS_BYTES = 8
SHAPE = 224, 224, 3
"""Of the picture that an opinion is about: what the vision transformers take."""


@dataclass(frozen=True, eq=False)
class OpinionFrame(Frame):
    """One opinion.

    Attributes:
        labels: (K,) the likeliest classes, the likeliest first, each once, within 0..1023; K is 1 to 5.
        codes: (K,) of their probabilities: of the i-th within 0..2^CODE_BITS[i] - 1.
        payload: empty.
    """

    profile: ClassVar[int] = 3
    rules: ClassVar[tuple[str, ...]] = ("label",)

    labels: tuple[int, ...]
    codes: tuple[int, ...]
    payload: bytes = b""

    def __post_init__(self) -> None:
        """Raise FrameError unless every rule holds."""
        if not 1 <= len(self.labels) <= MOST_CLASSES or len(self.codes) != len(self.labels):
            raise FrameError("label", f"an opinion names 1 to {MOST_CLASSES} classes, each with its probability")
        if len(set(self.labels)) < len(self.labels):
            raise FrameError("label", f"an opinion names each class once, not {self.labels}")
        if not all(0 <= label < 1 << LABEL_BITS for label in self.labels):
            raise FrameError("label", f"labels must be within 0..{(1 << LABEL_BITS) - 1}, not {self.labels}")
        if not all(0 <= code < 1 << bits for code, bits in zip(self.codes, CODE_BITS, strict=False)):
            raise FrameError("label", f"codes of probabilities have {CODE_BITS} bits, not {self.codes}")
        self._check_payload()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the picture that the opinion is about."""
        return SHAPE

    @property
    def segment_bits(self) -> NDArray[np.int64]:
        """(0,): there is no payload."""
        return np.zeros(0, np.int64)

    def with_payload(self, payload: bytes) -> Self:
        """The frame itself: there is no other payload than none."""
        return type(self)(self.labels, self.codes, payload)

    def without(self, segments: ArrayLike) -> Self:
        """The frame itself: it has no segments that could be missing."""
        self._kept(segments)
        return self

    @property
    def fields(self) -> bytes:
        """Labels, then codes."""
        absent = MOST_CLASSES - len(self.labels)
        number = 0
        for label in (*self.labels, *absent * self.labels[:1]):
            number = number << LABEL_BITS | label
        for bits, code in zip(CODE_BITS, (*self.codes, *absent * (0,)), strict=True):
            number = number << bits | code
        return number.to_bytes(FIELDS_BYTES)

    @classmethod
    def fields_bytes(cls, header: memoryview) -> int:
        """Always the same."""
        return FIELDS_BYTES

    @classmethod
    def from_fields(cls, fields: bytes, payload: bytes) -> Self:
        """The frame of these header fields."""
        number = int.from_bytes(fields)
        codes = []
        for bits in reversed(CODE_BITS):
            codes.append(number & (1 << bits) - 1)
            number >>= bits
        labels = [number >> LABEL_BITS * place & (1 << LABEL_BITS) - 1 for place in range(MOST_CLASSES)]
        codes.reverse()
        labels.reverse()
        named = 1 + next((k for k, label in enumerate(labels[1:]) if label == labels[0]), MOST_CLASSES - 1)
        if set(labels[named:]) - {labels[0]} or any(codes[named:]):
            raise FrameError("label", f"nothing may follow the {named} classes that the opinion names")
        return cls(tuple(labels[:named]), tuple(codes[:named]), payload)

    def belief(self, classes: int) -> Belief:
        """What the opinion says.

        Args:
            classes: C, how many classes there are.

        Raises:
            FrameError: it names a class beyond these ("label").
        """
        if (beyond := max(self.labels)) >= classes:
            raise FrameError("label", f"the opinion names class {beyond} of a model of {classes} classes")
        probabilities: list[float] = []
        for place, code in enumerate(self.codes):
            probabilities.append(_fraction(place, code) * _most(probabilities))
        return Belief(np.array(self.labels), np.array(probabilities), classes)


def opinion_frame(belief: Belief) -> OpinionFrame:
    """The frame that says a belief: the likeliest 5 classes of those that it names.

    Each code is chosen knowing how those before it were rounded, so that no error adds to the next.

    Raises:
        FrameError: it names a class beyond what 10 bits can tell ("label").

    >>> said = opinion_frame(Belief.of([0.1, 0.6, 0.3]))
    >>> len(said.to_bytes()), said.belief(classes=3)
    (16, Belief(labels=array([1, 2, 0]), probabilities=array([0.58959961, 0.29497528, 0.10099697]), classes=3))
    """
    codes: list[int] = []
    said: list[float] = []
    for place, probability in enumerate(belief.probabilities[:MOST_CLASSES].tolist()):
        most = _most(said)
        codes.append(_code(place, min(probability / most, 1)))
        said.append(_fraction(place, codes[-1]) * most)
    return OpinionFrame(tuple(belief.labels[:MOST_CLASSES].tolist()), tuple(codes))


def _most(probabilities: list[float]) -> float:
    """The most that the next probability can be, in descending order, of those before it."""
    return min(probabilities[-1], 1 - sum(probabilities)) if probabilities else 1.0


def _fraction(place: int, code: int) -> float:
    """f of a code, within (0, 1)."""
    middle = (code + 0.5) / (1 << CODE_BITS[place])
    return 1 - (1 - middle) ** 2 if place == 0 else middle


def _code(place: int, fraction: float) -> int:
    """The code of the cell that f, within [0, 1], is in."""
    cells = 1 << CODE_BITS[place]
    even = 1 - math.sqrt(1 - fraction) if place == 0 else fraction
    return min(int(even * cells), cells - 1)
