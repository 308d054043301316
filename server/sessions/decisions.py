"""Decision on an object: its majority vote, or first wishes for more layers of some of its views."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import structlog
from pydantic import Field

from semlink.decision.asking import Ask, ViewState
from semlink.decision.belief import Belief
from semlink.decision.fusing import together
from semlink.decision.voting import majority_vote
from server.metrics import Metrics
from server.model import Prediction

log = structlog.get_logger(__name__)

NOTHING, FOLLOWS, ON_WISH = range(3)
"""Numbers of `ClassifyRequest.More`, which says what may follow a layer."""
LAST_LAYER = 7


@dataclass(frozen=True)
class Wish:
    """One more layer of a view, which the server wants before it takes the vote."""

    layer: Annotated[int, Field(examples=[1], description="to be sent under the view's frame id")]
    most_bytes: Annotated[int, Field(examples=[1505], description="bytes of the frame, header included, at most")]
    side: Annotated[int, Field(examples=[160], description="longer side of the picture in pixels")]


@dataclass(frozen=True)
class Vote:
    """The vote of an object's counted views."""

    label: Annotated[int, Field(examples=[281])]
    name: Annotated[str, Field(examples=["tabby"])]
    votes: Annotated[int, Field(examples=[3], description="views that named this label")]
    views: Annotated[
        int, Field(examples=[4], description="views that were counted: all, or those in at the deadline")
    ]
    # Follows from the same views as the rest: votes are told apart without it.
    fused: Annotated[
        Prediction | None,
        Field(
            examples=[{"label": 281, "name": "tabby", "confidence": 0.97}],
            description="the class that all views together make likeliest",
        ),
    ] = field(default=None, compare=False)


@dataclass(frozen=True)
class CountedView:
    """What is known of a view by its counted layers.

    Attributes:
        named: the likeliest classes by all of them together, the likeliest first.
        classes: how many classes there are.
        layer: the last of them.
        more: what may follow it: NOTHING, FOLLOWS or ON_WISH.
        looks: how many of them are pictures.
    """

    named: tuple[Prediction, ...]
    classes: int
    layer: int
    more: int
    looks: int

    @property
    def belief(self) -> Belief:
        """How likely the classes are."""
        return belief_of(self.named, self.classes)


@dataclass(frozen=True)
class Standing:
    """How an object stands.

    Attributes:
        expected_views: how many views it expects; 0: it is unknown.
        views: all its views by their `view_key`; None: no layer of it is counted.
        is_due: the deadline is over and enough views are in: it is decided with what is there.
        is_overdue: some wish was not fulfilled in time: the vote is taken with what is there.
        decided: of how many counted layers the wishes are a consequence; 0: of none, nothing is wished yet.
        wishes: what is wished of the views.
        vote: the vote, once it is taken.
    """

    expected_views: int = 0
    views: Mapping[str, CountedView | None] = field(default_factory=dict)
    is_due: bool = False
    is_overdue: bool = False
    decided: int = 0
    wishes: Mapping[str, Wish] = field(default_factory=dict)
    vote: Vote | None = None

    @property
    def counted(self) -> dict[str, CountedView]:
        """The views of which a layer is counted, in the order of their keys, which is the same at every server."""
        return {key: view for key, view in sorted(self.views.items()) if view}

    @property
    def layers(self) -> int:
        """How many layers are counted."""
        return sum(view.layer + 1 for view in self.counted.values())

    @property
    def missing(self) -> int:
        """How many views are missing or incomplete."""
        return self.expected_views - sum(view.more != FOLLOWS for view in self.counted.values())


VoteStatus = Vote | Wish | int
"""An object's vote or, while there is none, what is wished of one's own view or how many views are missing."""

Asking = Callable[[Sequence[ViewState]], Sequence[Ask]]
"""Decision what to ask of views before the vote; see `semlink.decision.asking.decide`."""


def decide(standing: Standing, ask: Asking) -> Vote | dict[str, Wish] | None:
    """The vote, or new wishes by the views' keys; None: nothing is to be decided now.

    Depends on its arguments alone: two servers that share a store decide alike.
    """
    counted = standing.counted
    if standing.vote or not counted:
        return None
    if standing.is_overdue:
        return vote_of(list(counted.values()))
    if standing.decided == standing.layers or (standing.missing and not standing.is_due):
        return None
    states = [
        ViewState(view.belief, view.looks, view.more == ON_WISH and view.layer < LAST_LAYER)
        for view in counted.values()
    ]
    wishes: dict[str, Wish] = {}
    for each in ask(states):
        key = list(counted)[each.view]
        wishes[key] = Wish(counted[key].layer + 1, each.most_bytes, each.side)
    return wishes or vote_of(list(counted.values()))


def vote_of(counted: Sequence[CountedView]) -> Vote:
    """The vote of views; their order makes no difference."""
    firsts = [view.named[0] for view in counted]
    label = majority_vote([first.label for first in firsts], [first.confidence for first in firsts])
    names = {each.label: each.name for view in counted for each in view.named}
    votes = sum(first.label == label for first in firsts)
    whole = np.exp(together([view.belief for view in counted]).log_probabilities())
    likeliest = max(sorted(names), key=lambda each: whole[each])  # no view names others, so that none is likelier
    fused = Prediction(likeliest, names[likeliest], float(whole[likeliest]))
    return Vote(label, names[label], votes=votes, views=len(counted), fused=fused)


def belief_of(named: Sequence[Prediction], classes: int) -> Belief:
    """The belief that names some classes.

    Args:
        named: the likeliest first. As they are rounded, they may add up to a little more than 1, and some be 0.
        classes: how many classes there are.
    """
    named = [each for each in named if each.confidence > 0]
    scale = max(1.0, sum(each.confidence for each in named))
    probabilities = np.array([each.confidence for each in named]) / scale
    return Belief(np.array([each.label for each in named]), probabilities, classes)


def view_key(device_id: str) -> str:
    """Stands for the view of a device among those of an object: the SHA-256 of its id, which may hold anything."""
    return hashlib.sha256(device_id.encode("utf-8", "surrogatepass")).hexdigest()


def record_wishes(object_id: str, new: int, wishes: Mapping[str, Wish], metrics: Metrics) -> None:
    """Counts the new ones among an object's wishes, and logs all; called once for each decision that asks."""
    metrics.wishes.inc(new)
    most_bytes = sum(wish.most_bytes for wish in wishes.values())
    log.info("wishes", object_id=object_id, views=len(wishes), new=new, most_bytes=most_bytes)


def record_vote(object_id: str, vote: Vote, standing: Standing, metrics: Metrics) -> None:
    """Counts and logs a vote; called once for each, when it is taken."""
    metrics.count_vote(vote.votes, vote.views, standing.expected_views)
    if standing.is_overdue:
        metrics.overdue_votes.inc()
    told = {name: value for name, value in vars(vote).items() if name != "fused"}
    fused = vote.fused.label if vote.fused else None
    log.info("vote", object_id=object_id, **told, fused=fused, expected_views=standing.expected_views)
