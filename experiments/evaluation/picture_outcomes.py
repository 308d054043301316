"""Outcomes of pictures that were sent: squared errors and answers, PSNR, and means with 95 % intervals.

Everything is paired: every way of sending gets the same pictures and the same draws of the channel, so that of two
ways the difference of each picture has less spread than the pictures themselves.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_ERROR = 1e-3
"""Smallest mean squared error that PSNR tells, so that it is never infinite; 78 dB."""
Z = 1.959964
"""Standard errors of a 95 % interval."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What became of pictures.

    Attributes:
        errors: (B,) mean squared errors on the scale of 0 to 255.
        labels: (B,) answers of the classifier; of no use where it does not know the classes.
        facts: what else there is to tell of the cell.
    """

    errors: NDArray[np.float64]
    labels: NDArray[np.int64]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def psnr(self) -> NDArray[np.float64]:
        """(B,) peak signal-to-noise ratios in dB: 10·log10(255²/MSE) (Kong and Zhang, equation 7)."""
        ratios: NDArray[np.float64] = 10 * np.log10(255**2 / np.maximum(self.errors, LEAST_ERROR))
        return ratios


def mean_interval(values: NDArray) -> dict[str, float]:
    """Mean of independent values and its 95 % interval by the central limit theorem.

    >>> mean_interval(np.array([1.0, 2.0, 3.0, 2.0]))
    {'mean': 2.0, 'low': 1.1998, 'high': 2.8002}

    Returns:
        `mean`, `low` and `high`, to four digits behind the point.
    """
    mean = float(np.mean(values))
    half = Z * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return {"mean": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4)}


def kept(path: Path, measure: Callable[[], Outcomes]) -> Outcomes:
    """Outcomes from a file, which is written where there is none yet."""
    if path.is_file():
        with np.load(path) as file:
            return Outcomes(file["errors"], file["labels"], json.loads(str(file["facts"])))
    found = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez(part, errors=found.errors, labels=found.labels, facts=np.array(json.dumps(found.facts)))
    part.replace(path)
    return found
