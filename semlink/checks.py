"""Checks of arguments at the library's edges: each names the argument and says what it must be."""

import operator
from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray


def finite_vector(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """`values` as a non-empty (N,) float64 array of finite numbers, or ValueError."""
    try:
        vector = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be numbers, not {type(values).__name__}") from None
    if vector.ndim != 1 or vector.size == 0:
        raise ValueError(f"{name} must have shape (N,) with N at least 1, not {vector.shape}")
    if not np.isfinite(vector).all():
        raise ValueError(f"{name} must be finite")
    return vector


def integer_within(name: str, value: SupportsIndex, lowest: int, highest: int) -> int:
    """`value` as an int within [lowest, highest], or ValueError."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be an integer, not {value!r}") from None
    if not lowest <= number <= highest:
        raise ValueError(f"{name} must be within [{lowest}, {highest}], not {number}")
    return number
