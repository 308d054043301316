"""Fusing beliefs, log-linear pooling: a device's opinion with a server's look, and the views of one object.

Log-linear pooling (Genest and Zidek, Combining Probability Distributions, Statistical Science 1986, section 3)
multiplies powers of probabilities. A weight of 1 takes a belief as it is, one below 1 as surer than it should be,
as is that of a model on a picture that its codec has blurred.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, softmax

from semlink.checks import finite_vector
from semlink.decision.belief import Belief
from semlink.decision.calibration import Rung


def fuse(opinion: Belief | None, look: ArrayLike, rung: Rung) -> Belief:
    """What an opinion and a look at a picture of the same view say together.

    Args:
        opinion: the device's; None where it gave none, and the look speaks for itself, unweighted.
        look: (C,) natural logarithms of the server's probabilities, up to a constant.
        rung: what the picture was coded with, whose weights are taken.

    Raises:
        ValueError: the look has not the opinion's number of classes.
    """
    seen = finite_vector("look", look)
    if opinion is None:
        return Belief.of(_normalised(seen))
    if opinion.classes != seen.size:
        raise ValueError(f"look must have the opinion's {opinion.classes} classes, not {seen.size}")
    return Belief.of(
        _normalised(rung.opinion_weight * opinion.log_probabilities() + rung.look_weight * log_softmax(seen))
    )


def together(views: Sequence[Belief]) -> Belief:
    """What all views of an object say together: their logarithms' sum over the square root of their number.

    The root stands between views that say the same thing, whose mean is the right sum, and views that know nothing
    of one another. It does not change which class is the likeliest.

    Args:
        views: at least one, all of the same classes.

    Raises:
        ValueError: there are none, or their numbers of classes differ.
    """
    if not views:
        raise ValueError("views must be at least one")
    if len(numbers := {view.classes for view in views}) > 1:
        raise ValueError(f"views must be of the same classes, not of {sorted(numbers)}")
    logarithms = np.sum([view.log_probabilities() for view in views], axis=0)
    return Belief.of(_normalised(logarithms / np.sqrt(len(views))))


def _normalised(logarithms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities, none of them 0."""
    probabilities = np.maximum(softmax(logarithms), np.finfo(np.float64).tiny)
    return np.asarray(probabilities / max(probabilities.sum(), 1.0))
