"""Allocation methods by name: the registry, and `allocate`, which takes the name from a setting.

A method is a function in a file of this folder, which registers it. To add one, see docs/add-an-allocation.md.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.checks import finite_vector
from semlink.registry import Registry
from semlink.source.iaq.importance import importance_weights


@dataclass(frozen=True, eq=False)
class AllocationProblem:
    """What a method may use to choose the bits of the patches; see `allocate`."""

    scores: NDArray[np.float64]
    steps: int
    gamma: float
    bit_error_rate: float
    threshold: float
    """NaN for a method that has none."""
    max_bits: int

    @property
    def weights(self) -> NDArray[np.float64]:
        """(N,) weights w_i of the patches' errors (31)."""
        return importance_weights(self.scores, gamma=self.gamma)


@dataclass(frozen=True)
class AllocationMethod:
    """A method of bit allocation under its name."""

    name: str
    bits: Callable[[AllocationProblem], NDArray[np.int64]]
    """(N,) int64 bits M_i; pure."""
    weighs: bool = False
    """It uses γ and the bit error rate; otherwise they make no difference."""
    has_threshold: bool = False
    """The bits follow from a threshold, not from a budget."""

    def check_threshold(self, threshold: float | None) -> None:
        """ValueError unless a threshold is given just where the method has one."""
        if self.has_threshold == (threshold is None):
            needs = "needs a" if self.has_threshold else "has no"
            raise ValueError(f"threshold: the method {self.name} {needs} threshold")


_methods: Registry[AllocationMethod] = Registry("allocation method", "semlink.source.iaq.allocation")
register = _methods.register
allocation_methods = _methods.items
allocation_method = _methods.get


def allocate(
    method: str,
    scores: ArrayLike,
    steps: int,
    *,
    gamma: float = 1.0,
    bit_error_rate: float = 0.0,
    threshold: float | None = None,
    max_bits: int = 8,
) -> NDArray[np.int64]:
    """Bits of each patch by the method of that name.

    >>> allocate("incremental", [0.1, 0.2, 0.7], 8)
    array([0, 3, 5])
    >>> allocate("attention-threshold", [0.1, 0.2, 0.7], 0, threshold=0.15)
    array([0, 8, 8])

    Args:
        method: a name, such as "incremental".
        scores: (N,) importance of each patch, in raster order.
        steps: sum of all M_i that may be spent; a method with a threshold does not use it.
        gamma: shape of the weight function (31), for a method that weighs.
        bit_error_rate: μ that the allocation assumes, for a method that weighs; above 0 these are the paper's
            modified methods.
        threshold: δ or δ_sum, for a method that has one.
        max_bits: M_max.

    Returns:
        (N,) int64 bits M_i.

    Raises:
        ValueError: no such method, or an argument outside the ranges that the method names.
    """
    chosen = allocation_method(method)
    chosen.check_threshold(threshold)
    given = np.nan if threshold is None else threshold
    vector = finite_vector("scores", scores)
    return chosen.bits(AllocationProblem(vector, steps, gamma, bit_error_rate, given, max_bits))
