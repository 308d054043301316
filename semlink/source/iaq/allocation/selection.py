"""Fixed-Q, top-k and attention thresholds: the same bits for all patches, or all bits for some."""

from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.checks import finite_vector, integer_within
from semlink.source.iaq.allocation.methods import AllocationMethod, register


def fixed(count: SupportsIndex, steps: SupportsIndex, *, max_bits: int = 8) -> NDArray[np.int64]:
    """Equal bits for every patch (IAQ, Section V, Fixed-Q); what is left over goes to the lowest indices.

    The paper knows only budgets that divide evenly.

    Args:
        count: number of patches N, ≥ 1.
        steps: sum of all M_i, from 0 to N·max_bits.
        max_bits: most bits of a patch M_max, at most 16.

    Returns:
        (N,) int64 bits.

    >>> fixed(3, 8)
    array([3, 3, 2])
    """
    count = integer_within("count", count, 1, 2**22)
    max_bits = integer_within("max_bits", max_bits, 0, 16)
    share, rest = divmod(integer_within("steps", steps, 0, count * max_bits), count)
    return np.where(np.arange(count) < rest, share + 1, share)


def top_k(scores: ArrayLike, steps: SupportsIndex, *, max_bits: int = 8) -> NDArray[np.int64]:
    """All bits for the k patches with the highest scores, none for the others (IAQ, Section V, Top-k).

    k = steps // max_bits, as many as the budget pays for; a remainder is left unspent.

    Args:
        scores: (N,) importance of each patch.
        steps: sum of all M_i, from 0 to N·max_bits.
        max_bits: most bits of a patch M_max, from 1 to 16.

    Returns:
        (N,) int64 bits, 0 or max_bits.

    >>> top_k([0.2, 0.5, 0.3], 17)
    array([0, 8, 8])
    """
    scores = finite_vector("scores", scores)
    max_bits = integer_within("max_bits", max_bits, 1, 16)
    count = integer_within("steps", steps, 0, scores.size * max_bits) // max_bits
    return _all_bits_for(np.argsort(-scores, kind="stable")[:count], scores.size, max_bits)


def attention_threshold(scores: ArrayLike, threshold: float, *, max_bits: int = 8) -> NDArray[np.int64]:
    """All bits for the patches whose score exceeds a threshold δ, none for the others (IAQ, Section V, AT).

    The budget follows from the image; δ is tuned to a mean rate over a set of images.

    Args:
        scores: (N,) importance of each patch.
        threshold: δ; the paper looks between 0.001 and 0.01.
        max_bits: most bits of a patch M_max, at most 16.

    Returns:
        (N,) int64 bits, 0 or max_bits.

    >>> attention_threshold([0.2, 0.5, 0.3], 0.25)
    array([0, 8, 8])
    """
    scores, threshold = finite_vector("scores", scores), _finite(threshold)
    max_bits = integer_within("max_bits", max_bits, 0, 16)
    return _all_bits_for(np.flatnonzero(scores > threshold), scores.size, max_bits)


def attention_sum_threshold(scores: ArrayLike, threshold: float, *, max_bits: int = 8) -> NDArray[np.int64]:
    """All bits for the highest scores until their sum exceeds a threshold δ_sum (IAQ, Section V, AST).

    The patch with which the sum exceeds it is the last that gets bits. The budget follows from the image;
    δ_sum is tuned to a mean rate over a set of images.

    Args:
        scores: (N,) importance of each patch, ≥ 0.
        threshold: δ_sum; the paper looks between 0.3 and 0.9 of attention that sums to 1.
        max_bits: most bits of a patch M_max, at most 16.

    Returns:
        (N,) int64 bits, 0 or max_bits.

    >>> attention_sum_threshold([0.2, 0.5, 0.3], 0.6)
    array([0, 8, 8])
    """
    scores, threshold = finite_vector("scores", scores), _finite(threshold)
    if (scores < 0).any():
        raise ValueError("scores must be 0 or more")
    max_bits = integer_within("max_bits", max_bits, 0, 16)
    descending = np.argsort(-scores, kind="stable")
    before = np.cumsum(scores[descending]) - scores[descending]
    return _all_bits_for(descending[before <= threshold], scores.size, max_bits)


def _all_bits_for(chosen: NDArray[np.intp], count: int, max_bits: int) -> NDArray[np.int64]:
    bits = np.zeros(count, np.int64)
    bits[chosen] = max_bits
    return bits


def _finite(threshold: float) -> float:
    if not np.isfinite(threshold):
        raise ValueError(f"threshold must be finite, not {threshold}")
    return float(threshold)


register(
    AllocationMethod("fixed", lambda problem: fixed(problem.scores.size, problem.steps, max_bits=problem.max_bits))
)
register(
    AllocationMethod("top-k", lambda problem: top_k(problem.scores, problem.steps, max_bits=problem.max_bits))
)
register(
    AllocationMethod(
        "attention-threshold",
        lambda problem: attention_threshold(problem.scores, problem.threshold, max_bits=problem.max_bits),
        has_threshold=True,
    )
)
register(
    AllocationMethod(
        "attention-sum-threshold",
        lambda problem: attention_sum_threshold(problem.scores, problem.threshold, max_bits=problem.max_bits),
        has_threshold=True,
    )
)
