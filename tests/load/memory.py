"""Resident memory of processes over time, from /proc."""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from scipy import stats

PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20
PERIOD_SECONDS = 1.0
SETTLING_SHARE = 0.5
"""Of a run, before memory is expected to be flat: caches fill, allocators find their size."""


def resident_mib(pid: int) -> float:
    """Resident memory of a process now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_MIB


class MemoryWatch:
    """Samples processes, by name, while this context lives; `samples`: (second, MiB) of each."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        """`pids` by name."""
        self._pids, self._end = pids, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.samples: dict[str, list[tuple[float, float]]] = {name: [] for name in pids}

    def __enter__(self) -> Self:
        """Begins."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends."""
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        began = time.monotonic()
        while True:
            for name, pid in self._pids.items():
                self.samples[name].append((time.monotonic() - began, resident_mib(pid)))
            if self._end.wait(PERIOD_SECONDS):
                return


def slope(samples: Sequence[tuple[float, float]]) -> float:
    """MiB a minute by which memory grows once it has settled, over the later part of the samples.

    Allocators take and give back some MiB at once; the median of the slopes between all pairs of samples (Theil,
    Sen) says nothing of one such step, and all of growth that goes on.
    """
    seconds, mib = np.array(samples).T
    later = seconds >= SETTLING_SHARE * seconds[-1]
    if later.sum() < 3:
        raise ValueError(f"too few samples for a slope: {later.sum()} once memory has settled, of {len(samples)}")
    return 60 * float(stats.theilslopes(mib[later], seconds[later]).slope)
