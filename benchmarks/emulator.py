"""Throughput of the channel emulator on one core, beside the same upstream without an emulator before it.

python -m benchmarks.emulator
"""

import asyncio
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import grpc
import httpx
import numpy as np

from benchmarks.processes import running
from benchmarks.tables import RHO, frames, show
from benchmarks.timing import take_turns
from semlink.v1 import link_pb2, link_pb2_grpc

ROUNDS = 5
FRAMES = 600
CLIENTS = 16
MANY = 10_000
BER = 0.01
ALONE, NONE, BSC = "upstream alone", "emulator, none", f"emulator, bsc at μ = {BER}"


class Upstream(link_pb2_grpc.LinkServiceServicer):
    """Answers at once."""

    async def Classify(
        self, request: link_pb2.ClassifyRequest, context: grpc.aio.ServicerContext
    ) -> link_pb2.ClassifyResponse:
        return link_pb2.ClassifyResponse(predictions=[link_pb2.Prediction(label=281, name="tabby")])


def run(rounds: int = ROUNDS, many: int = MANY) -> dict[str, object]:
    """Sends the same frames straight to an upstream and through an emulator in turns, and prints a table.

    Upstream, emulator and clients are a process each; the emulator keeps to one core, and where the machine has
    several, the others to the rest. There are so many clients that a frame always waits.

    Returns:
        `frames_per_second` (medians) by way, `ratios` to the upstream alone (medians over rounds), and of the
        emulator the processor's time for a frame (`cpu_ms`) and its resident memory in MiB before and after
        `many` frames (`rss_mib`); `load`: processes that waited for a core, on average, while it ran.
    """
    (frame,) = frames(1)
    cores = sorted(os.sched_getaffinity(0))
    one, rest = cores[:1], cores[1:] or cores
    with (
        _upstream(rest) as upstream,
        running("channel_emulator", "--upstream", upstream, cores=one) as (process, where),
    ):
        os.sched_setaffinity(0, rest)
        with asyncio.Runner() as runner:
            direct, through = runner.run(_connect(upstream, where["grpc"]))

            def impaired(kind: str, **parameters: float) -> None:
                _put(where["http"], {"type": kind, **parameters})
                runner.run(_send(through, frame, FRAMES))

            seconds = take_turns(
                {
                    ALONE: lambda: runner.run(_send(direct, frame, FRAMES)),
                    NONE: lambda: impaired("none"),
                    BSC: lambda: impaired("bsc", ber=BER),
                },
                rounds,
            )
            before, spent = _rss(process.pid), _cpu_seconds(process.pid)
            runner.run(_send(through, frame, many))
            after, spent = _rss(process.pid), _cpu_seconds(process.pid) - spent
        os.sched_setaffinity(0, cores)
    rates = {name: FRAMES / float(np.median(values)) for name, values in seconds.items()}
    ratios = {name: float(np.median(seconds[ALONE] / seconds[name])) for name in (NONE, BSC)}
    cpu_ms = 1e3 * spent / many
    load = os.getloadavg()[0]
    show(
        f"emulator on one core, {FRAMES} frames, ρ = {RHO}, {CLIENTS} clients",
        ("frames/s", "ratio"),
        [(name, f"{rate:.0f}", f"{ratios[name]:.3f}" if name in ratios else "") for name, rate in rates.items()],
        caption=f"{cpu_ms:.2f} ms of its core, {before:.1f} -> {after:.1f} MiB after {many}, load {load:.1f}",
    )
    return {
        "frames_per_second": rates,
        "fastest_frames_per_second": {name: FRAMES / float(values.min()) for name, values in seconds.items()},
        "ratios": ratios,
        "cpu_ms": cpu_ms,
        "rss_mib": [before, after],
        "frames": many,
        "load": load,
    }


@contextmanager
def _upstream(cores: list[int]) -> Iterator[str]:
    """Where an upstream listens."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, cores), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.kill()


def _serve(where: Connection, cores: list[int]) -> None:
    os.sched_setaffinity(0, cores)

    async def serve() -> None:
        server = grpc.aio.server()
        link_pb2_grpc.add_LinkServiceServicer_to_server(Upstream(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        where.send(f"127.0.0.1:{port}")
        await server.wait_for_termination()

    asyncio.run(serve())


def _put(http: str, impairment: dict) -> None:
    answer = httpx.put(f"http://{http}/v1/impairments", json={"default": impairment}, trust_env=False)
    answer.raise_for_status()


async def _connect(*targets: str) -> list[link_pb2_grpc.LinkServiceStub]:
    return [link_pb2_grpc.LinkServiceStub(grpc.aio.insecure_channel(target)) for target in targets]


async def _send(link: link_pb2_grpc.LinkServiceStub, frame: bytes, count: int) -> None:
    """So many frames, by so many clients at once."""
    numbers = iter(range(count))

    async def client(device_id: str) -> None:
        for number in numbers:
            request = link_pb2.ClassifyRequest(frame=frame, device_id=device_id, frame_id=number)
            await link.Classify(request, timeout=60)

    await asyncio.gather(*(client(f"camera-{number}") for number in range(CLIENTS)))


def _rss(pid: int) -> float:
    """Resident memory in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _cpu_seconds(pid: int) -> float:
    """Time that all threads of a process have had a core, for themselves and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    run()
