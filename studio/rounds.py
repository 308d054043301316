"""Rounds: the last ones in order, each with all that it takes to send it again; images by digest."""

import json
import zlib
from collections import OrderedDict
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any

MOST_ROUNDS, MOST_ROUND_BYTES = 500, 16 << 20
"""Rounds that are held, and their bytes, packed."""
MOST_RADIO = 20
"""Of the rounds, those whose radio views are held: the newest."""
MOST_IMAGE_BYTES = 32 << 20
"""Of all images that are held; those that were not used for longest go first, and a replay makes them anew."""
QUICKLY = 1
"""Level of zlib: maps shrink to a third, in a millisecond."""


@dataclass
class Round:
    """A round.

    Attributes:
        number: counts from 1.
        settings: knobs, by name.
        impairments: who met what, as the control plane has it; None where nobody could tell.
        pictures: what each camera saw, by its name: digest and viewpoint.
        of: number of the round that this one plays again.
        views: what cameras said of their views, by name.
        vote: of the object, once it is taken.
        failures: cameras whose view was given up, and why.
        passes: one of these failures may pass.
        changed: the channel was, while the round was sent: played again, it meets another one.
        is_over: nothing more will come.
        identical: of a round that plays another one again: every bit of every frame arrived as it did then; None:
            that cannot be said.
        why: why it cannot.
    """

    number: int
    settings: dict[str, Any]
    impairments: dict[str, Any] | None
    pictures: dict[str, dict[str, Any]]
    of: int | None = None
    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    vote: dict[str, Any] | None = None
    failures: dict[str, str] = field(default_factory=dict)
    passes: bool = False
    changed: bool = False
    is_over: bool = False
    identical: bool | None = None
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        """Everything, as the page takes it."""
        return {
            "number": self.number,
            "of": self.of,
            "settings": self.settings,
            "impairments": self.impairments,
            "views": self.views,
            "vote": self.vote,
            "failures": self.failures,
            "is_over": self.is_over,
            "changed": self.changed,
            "identical": self.identical,
            "why": self.why,
        }

    def compare_with(self, then: "Round") -> None:
        """Finds whether every bit arrived as in the round that this one plays again.

        That is known where all cameras that had a view then have one now, and where the channel was left alone.
        """
        missing = [name for name in then.views if name not in self.views]
        if not then.views:
            self.why = f"nothing arrived in round {then.number}"
        elif missing:
            self.why = f"missing: {', '.join(missing)}"
        elif self.received != then.received and (self.changed or then.changed):
            changed = self if self.changed else then
            self.why = f"other bits arrived, but the channel was changed while round {changed.number} was sent"
        else:
            self.identical = self.received == then.received

    def summary(self) -> dict[str, Any]:
        """What the timeline shows of it."""
        return {
            "number": self.number,
            "of": self.of,
            "identical": self.identical,
            "vote": self.vote and self.vote["name"],
            "views": {name: _summary(view) for name, view in self.views.items()},
        }

    @property
    def received(self) -> dict[str, str]:
        """Digests of all that arrived at the server, by camera."""
        return {name: view["received"] for name, view in self.views.items()}


def _summary(view: dict[str, Any]) -> dict[str, Any]:
    return {
        "bits": view["bits_on_air"]["uplink"],
        "flips": view["bits_flipped"],
        "ms": round(sum(view["stages_ms"].values()), 2),
        "confidence": round(view["top1"]["confidence"], 4),
        "name": view["top1"]["name"],
    }


@dataclass
class Rounds:
    """The last rounds: the newest, which still changes, and those before it, packed.

    Attributes:
        most_rounds: that are held.
        most_bytes: of those that are packed.
        newest: of them.
        packed_bytes: of those before it.
    """

    most_rounds: int = MOST_ROUNDS
    most_bytes: int = MOST_ROUND_BYTES
    newest: Round | None = None
    packed_bytes: int = 0
    _packed: OrderedDict[int, tuple[bytes, dict[str, Any]]] = field(default_factory=OrderedDict)
    _radio: OrderedDict[int, dict[str, bytes]] = field(default_factory=OrderedDict)

    def begin(
        self,
        settings: dict[str, Any],
        impairments: dict[str, Any] | None,
        pictures: dict[str, dict[str, Any]],
        of: int | None = None,
    ) -> Round:
        """A new round, the newest; the oldest are dropped where there are too many."""
        before, number = self.newest, 1
        if before is not None:
            number = before.number + 1
            packed = zlib.compress(json.dumps(asdict(before)).encode(), QUICKLY)
            self._packed[before.number] = packed, before.summary()
            self.packed_bytes += len(packed)
        while self._packed and (len(self._packed) >= self.most_rounds or self.packed_bytes > self.most_bytes):
            self.packed_bytes -= len(self._packed.popitem(last=False)[1][0])
        self.newest = Round(number, settings, impairments, pictures, of)
        return self.newest

    @property
    def oldest(self) -> int:
        """Number of the oldest round that is held; 0: there is none."""
        newest = self.newest.number if self.newest else 0
        return next(iter(self._packed), newest)

    def get(self, number: int) -> Round | None:
        """The round of a number, if it is held: the newest itself, of another one a copy."""
        if self.newest is not None and number == self.newest.number:
            return self.newest
        if number not in self._packed:
            return None
        return Round(**json.loads(zlib.decompress(self._packed[number][0])))

    def summaries(self) -> list[dict[str, Any]]:
        """Summary of each, from the oldest to the newest."""
        newest = [self.newest.summary()] if self.newest else []
        return [summary for _, summary in self._packed.values()] + newest

    def put_radio(self, number: int, name: str, radio: dict[str, Any] | None) -> None:
        """Holds a camera's radio view of the newest round; of another one it comes too late."""
        if self.newest is not None and number == self.newest.number:
            views = self._radio.setdefault(number, {})
            views[name] = zlib.compress(json.dumps(radio).encode(), QUICKLY)
        while self._radio and next(iter(self._radio)) <= number - MOST_RADIO:
            self._radio.popitem(last=False)

    def radio(self, number: int, name: str) -> bytes | None:
        """A camera's radio view of a round, as JSON, if it is held."""
        packed = self._radio.get(number, {}).get(name)
        return None if packed is None else zlib.decompress(packed)


@dataclass
class Images:
    """Files of images by their digests."""

    most_bytes: int = MOST_IMAGE_BYTES
    _held: OrderedDict[str, bytes] = field(default_factory=OrderedDict)
    _bytes: int = 0

    def put(self, data: bytes) -> str:
        """Holds a file; returns its digest."""
        digest = digest_of(data)
        if digest not in self._held:
            self._bytes += len(data)
        self._held[digest] = data
        self._held.move_to_end(digest)
        while self._bytes > self.most_bytes and len(self._held) > 1:
            self._bytes -= len(self._held.popitem(last=False)[1])
        return digest

    def get(self, digest: str) -> bytes | None:
        """The file of a digest, if it is held."""
        if digest in self._held:
            self._held.move_to_end(digest)
        return self._held.get(digest)

    def __contains__(self, digest: str) -> bool:
        """Whether it is held."""
        return digest in self._held


def digest_of(data: bytes) -> str:
    """Digest by which a file is known: 32 hexadecimal digits of its SHA-256."""
    return sha256(data).hexdigest()[:32]
