"""How sure a measured accuracy is."""

from collections.abc import Sequence

import numpy as np

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
    names, index = np.unique(np.asarray(things), return_inverse=True)
    right = np.bincount(index, weights=np.asarray(correct, float))
    sizes = np.bincount(index)
    drawn = np.random.default_rng(seed).integers(len(names), size=(RESAMPLES, len(names)))
    resampled = right[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return {
        "accuracy": float(right.sum() / sizes.sum()),
        "low": float(low),
        "high": float(high),
        "images": len(correct),
        "things": len(names),
    }
