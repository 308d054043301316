"""What is measured without load, and phases of load: one run of Locust each."""

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from link import ROOT, Process
from memory import MemoryWatch, slope
from tally import percentiles
from workload import View

from semlink.v1 import link_pb2, link_pb2_grpc

CALL_SECONDS = 60
CLIENTS = 8
"""So many at once are always admitted: as many as the server's batches hold."""
LATE_SECONDS = 180.0
"""Beyond its length, for Locust to start, to have everything answered once and to wait for the last answers."""


class PhaseError(Exception):
    """A phase came to no result; the message says where its log is."""


@dataclass(frozen=True)
class Phase:
    """Requests at `rate` a second for so many seconds, and the limits that they must keep to."""

    name: str
    rate: float
    seconds: float
    limits: dict[str, float]
    max_slope: float | None = None
    """MiB a minute by which no process's memory may grow; None: not watched."""


async def _unloaded(server: Process, views: Sequence[View], seconds: float) -> tuple[dict[str, float], float]:
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        link = link_pb2_grpc.LinkServiceStub(channel)
        frames = itertools.cycle(view.frame for view in views)
        milliseconds: list[float] = []

        async def ask() -> None:
            began = time.perf_counter()
            await link.Classify(link_pb2.ClassifyRequest(frame=next(frames)), timeout=CALL_SECONDS)
            milliseconds.append(1e3 * (time.perf_counter() - began))

        async def client(end: float) -> None:
            while time.perf_counter() < end:
                await ask()

        await ask()
        milliseconds.clear()
        await client(time.perf_counter() + seconds)
        alone, began = percentiles(np.array(milliseconds)), time.perf_counter()
        milliseconds.clear()
        await asyncio.gather(*(client(began + seconds) for _ in range(CLIENTS)))
        return alone, len(milliseconds) / (time.perf_counter() - began)


def unloaded(server: Process, views: Sequence[View], seconds: float) -> tuple[dict[str, float], float]:
    """Percentiles in ms of calls one after the other, and answers a second where several always wait.

    Both take so many seconds.
    """
    return asyncio.run(_unloaded(server, views, seconds))


def run_phase(phase: Phase, server: Process, emulator: Process, workload: Path, out: Path, seed: int) -> dict:
    """Puts the load on server and emulator; what `Tally.summary` says, with what was broken, and memory.

    Raises:
        PhaseError: Locust did not get to its end.
    """
    summary, log = out / f"{phase.name}.json", out / f"{phase.name}.log"
    summary.unlink(missing_ok=True)
    flags = {
        "host": f"http://{server.http}",
        "rate": phase.rate,
        "run-time": f"{max(round(phase.seconds), 1)}s",
        "workload": workload,
        "seed": seed,
        "summary": summary,
        "html": out / f"{phase.name}-locust.html",
        **phase.limits,
    }
    command = [sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("locustfile.py")), "--headless",
               *_words(flags), "--link", server.grpc, emulator.grpc]  # fmt: skip
    with log.open("wb") as output, MemoryWatch({each.name: each.pid for each in (server, emulator)}) as memory:
        done = subprocess.run(
            command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, timeout=phase.seconds + LATE_SECONDS
        )
    if not summary.exists():
        raise PhaseError(f"Locust ended with {done.returncode} and no result; its log is {log}")
    result = json.loads(summary.read_text()) | {"rate": phase.rate, "locust_report": f"{phase.name}-locust.html"}
    if phase.max_slope is not None:
        slopes = {name: slope(samples) for name, samples in memory.samples.items()}
        result["memory"] = {"slopes": slopes, "samples": memory.samples}
        result["broken"] += [
            f"the {name}'s memory grows by {each:.2f} MiB a minute, more than {phase.max_slope}"
            for name, each in slopes.items()
            if each > phase.max_slope
        ]
    return result


def _words(flags: dict[str, object]) -> Iterator[str]:
    for name, value in flags.items():
        yield from (f"--{name}", str(value))
