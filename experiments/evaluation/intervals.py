"""How sure a measured accuracy is."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000


def accuracy(correct: Sequence[bool], things: Sequence[str], *, seed: int = 0) -> dict[str, float | int]:
    """Share of correct answers with its 95 % interval, by bootstrap over things.

    Images of one thing err together, so whole things are drawn with replacement, not images.

    Args:
        correct: whether each image was answered correctly.
        things: what each image shows.
        seed: of the resampling.

    Returns:
        `accuracy`, `low` and `high` in [0, 1], and the numbers of `images` and `things`.
    """
    middle, low, high, count = _mean(np.asarray(correct, float), things, seed)
    return {"accuracy": middle, "low": low, "high": high, "images": len(correct), "things": count}


def difference(
    first: Sequence[bool], second: Sequence[bool], things: Sequence[str], *, seed: int = 0
) -> dict[str, float | int]:
    """By how much more often the first answers are correct, on the same images, with its 95 % interval.

    Paired: what makes an image hard for both cancels, so the interval is narrower than those of two accuracies.

    Args:
        first: whether each image was answered correctly one way.
        second: and another way.
        things: what each image shows.
        seed: of the resampling.

    Returns:
        `difference`, `low` and `high` in [-1, 1], and the numbers of `images` and `things`.
    """
    gains = np.asarray(first, float) - np.asarray(second, float)
    middle, low, high, count = _mean(gains, things, seed)
    return {"difference": middle, "low": low, "high": high, "images": len(gains), "things": count}


def _mean(values: NDArray[np.float64], things: Sequence[str], seed: int) -> tuple[float, float, float, int]:
    """Mean, ends of its 95 % bootstrap interval over things, and the number of things."""
    names, index = np.unique(np.asarray(things), return_inverse=True)
    sums, sizes = np.bincount(index, weights=values), np.bincount(index)
    drawn = np.random.default_rng(seed).integers(len(names), size=(RESAMPLES, len(names)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), [0.025, 0.975])
    return float(sums.sum() / sizes.sum()), float(low), float(high), len(names)
