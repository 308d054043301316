"""When requests arrive: at random, at a rate, whatever becomes of those before."""

from collections.abc import Iterator

import numpy as np


def poisson(rate: float, random: np.random.Generator) -> Iterator[float]:
    """Seconds from the start to each arrival of a Poisson process, without end.

    Args:
        rate: arrivals a second, on average; > 0.
        random: what draws the gaps between them, which are exponential and independent.
    """
    at = 0.0
    while True:
        at += random.exponential(1 / rate)
        yield at
