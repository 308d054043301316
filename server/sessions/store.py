"""Session store: the interface that memory and Redis implement, with the types and the voting rules they share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, Protocol

import structlog
from pydantic import Field

from semlink.decision.voting import majority_vote
from server.batching import Recognition
from server.metrics import Metrics
from server.model import Prediction

log = structlog.get_logger(__name__)

LEASE_SECONDS = 3.0
"""Lifetime of a claim without renewal, in a store whose claims expire."""
MAX_VOTES = 1000
"""Latest votes of each owner that are listed, none of them for longer than an object is stored."""


@dataclass(frozen=True)
class Rules:
    """How many objects are stored for how long, and when their votes are taken.

    Attributes:
        max_objects: beyond so many, the one whose last view is the oldest is removed.
        ttl_seconds: an object is removed so long after its last new view.
        vote_after_seconds: so long after an object's first counted view, its vote is taken with the views that
            are in; 0: only when all are.
        quorum: the fewest views that a vote at that deadline is taken with, unless the object expects fewer.
    """

    max_objects: int
    ttl_seconds: float
    vote_after_seconds: float = 0.0
    quorum: int = 1


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
    """One device's view of an object.

    Attributes:
        object_id: the object that is viewed.
        device_id: the device that sent the view.
        frame_id: the device's count of its frames.
        expected_views: how many devices send a view of this object.
        fingerprint: equal for a frame and its retry, different for another frame. A retry may have met other bit
            errors, so it covers only what the channel protects.
        owner: whose API key the device shows.
    """

    object_id: str
    device_id: str
    frame_id: int
    expected_views: int
    fingerprint: bytes
    owner: str = ""

    @property
    def object(self) -> ObjectName:
        """Name of the object."""
        return ObjectName(self.object_id, self.owner)


@dataclass(frozen=True)
class Vote:
    """The vote of an object's counted views."""

    label: Annotated[int, Field(examples=[281])]
    name: Annotated[str, Field(examples=["tabby"])]
    votes: Annotated[int, Field(examples=[3], description="views that named this label")]
    views: Annotated[
        int, Field(examples=[4], description="views that were counted: all, or those in at the deadline")
    ]


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


VoteStatus = Vote | int
"""An object's vote or, while there is none, how many of its views are missing."""

Outcome = Literal[
    "claimed", "busy", "answered", "another", "unexpected", "superfluous",  # of a claim
    "counted", "late", "lost",  # of a settlement
    "known", "unknown", "done",
]  # fmt: skip


@dataclass(frozen=True)
class StoreReply:
    """The answer of a store.

    Attributes:
        outcome: what was found or done.
        expected_views: how many views the object expects.
        status: its vote, or how many views are missing.
        recognition: of an `answered` view.
        frame_id: of a claim refused for `another` frame: the frame that the device sent before.
        seconds_left: of the same: until the object is removed.
        removed_objects: of a settlement: how many objects were removed to make room.
    """

    outcome: Outcome
    expected_views: int
    status: VoteStatus
    recognition: Recognition | None = None
    frame_id: int = 0
    seconds_left: float = 0.0
    removed_objects: int = 0


class SessionStore(Protocol):
    """Objects with their views and votes. Any call may be repeated: the same token gets the same answer.

    Every method but `close` raises StoreAway where the store can't be reached.
    """

    async def claim(self, view: SubmittedView, token: str) -> StoreReply:
        """Reserves a view for the caller, who is to have it recognised.

        Returns:
            `claimed`; `busy`, another call has claimed it; `answered`, with the recognition; or a refusal:
            `another` (the device sent another frame), `unexpected` (another number of views is expected), or
            `superfluous` (all views are taken).
        """

    async def renew(self, view: SubmittedView, token: str) -> None:
        """Prolongs a claim, where claims expire."""

    async def release(self, view: SubmittedView, token: str) -> None:
        """Ends a claim without an answer; the view may be claimed again."""

    async def settle(self, view: SubmittedView, token: str, recognition: Recognition) -> StoreReply:
        """Stores the answer to a claimed view, and counts it if the vote has not been taken.

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


def vote_of(counted: Sequence[Prediction]) -> Vote:
    """The vote of views given by their likeliest classes; their order makes no difference."""
    label = majority_vote([first.label for first in counted], [first.confidence for first in counted])
    names = [first.name for first in counted if first.label == label]
    return Vote(label, min(names), votes=len(names), views=len(counted))


def record_vote(object_id: str, vote: Vote, expected_views: int, metrics: Metrics) -> None:
    """Counts and logs a vote; called once for each, when it is taken."""
    metrics.count_vote(vote.votes, vote.views, expected_views)
    log.info("vote", object_id=object_id, **vars(vote), expected_views=expected_views)
