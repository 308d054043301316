"""Confidence intervals of accuracies and of paired differences, by bootstrap over samples."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from experiments.data.image_sets import Example, view_groups
from experiments.evaluation.rows import from_hex

RESAMPLES = 2000
ANSWERS = {"single": "correct", "four_view": "correct_votes"}
"""The field of a row that has the correct answers, by the name of their accuracy."""

Samples = dict[str, list[str]]
"""The sample of each image (`single`), and of each group of views that vote together (`four_view`)."""


def accuracy(correct: Sequence[bool], samples: Sequence[str], *, seed: int = 0) -> dict[str, float | int]:
    """Share of correct answers with its 95 % interval, by bootstrap over samples.

    Images of one sample err together, so whole samples are drawn with replacement, not images.

    Args:
        correct: whether each image was answered correctly.
        samples: the sample that each image shows.
        seed: of the resampling.

    Returns:
        `accuracy`, `low` and `high` in [0, 1], and the numbers of `images` and `samples`.
    """
    middle, low, high, count = _mean(np.asarray(correct, float), samples, seed)
    return {"accuracy": middle, "low": low, "high": high, "images": len(correct), "samples": count}


def difference(
    first: Sequence[bool], second: Sequence[bool], samples: Sequence[str], *, seed: int = 0
) -> dict[str, float | int]:
    """By how much more often the first answers are correct, on the same images, with its 95 % interval.

    Paired: what makes an image hard for both cancels, so the interval is narrower than those of two accuracies.

    Args:
        first: whether each image was answered correctly one way.
        second: and another way.
        samples: the sample that each image shows.
        seed: of the resampling.

    Returns:
        `difference`, `low` and `high` in [-1, 1], and the numbers of `images` and `samples`.
    """
    gains = np.asarray(first, float) - np.asarray(second, float)
    middle, low, high, count = _mean(gains, samples, seed)
    return {"difference": middle, "low": low, "high": high, "images": len(gains), "samples": count}


def samples_of(examples: Sequence[Example]) -> Samples:
    """The samples that `paired_gain` resamples."""
    return {
        "single": [example.sample for example in examples],
        "four_view": [examples[first].sample for first, *_ in view_groups(examples)],
    }


def paired_gain(first: dict, second: dict, views: str, samples: Samples) -> dict[str, float | int] | None:
    """The first row's accuracy less the second one's, see `difference`.

    Args:
        first: a row.
        second: another one, of the same images.
        views: `single` or `four_view`.
        samples: of these images.

    Returns:
        None where there are no groups, or an older row lacks the correct votes.
    """
    ours, theirs = (row.get(ANSWERS[views]) for row in (first, second))
    if ours is None or theirs is None:
        return None
    count = len(samples[views])
    return difference(from_hex(ours, count), from_hex(theirs, count), samples[views])


def _mean(values: NDArray[np.float64], samples: Sequence[str], seed: int) -> tuple[float, float, float, int]:
    """Mean, ends of its 95 % bootstrap interval over samples, and the number of samples."""
    names, index = np.unique(np.asarray(samples), return_inverse=True)
    sums, sizes = np.bincount(index, weights=values), np.bincount(index)
    drawn = np.random.default_rng(seed).integers(len(names), size=(RESAMPLES, len(names)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), [0.025, 0.975])
    return float(sums.sum() / sizes.sum()), float(low), float(high), len(names)
