"""Asking for looks: which views a server wants a picture of, and how large, before it takes the vote.

A look at a view makes it right more often; what that brings the vote depends on whether the vote hinges on this
view. Where a single view can't turn the vote, several may; they are then asked at once, so that few round trips
are needed. Pictures are worth their bits where the vote's expected accuracy grows by more than the bits' price.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semlink.decision.belief import Belief
from semlink.decision.calibration import Calibration, Rung
from semlink.decision.fusing import together


@dataclass(frozen=True)
class ViewState:
    """A view that is in."""

    belief: Belief
    """What its opinion and its looks say together."""
    looks: int
    """Pictures of it that were looked at."""
    may_be_asked: bool
    """Whether its device would send another layer."""


@dataclass(frozen=True)
class Ask:
    """A picture that is wanted of a view."""

    view: int
    """Its index."""
    side: int
    """Longer side, pixels."""
    most_bytes: int
    """Of the frame, header included."""


def decide(views: Sequence[ViewState], calibration: Calibration, price: float) -> tuple[Ask, ...]:
    """What to ask of the views before the vote; nothing: the vote can be taken.

    A view that was looked at is not asked again: measured, a second look gains nothing that the right first one
    would not have.

    Args:
        views: at least one, of an object.
        calibration: of the device and the server.
        price: accuracy, 0 to 1, that a bit must bring; 0 or more.

    Returns:
        One request for each view that is asked, all of the same rung: the views and the rung whose gain less the
        price of their bits is highest.

    Raises:
        ValueError: there are no views, their numbers of classes differ, or the price is negative.
    """
    if not price >= 0:
        raise ValueError(f"price must be 0 or more, not {price}")
    stand = _Stand([view.belief for view in views])
    open_views = np.array([view.may_be_asked and not view.looks for view in views])
    most = 0.0
    asks: tuple[Ask, ...] = ()
    for rung in calibration.rungs:
        better = rung.accuracy_after(stand.confidences) - stand.confidences
        order = np.argsort(-better, kind="stable")
        order = order[open_views[order] & (better[order] > 0)]
        for number, gain in enumerate(stand.gains(order, better, rung), 1):
            if (net := float(gain) - price * number * rung.bits) > most:
                most = net
                asks = tuple(Ask(int(view), rung.side, rung.budget_bytes) for view in sorted(order[:number]))
    return asks


class _Stand:
    """How a vote stands: who names which class, how surely, and how likely each class is by all views together."""

    def __init__(self, beliefs: Sequence[Belief]) -> None:
        whole = together(beliefs)
        labels = np.array([belief.label for belief in beliefs])
        self.confidences = np.array([belief.confidence for belief in beliefs])
        # Classes that are named or likely, ascending, and one column for all others together.
        classes = np.union1d(labels, whole.labels)
        likely = np.exp(whole.log_probabilities()[classes])
        self._likely = np.append(likely, max(1 - likely.sum(), 0.0))
        # A vote is counted first, and among equal ones the confidences, whose sum is below one vote when scaled.
        self._scale = 1 / (len(beliefs) + 1)
        named = labels[:, None] == np.append(classes, -1)
        self._votes = named * (1 + self._scale * self.confidences[:, None])
        self._doubt = 1 - self._likely[int(self._votes.sum(axis=0).argmax())]

    def gains(self, order: NDArray[np.intp], better: NDArray[np.float64], rung: Rung) -> NDArray[np.float64]:
        """(K,) expected gains of the vote's accuracy where the first 1..K views of an order are looked at.

        Mean gain of these views, times the probability that the vote is right if all of them are and wrong if none
        of them is; never more than what the vote may be wrong by now.
        """
        number = np.arange(1, order.size + 1)
        others = self._votes.sum(axis=0) - self._votes[order].cumsum(axis=0)
        sure = rung.accuracy_after(self.confidences[order]).cumsum()
        rivals = np.sort(others, axis=1)[:, -2:]
        rival = np.where(others == rivals[:, 1:], rivals[:, :1], rivals[:, 1:])
        wins = others + (number + self._scale * sure)[:, None] > rival
        right = (self._likely * wins).sum(axis=1)
        led = others.max(axis=1) > 0
        right_without = np.where(led, self._likely[others.argmax(axis=1)], 0.0)
        gain = better[order].cumsum() / number * (right - right_without)
        return np.asarray(np.minimum(gain, self._doubt))
