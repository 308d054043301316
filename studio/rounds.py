"""Rounds: the last ones in order, each with all that it takes to send it again; images by digest."""

import json
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

MOST_ROUNDS, MOST_RADIO = 500, 20
"""Rounds that are held, and those of them whose radio views are."""
MOST_IMAGE_BYTES = 64 << 20
"""Of all images that are held; those that were not used for longest go first, and a replay makes them anew."""


@dataclass
class Round:
    """A round.

    Attributes:
        number: counts from 1.
        noise: its number among the noises of its seed; see `LinkSettings.frame_id`.
        settings: knobs, by name.
        impairments: who met what, as the control plane has it; None where nobody could tell.
        pictures: what each camera saw, by its name: digest and viewpoint.
        of: number of the round that this one plays again.
        views: what cameras said of their views, by name, but their maps.
        maps: these, as JSON.
        radio: radio views by camera, as JSON; of the newest rounds alone.
        vote: of the object, once it is taken.
        failures: cameras whose view was given up, and why.
        passes: one of these failures may pass.
        is_over: nothing more will come.
        identical: of a round that plays another one again: every bit of every frame arrived as it did then.
    """

    number: int
    noise: int
    settings: dict[str, Any]
    impairments: dict[str, Any] | None
    pictures: dict[str, dict[str, Any]]
    of: int | None = None
    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    maps: dict[str, str] = field(default_factory=dict)
    radio: dict[str, str] = field(default_factory=dict)
    vote: dict[str, Any] | None = None
    failures: dict[str, str] = field(default_factory=dict)
    passes: bool = False
    is_over: bool = False
    identical: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """Everything, as the page takes it."""
        return {
            "number": self.number,
            "noise": self.noise,
            "of": self.of,
            "settings": self.settings,
            "impairments": self.impairments,
            "views": {name: view | {"maps": json.loads(self.maps[name])} for name, view in self.views.items()},
            "vote": self.vote,
            "failures": self.failures,
            "is_over": self.is_over,
            "identical": self.identical,
        }

    def take(self, name: str, view: dict[str, Any]) -> None:
        """Takes in what a camera says of its view."""
        self.views[name] = {key: value for key, value in view.items() if key != "maps"}
        self.maps[name] = json.dumps(view["maps"])

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
    """The last rounds."""

    _rounds: OrderedDict[int, Round] = field(default_factory=OrderedDict)
    _next: int = 1

    def begin(
        self,
        noise: int,
        settings: dict[str, Any],
        impairments: dict[str, Any] | None,
        pictures: dict[str, dict[str, Any]],
        of: int | None = None,
    ) -> Round:
        """A new round, the newest; the oldest is dropped where there are too many."""
        made = Round(self._next, noise, settings, impairments, pictures, of)
        self._rounds[made.number] = made
        self._next += 1
        if len(self._rounds) > MOST_ROUNDS:
            self._rounds.popitem(last=False)
        if old := self._rounds.get(made.number - MOST_RADIO):
            old.radio.clear()
        return made

    def get(self, number: int) -> Round | None:
        """The round of a number, if it is held."""
        return self._rounds.get(number)

    @property
    def newest(self) -> Round | None:
        """The newest one."""
        return next(reversed(self._rounds.values()), None)

    def __iter__(self) -> Iterator[Round]:
        """From the oldest to the newest."""
        return iter(self._rounds.values())


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
