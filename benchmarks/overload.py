"""Overload: requests at twice a server's capacity, and how soon it answers or refuses them.

python -m benchmarks.overload
"""

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

from benchmarks.processes import running
from benchmarks.tables import frames, show
from semlink.v1 import link_pb2, link_pb2_grpc
from semlink.vision.weights import SERVER_MODEL

SECONDS = 60.0
ROUNDS = 4
"""Each has a part of the time: without load, at capacity, at twice of it. So all meet the same neighbours."""
BATCH = 8
FRAMES = 16
CALL_SECONDS = 120
OVERLOAD = 2.0
SEED = 0


@dataclass
class Measured:
    """Milliseconds of calls without load, and at twice the capacity of those answered and refused; the rest."""

    alone: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    batches: list[float] = field(default_factory=list)
    """Milliseconds of full batches in the model."""
    capacities: list[float] = field(default_factory=list)
    """Answers a second."""


def run(seconds: float = SECONDS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Sends frames to a server one by one, then as many as it can answer, then at random twice as often.

    At twice the capacity, calls are made when they are due, whatever became of those before (a Poisson process),
    and their times count from then on.

    Args:
        seconds: without load and at capacity; twice as long at twice the capacity.
        rounds: parts that this is done in.

    Returns:
        `ms` of calls alone, and at twice the capacity of those answered and refused (percentiles); the time of a
        full batch, the capacity, the share refused; and `ratio`: p99 of those answered over 3 × p99 alone plus one
        batch (`bar_ms`).
    """
    with running("server", "--threads", 1, "--max-batch", BATCH) as (_, where):
        measured = asyncio.run(_measure(where["grpc"], frames(FRAMES), seconds / rounds, rounds))
    results: dict[str, Any] = {
        "ms": {way: _percentiles(getattr(measured, way)) for way in ("alone", "answered", "refused")},
        "batch_ms": float(np.median(measured.batches)),
        "capacity_per_second": float(np.median(measured.capacities)),
        "refused_share": len(measured.refused) / (len(measured.answered) + len(measured.refused)),
    }
    bar = 3 * results["ms"]["alone"]["p99"] + results["batch_ms"]
    results |= {"bar_ms": bar, "ratio": results["ms"]["answered"]["p99"] / bar}
    show(
        f"{SERVER_MODEL}, {results['capacity_per_second']:.2f} answers/s at capacity, {seconds:.0f} s of each",
        ("calls", "p50 ms", "p99 ms"),
        [
            (way, str(times["count"]), f"{times['p50']:.1f}", f"{times['p99']:.1f}")
            for way, times in results["ms"].items()
        ],
        caption=f"a full batch: {results['batch_ms']:.0f} ms; refused: {results['refused_share']:.1%}; "
        f"p99 answered: {results['ratio']:.2f} of 3 × p99 alone + one batch",
    )
    return results


async def _measure(target: str, data: list[bytes], seconds: float, rounds: int) -> Measured:
    random, measured = np.random.default_rng(SEED), Measured()
    async with grpc.aio.insecure_channel(target) as channel:
        caller = _Caller(link_pb2_grpc.LinkServiceStub(channel), data)
        await caller.call(time.perf_counter())
        for _ in range(rounds):
            caller.answered.clear()
            await _one_by_one(caller, seconds)
            measured.alone += caller.answered
            caller.answered.clear()
            began = time.perf_counter()
            # As many as a batch holds are never refused.
            await asyncio.gather(*(_one_by_one(caller, seconds) for _ in range(BATCH)))
            capacity = len(caller.answered) / (time.perf_counter() - began)
            measured.capacities.append(capacity)
            measured.batches.append(1e3 * BATCH / capacity)
            caller.answered.clear()
            await _at_random(caller, OVERLOAD * capacity, 2 * seconds, random)
            measured.answered += caller.answered
            measured.refused += caller.refused
            caller.refused.clear()
    return measured


class _Caller:
    """Makes calls, and notes how long each took from when it was due, in ms."""

    def __init__(self, link: link_pb2_grpc.LinkServiceStub, data: list[bytes]) -> None:
        self._link, self._frames = link, itertools.cycle(data)
        self.answered: list[float] = []
        self.refused: list[float] = []

    async def call(self, due: float) -> None:
        try:
            await self._link.Classify(link_pb2.ClassifyRequest(frame=next(self._frames)), timeout=CALL_SECONDS)
            times = self.answered
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
            times = self.refused
        times.append(1e3 * (time.perf_counter() - due))


async def _one_by_one(caller: _Caller, seconds: float) -> None:
    end = time.perf_counter() + seconds
    while (now := time.perf_counter()) < end:
        await caller.call(now)


async def _at_random(caller: _Caller, rate: float, seconds: float, random: np.random.Generator) -> None:
    """Calls when they are due, whatever became of those before."""
    due = began = time.perf_counter()
    async with asyncio.TaskGroup() as calls:
        while (due := due + random.exponential(1 / rate)) < began + seconds:
            await asyncio.sleep(due - time.perf_counter())
            calls.create_task(caller.call(due))


def _percentiles(milliseconds: list[float]) -> dict[str, float]:
    if not milliseconds:
        return {"p50": 0.0, "p99": 0.0, "count": 0}
    p50, p99 = np.percentile(milliseconds, [50, 99])
    return {"p50": float(p50), "p99": float(p99), "count": len(milliseconds)}


if __name__ == "__main__":
    run()
