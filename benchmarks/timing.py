"""Timing of several ways in turns, so that all meet the same load of the machine."""

import time
from collections.abc import Callable, Mapping

import numpy as np


def take_turns(ways: Mapping[str, Callable[[], object]], rounds: int, per_turn: int = 1) -> dict[str, np.ndarray]:
    """Seconds of every call of every way, after one call of each that is not counted.

    Args:
        ways: what to time, by name.
        rounds: how often each has its turn; the order is drawn anew each round.
        per_turn: calls in a turn.

    Returns:
        For each name (rounds · per_turn,) seconds.
    """
    order = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(rounds):
        for name in order.permutation(list(ways)):
            for _ in range(per_turn):
                started = time.perf_counter()
                ways[name]()
                seconds[name].append(time.perf_counter() - started)
    return {name: np.array(values) for name, values in seconds.items()}
