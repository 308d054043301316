"""Every allocation method by its name, for whoever chooses one by a setting."""

from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.checks import finite_vector
from semlink.source.iaq.allocation.incremental import incremental
from semlink.source.iaq.allocation.selection import attention_sum_threshold, attention_threshold, fixed, top_k
from semlink.source.iaq.allocation.water_filling import water_filling
from semlink.source.iaq.importance import importance_weights


class Method(StrEnum):
    """Names of the methods of IAQ, Section V."""

    INCREMENTAL = "incremental"
    WATER_FILLING = "water-filling"
    FIXED = "fixed"
    TOP_K = "top-k"
    ATTENTION_THRESHOLD = "attention-threshold"
    ATTENTION_SUM_THRESHOLD = "attention-sum-threshold"

    @property
    def has_threshold(self) -> bool:
        """The bits follow from a threshold, not from a budget."""
        return self in (Method.ATTENTION_THRESHOLD, Method.ATTENTION_SUM_THRESHOLD)


MethodName = Literal[
    "incremental", "water-filling", "fixed", "top-k", "attention-threshold", "attention-sum-threshold"
]
"""The same names for settings, whose help would show the enumeration's."""


def check_threshold(method: Method | MethodName, threshold: float | None) -> None:
    """ValueError unless a threshold is given just where the method has one."""
    method = Method(method)
    if method.has_threshold == (threshold is None):
        needs = "needs a" if method.has_threshold else "has no"
        raise ValueError(f"threshold: the method {method} {needs} threshold")


def allocate(
    method: Method | str,
    scores: ArrayLike,
    steps: int,
    *,
    gamma: float = 1.0,
    bit_error_rate: float = 0.0,
    threshold: float | None = None,
    max_bits: int = 8,
) -> NDArray[np.int64]:
    """Bits of each patch by the method of that name.

    Args:
        method: a `Method` or its name.
        scores: (N,) importance of each patch, in raster order.
        steps: sum of all M_i that may be spent; the methods with a threshold do not look at it.
        gamma: shape of the weight function (31), for incremental and water-filling.
        bit_error_rate: μ that the allocation assumes, for incremental and water-filling, which are the paper's
            modified methods where it is above 0.
        threshold: δ or δ_sum, for the methods that have one.
        max_bits: M_max.

    Returns:
        (N,) int64 bits M_i.

    Raises:
        ValueError: no such method, or an argument outside the ranges that the method names.

    >>> allocate("top-k", [0.2, 0.5, 0.3], 8)
    array([0, 8, 0])
    >>> allocate("attention-threshold", [0.2, 0.5, 0.3], 0, threshold=0.25)
    array([0, 8, 8])
    """
    try:
        method = Method(method)
    except ValueError:
        raise ValueError(f"method must be one of {', '.join(Method)}, not {method!r}") from None
    check_threshold(method, threshold)
    scores = finite_vector("scores", scores)
    match method:
        case Method.INCREMENTAL | Method.WATER_FILLING:
            fill = incremental if method == Method.INCREMENTAL else water_filling
            weights = importance_weights(scores, gamma=gamma)
            return fill(weights, steps, bit_error_rate=bit_error_rate, max_bits=max_bits)
        case Method.FIXED:
            return fixed(scores.size, steps, max_bits=max_bits)
        case Method.TOP_K:
            return top_k(scores, steps, max_bits=max_bits)
        case Method.ATTENTION_THRESHOLD | Method.ATTENTION_SUM_THRESHOLD:
            assert threshold is not None
            choose = attention_threshold if method == Method.ATTENTION_THRESHOLD else attention_sum_threshold
            return choose(scores, threshold, max_bits=max_bits)
