"""Belief: how likely the classes of a picture are, the likeliest by name and all others together."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.checks import finite_vector, integer_within

MOST_NAMED = 8
"""Classes that a belief names, at most, where it is made of probabilities of all."""
LEAST = 1e-9
"""Probability of all classes that are not named together, at least: logarithms stay finite."""


@dataclass(frozen=True, eq=False)
class Belief:
    """Probabilities of some classes; what is left is spread evenly over all others.

    Raises:
        ValueError: this is no distribution.
    """

    labels: NDArray[np.int64]
    """(K,) the classes that are named, the likeliest first, each once, within 0..classes-1; K ≥ 1."""
    probabilities: NDArray[np.float64]
    """(K,) of these, descending, above 0; they add up to at most 1."""
    classes: int
    """C, how many classes there are, at least K."""

    def __post_init__(self) -> None:
        """Refuses what is no distribution."""
        labels, probabilities = np.asarray(self.labels), finite_vector("probabilities", self.probabilities)
        integer_within("classes", self.classes, 1, 2**31)
        if labels.dtype.kind not in "iu" or labels.shape != probabilities.shape or not labels.size:
            raise ValueError(f"labels must be integers, as many as probabilities: {probabilities.size}")
        if labels.min() < 0 or labels.max() >= self.classes or np.unique(labels).size < labels.size:
            raise ValueError(f"labels must be within 0..{self.classes - 1}, each once")
        if (probabilities <= 0).any() or (np.diff(probabilities) > 0).any() or probabilities.sum() > 1 + LEAST:
            raise ValueError("probabilities must be above 0 and descending, and add up to at most 1")
        object.__setattr__(self, "labels", labels.astype(np.int64))
        object.__setattr__(self, "probabilities", probabilities)

    @classmethod
    def of(cls, probabilities: ArrayLike, named: int = MOST_NAMED) -> Self:
        """The belief that names the likeliest of all classes; of equal ones, those of lower labels.

        >>> Belief.of([0.1, 0.6, 0.3], named=2)
        Belief(labels=array([1, 2]), probabilities=array([0.6, 0.3]), classes=3)

        Args:
            probabilities: (C,) of all classes, above 0; they add up to 1.
            named: how many to name, at least 1; C at most.
        """
        whole = finite_vector("probabilities", probabilities)
        likeliest = np.argsort(-whole, kind="stable")[:named]
        return cls(likeliest, whole[likeliest], whole.size)

    @property
    def label(self) -> int:
        """The likeliest class."""
        return int(self.labels[0])

    @property
    def confidence(self) -> float:
        """Its probability."""
        return float(self.probabilities[0])

    def log_probabilities(self) -> NDArray[np.float64]:
        """(C,) natural logarithms of the probabilities of all classes."""
        others = self.classes - self.labels.size
        rest = max(1 - float(self.probabilities.sum()), LEAST)
        whole = np.full(self.classes, np.log(rest / others) if others else 0.0)
        whole[self.labels] = np.log(self.probabilities)
        return whole
