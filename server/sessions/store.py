"""Session store: the interface that memory and Redis implement, and the types of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from server.batching import Recognition
from server.sessions.decisions import (
    NOTHING,
    Asking,
    CountedView,
    Standing,
    Vote,
    VoteStatus,
    Wish,
    decide,
    view_key,
)

LEASE_SECONDS = 3.0
"""Lifetime of a claim without renewal, in a store whose claims expire."""
MAX_VOTES = 1000
"""Latest votes of each owner that are listed, none of them for longer than an object is stored."""


def _ask_nothing(views: Sequence[object]) -> tuple[()]:
    return ()


@dataclass(frozen=True)
class Rules:
    """How many objects are stored for how long, and when and how they are decided.

    Attributes:
        max_objects: beyond so many, the one whose last view is the oldest is removed.
        ttl_seconds: an object is removed so long after its last new view, or layer of one.
        vote_after_seconds: so long after an object's first counted view, it is decided with the views that are in,
            complete or not; 0: only when all are.
        quorum: the fewest views that it is decided with at that deadline, unless it expects fewer.
        ask: what to ask of the views before the vote.
        wish_seconds: so long after its last new wish, an object's vote is taken with what is there.
    """

    max_objects: int
    ttl_seconds: float
    vote_after_seconds: float = 0.0
    quorum: int = 1
    ask: Asking = _ask_nothing
    wish_seconds: float = 5.0

    def decide(self, standing: Standing) -> Vote | dict[str, Wish] | None:
        """See `server.sessions.decisions.decide`."""
        return decide(standing, self.ask)


class ObjectName(NamedTuple):
    """Name of an object. Each owner has names of its own, so that no stranger's object is in its way.

    Attributes:
        object_id: as the devices give it.
        owner: whose API keys they show; empty where no keys are needed.
    """

    object_id: str
    owner: str


@dataclass(frozen=True)
class SubmittedView:
    """One layer of one device's view of an object.

    Attributes:
        object_id: the object that is viewed.
        device_id: the device that sent the view.
        frame_id: the device's count of its frames.
        expected_views: how many devices send a view of this object.
        fingerprint: equal for a frame and its retry, different for another frame. A retry may have met other bit
            errors, so it covers only what the channel protects.
        owner: whose API key the device shows.
        layer: 0 the first, such as an opinion; up to LAST_LAYER those that follow it.
        more: what may follow this layer: NOTHING, FOLLOWS or ON_WISH.
    """

    object_id: str
    device_id: str
    frame_id: int
    expected_views: int
    fingerprint: bytes
    owner: str = ""
    layer: int = 0
    more: int = NOTHING

    @property
    def object(self) -> ObjectName:
        """Name of the object."""
        return ObjectName(self.object_id, self.owner)

    @property
    def key(self) -> str:
        """Of the view among those of its object."""
        return view_key(self.device_id)

    def counted(self, recognition: Recognition, before: CountedView | None) -> CountedView:
        """What is known of the view with the answer to this layer, and what was before it."""
        looks = recognition.is_look + (before.looks if before else 0)
        return CountedView(recognition.named, recognition.classes, self.layer, self.more, looks)


@dataclass(frozen=True)
class TakenVote:
    """A vote in the list of the latest ones.

    Attributes:
        cursor: milliseconds since 1970 when it was taken, a dash, and a number; later votes have higher ones.
        object_id: the object.
        expected_views: how many views the object expected.
        vote: the vote.
    """

    cursor: str
    object_id: str
    expected_views: int
    vote: Vote


Outcome = Literal[
    "claimed", "busy", "answered", "another", "unexpected", "superfluous", "complete", "early",  # of a claim
    "counted", "late", "lost",  # of a settlement
    "known", "unknown", "done",
]  # fmt: skip


@dataclass(frozen=True)
class StoreReply:
    """The answer of a store.

    Attributes:
        outcome: what was found or done.
        standing: how the object stands, its views by their keys.
        recognition: of an `answered` layer; or, where one after the first is `claimed`, of the first.
        frame_id: of a claim refused for `another` frame: the frame that the device sent before.
        seconds_left: of the same: until the object is removed.
        removed_objects: of a settlement: how many objects were removed to make room.
    """

    outcome: Outcome
    standing: Standing
    recognition: Recognition | None = None
    frame_id: int = 0
    seconds_left: float = 0.0
    removed_objects: int = 0

    def status(self, key: str = "") -> VoteStatus:
        """The object's vote or, while there is none, what is wished of a view or how many are missing."""
        return self.standing.vote or self.standing.wishes.get(key) or self.standing.missing


class SessionStore(Protocol):
    """Objects with their views and votes. Any call may be repeated: the same token gets the same answer.

    What is to be decided of an object is decided before the store replies, and before it counts another layer.

    Every method but `close` raises StoreAway where the store can't be reached.
    """

    async def claim(self, view: SubmittedView, token: str) -> StoreReply:
        """Reserves a layer for the caller, who is to have it recognised.

        Returns:
            `claimed`; `busy`, another call has claimed it, or the layer before it; `answered`, with the
            recognition; or a refusal: `another` (the device sent another frame), `unexpected` (another number of
            views is expected), `superfluous` (all views are taken), `complete` (nothing was to follow the layer
            before), or `early` (there is no layer before).
        """

    async def renew(self, view: SubmittedView, token: str) -> None:
        """Prolongs a claim, where claims expire."""

    async def release(self, view: SubmittedView, token: str) -> None:
        """Ends a claim without an answer; the layer may be claimed again."""

    async def settle(self, view: SubmittedView, token: str, recognition: Recognition) -> StoreReply:
        """Stores the answer to a claimed layer, and counts it if the vote has not been taken.

        Returns:
            `counted`; `late`, after the vote; or `lost`, the claim has expired.
        """

    async def look_up(self, names: Sequence[ObjectName]) -> list[StoreReply]:
        """The status of each object: `known`, or `unknown` where no view is stored or claimed."""

    async def votes(self, owner: str, after: str, limit: int) -> list[TakenVote]:
        """An owner's votes, the oldest first: the first after a cursor, or else (`after` is empty) the latest."""

    async def probe(self) -> None:
        """Finds out whether the store can be reached."""

    @property
    def is_away(self) -> bool:
        """Whether the last call did not reach it."""

    async def close(self) -> None:
        """Closes connections."""
