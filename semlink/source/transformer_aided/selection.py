"""Patch selection by attention: the threshold λ, and a random share among the patches below it."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.checks import finite_vector


def select(attention: ArrayLike, ratio: float, alpha: float, generator: np.random.Generator) -> NDArray[np.bool_]:
    """The patches whose tokens are sent (Mortaheb et al., arXiv 2405.01521, Section III and Algorithm 1, line 30).

    k = ⌊r·N⌋ tokens are paid for, all of which cost the same. Those with attention above the threshold λ are
    sent; λ is the lowest for which they are at most α·k. That makes ⌊α·k⌋ where no two scores are equal; among
    equal ones the lower index comes first. The rest is drawn at random among the other patches, all of them
    equally likely: the paper finds that a patch of little attention is not a patch of no meaning.

    With the same state of the generator, what a smaller r selects, a larger r selects too.

    Args:
        attention: (N,) attention of the class token on each patch.
        ratio: rate r: the share of tokens that is sent, within [0, 1].
        alpha: share α of the budget that goes by attention, within [0, 1].
        generator: draws the rest.

    Returns:
        (N,) mask M of ⌊r·N⌋ patches, in raster order.

    Raises:
        ValueError: an argument is outside these ranges.

    >>> select([0.1, 0.4, 0.2, 0.3], 0.5, 1.0, np.random.default_rng(0))
    array([False,  True, False,  True])
    """
    scores = finite_vector("attention", attention)
    for name, value in (("ratio", ratio), ("alpha", alpha)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be within [0, 1], not {value}")
    total = _whole(ratio * scores.size)
    by_attention = _whole(alpha * total)
    sent = np.zeros(scores.size, bool)
    sent[np.argsort(-scores, kind="stable")[:by_attention]] = True
    # Of one order of all patches, so that what a smaller rate draws, a larger one draws as well.
    order = generator.permutation(scores.size)
    sent[order[~sent[order]][: total - by_attention]] = True
    return sent


def _whole(count: float) -> int:
    """The whole part; the lift is for products of whole numbers: 0.29·100 is a little below 29."""
    return int(count + 1e-6)
