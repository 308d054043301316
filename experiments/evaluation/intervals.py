"""Wilson score intervals of proportions, and the bootstrap over samples where images cluster.

Images of different samples are independent: their share of correct answers has Wilson's interval (1927), which
stays an interval at 0 and at 1. Several images of one sample, such as views of an object, err together: whole
samples are drawn with replacement.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.data.image_sets import Example, view_groups
from experiments.evaluation.rows import from_hex

RESAMPLES = 2000
ANSWERS = {"single": "correct", "four_view": "correct_votes"}
"""The field of a row that has the correct answers, by the name of their accuracy."""

Samples = dict[str, list[str]]
"""The sample of each image (`single`), and of each group of views that vote together (`four_view`)."""


def wilson(successes: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion, without continuity correction.

    Wilson, Probable inference, the law of succession, and statistical inference, Journal of the American
    Statistical Association 22 (1927) 209-212: the proportions p that differ from successes/count by at most z
    standard errors sqrt(p(1 - p)/count).

    Args:
        successes: number of successes, 0 to `count`.
        count: number of independent trials, 1 or more.
        confidence: within (0, 1).

    Returns:
        Its ends, within [0, 1].

    Raises:
        ValueError: an argument is out of its range.

    >>> [round(end, 4) for end in wilson(24, 24)]
    [0.862, 1.0]
    """
    if count < 1 or not 0 <= successes <= count:
        raise ValueError(f"successes must be within 0 and count, and count 1 or more, not {successes} of {count}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be within (0, 1), not {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, shrink = successes / count, 1 + z * z / count
    middle = (share + z * z / (2 * count)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    low = middle - half if successes > 0 else 0.0  # exactly, whatever rounding makes of the difference
    high = middle + half if successes < count else 1.0
    return low, high


def accuracy(correct: Sequence[bool], samples: Sequence[str], *, seed: int = 0) -> dict[str, float | int]:
    """Share of correct answers with its 95 % interval: Wilson's, or by bootstrap over samples.

    Where every image shows a sample of its own it is Wilson's. Images of one sample err together, so there whole
    samples are drawn with replacement, not images.

    Args:
        correct: whether each image was answered correctly.
        samples: the sample that each image shows.
        seed: of the resampling.

    Returns:
        `accuracy`, `low` and `high` in [0, 1], and the numbers of `images` and `samples`.
    """
    middle, low, high, count = _mean(np.asarray(correct, float), samples, seed)
    measured = {"accuracy": middle, "low": low, "high": high, "images": len(correct), "samples": count}
    measured["low"], measured["high"] = interval(measured)
    return measured


def interval(measured: Mapping[str, Any]) -> tuple[float, float]:
    """The 95 % interval of an accuracy, also of one that an older row has with the bootstrap's.

    The bootstrap of samples that are all answered correctly, or all incorrectly, has no width; the interval is
    then Wilson's for the number of samples.

    Args:
        measured: what `accuracy` returns, or a row has of it.

    Returns:
        Its ends, within [0, 1].
    """
    share, samples = measured["accuracy"], measured["samples"]
    if samples == measured["images"] or share in (0, 1):
        return wilson(round(share * samples), samples)
    return measured["low"], measured["high"]


def percent(measured: Mapping[str, Any]) -> tuple[float, float, float]:
    """An accuracy and the ends of its interval, see `interval`, in percent."""
    low, high = interval(measured)
    return 100 * measured["accuracy"], 100 * low, 100 * high


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
