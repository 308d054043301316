"""Many views, one answer."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from semlink.checks import finite_vector


def majority_vote(labels: Sequence[int], confidences: ArrayLike) -> int:
    """The label that most views name (IAQ, Section V: the majority rule over single-view outcomes).

    Ties go to the highest summed confidence, then to the lowest label; the paper leaves them open.

    Args:
        labels: one label per view, at least one view.
        confidences: one confidence per view, as many as labels.

    Raises:
        ValueError: no labels, or as many confidences as labels are not given.

    >>> majority_vote([281, 285, 281, 340], [0.4, 0.9, 0.5, 0.6])
    281
    >>> majority_vote([281, 285], [0.4, 0.9])
    285
    """
    confidences = finite_vector("confidences", confidences)
    if len(labels) != confidences.size:
        raise ValueError(f"confidences must be as many as labels: {len(labels)}, not {confidences.size}")
    names, views = np.unique(np.asarray(labels), return_inverse=True)
    votes = np.bincount(views)
    # fsum rounds once, so that views that arrive in another order cannot elect another label.
    summed = np.array([math.fsum(confidences[views == view]) for view in range(names.size)])
    # lexsort orders by its last key first: most votes, then confidence, then the lowest label.
    return int(names[np.lexsort((names, -summed, -votes))[0]])
