"""The weighted quantization error E_Q, what the bits are worth."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.source.iaq.distortion import one_error_bound


def error_costs(
    weights: ArrayLike, *, value_range: float = 1.0, values_per_patch: int = 768
) -> NDArray[np.float64]:
    """(N,) c_i = I[i]·D·(u_max - u_min)²/4, so that E_Q = Σ c_i·4^-B[i] (IA-QSMPA, equation 12).

    Args:
        weights: (N,) importance weights I[i] ≥ 0 of equation 43.
        value_range: u_max - u_min, > 0, in the unit whose square the error has.
        values_per_patch: D = P²C.
    """
    if not 0 < value_range < np.inf:
        raise ValueError(f"value_range must be finite and above 0, not {value_range}")
    return np.asarray(weights, dtype=np.float64) * values_per_patch * value_range**2 / 4


def weighted_error(costs: ArrayLike, bits: ArrayLike) -> float:
    """E_Q = Σ c_i·4^-B[i] of costs c_i from `error_costs` (IA-QSMPA, equation 12)."""
    return float(4 * np.asarray(costs, dtype=np.float64) @ one_error_bound(bits, 0.0))
