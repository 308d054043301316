"""What every answer must be: asked for once, one by one, before there is any load."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from workload import View

from semlink.decision.voting import majority_vote
from semlink.v1 import link_pb2

CONFIDENCE_TOLERANCE = 0.01
"""An image gets a slightly other confidence in another batch: sums are taken in another order."""


class Disagreement(Exception):
    """The server contradicts itself before there is any load."""


@dataclass(frozen=True)
class Top:
    """The likeliest class of an answer."""

    label: int
    confidence: float

    @classmethod
    def of_json(cls, answer: dict) -> Self:
        """That of an answer over REST."""
        first = answer["predictions"][0]
        return cls(first["label"], first["confidence"])

    @classmethod
    def of_message(cls, answer: link_pb2.ClassifyResponse) -> Self:
        """That of an answer over gRPC."""
        return cls(answer.predictions[0].label, answer.predictions[0].confidence)

    def problem(self, other: "Top") -> str | None:
        """What is wrong with another answer to the same request; None: nothing."""
        if other.label != self.label:
            return f"class {other.label} instead of {self.label}"
        if abs(other.confidence - self.confidence) > CONFIDENCE_TOLERANCE:
            return f"confidence {other.confidence:.4f} instead of {self.confidence:.4f}"
        return None


@dataclass(frozen=True)
class Ballot:
    """The vote on an object: its label, and how many views named it of how many that were counted."""

    label: int
    votes: int
    views: int

    @classmethod
    def of_message(cls, vote: link_pb2.Vote) -> Self:
        """That of an answer over gRPC."""
        return cls(vote.label, vote.votes, vote.views)


def ballot(tops: Sequence[Top]) -> Ballot:
    """What views with these answers must agree on."""
    label = majority_vote([top.label for top in tops], [top.confidence for top in tops])
    return Ballot(label, sum(top.label == label for top in tops), len(tops))


@dataclass(frozen=True)
class Expected:
    """What views must be answered, as frames and as pictures, and what each photograph's four must agree on."""

    frames: dict[View, Top]
    pictures: dict[View, Top]
    votes: dict[str, Ballot]


def votes(frames: Mapping[View, Top]) -> dict[str, Ballot]:
    """By photograph, what its views must agree on."""
    return {
        photo: ballot([top for view, top in frames.items() if view.photo == photo])
        for photo in {view.photo for view in frames}
    }


class Objects:
    """Objects whose views are under way, and whether their votes come as they must."""

    def __init__(self, expected_votes: dict[str, Ballot]) -> None:
        """`expected_votes` by photograph."""
        self._expected, self._under_way = expected_votes, {}
        self.complete = 0

    def end(self, object_id: str, photo: str, given: Ballot | None, *, answered: bool, views: int) -> str | None:
        """One of an object's `views` has come to its end; what is wrong with its vote so far, None: nothing.

        Where all were answered, one of the answers must have told the vote.
        """
        ends, all_answered, told = self._under_way.pop(object_id, (0, True, False))
        ends, all_answered, told = ends + 1, all_answered and answered, told or given is not None
        if ends < views:
            self._under_way[object_id] = (ends, all_answered, told)
        elif all_answered:
            self.complete += 1
            if not told:
                return f"no vote with the last of {views} views"
        if given is not None and given != self._expected[photo]:
            return f"vote {given} instead of {self._expected[photo]}"
        return None
