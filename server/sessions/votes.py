"""What the views of an object agree on, once it is settled which of them count."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from semlink.decision.voting import majority_vote
from server.metrics import Metrics
from server.predictions import Prediction

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Vote:
    """What the counted views of an object agree on: a label, and how many of these views named it."""

    label: int
    name: str
    votes: int
    views: int


Standing = Vote | int
"""An object's vote, or how many of its views are missing."""


def vote_of(counted: Sequence[Prediction]) -> Vote:
    """The vote of views of which each is given by its likeliest class; their order makes no difference."""
    label = majority_vote([first.label for first in counted], [first.confidence for first in counted])
    names = [first.name for first in counted if first.label == label]
    return Vote(label, min(names), votes=len(names), views=len(counted))


def tell_vote(object_id: str, vote: Vote, expected_views: int, metrics: Metrics) -> None:
    """Counts and logs a vote; called once for each, when it is taken."""
    metrics.count_vote(vote.votes, vote.views, expected_views)
    log.info("vote", object_id=object_id, **vars(vote), expected_views=expected_views)
