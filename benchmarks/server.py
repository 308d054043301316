"""Throughput of the server, as a share of what its vision transformer alone does with the same frames in batches.

python -m benchmarks.server
"""

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import httpx
import numpy as np
import torch

from benchmarks.processes import running
from benchmarks.tables import RHO, frames, show
from benchmarks.timing import take_turns
from semlink.source.registry import decode, read_frame
from semlink.v1 import link_pb2, link_pb2_grpc
from semlink.vision.engines import load_engine
from semlink.vision.vit import load_vit, normalise
from semlink.vision.weights import SERVER_MODEL

ROUNDS = 5
FRAMES = 64
BATCH = 8
CLIENTS = 3 * BATCH
THREADS = 1
WAIT_SECONDS = 600
BARE, GRPC, REST = "model alone, batches of 8", "gRPC", "REST"


def run(rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Has the same frames classified in each of three ways in turns, and prints a table.

    The model alone, run by the server's engine, gets its input ready made; the server is a process of its own,
    with as many threads for its model, and as many clients at once that it always has a batch waiting.

    Returns:
        `images_per_second` (medians) by way, and `ratios` to the model alone (medians over rounds).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    data = frames(FRAMES)
    model = load_vit(SERVER_MODEL)
    images = normalise(model, np.stack([decode(read_frame(frame)) for frame in data]))
    logits_of = load_engine("openvino", model, "logits", threads=THREADS)

    def alone() -> None:
        for batch in images.split(BATCH):
            logits_of(batch).softmax(-1)

    # Everybody waits: how much is refused under load is another benchmark.
    with (
        running("server", "--threads", THREADS, "--max-batch", BATCH, "--answer-within-seconds", WAIT_SECONDS) as (
            _,
            where,
        ),
        asyncio.Runner() as runner,
    ):
        link, rest = runner.run(_connect(where))

        async def over_grpc(frame: bytes) -> None:
            await link.Classify(link_pb2.ClassifyRequest(frame=frame), timeout=WAIT_SECONDS)

        async def over_rest(frame: bytes) -> None:
            answer = await rest.post(
                "/v1/classify", content=frame, headers={"Content-Type": "application/vnd.semlink.frame"}
            )
            answer.raise_for_status()

        seconds = take_turns(
            {
                BARE: alone,
                GRPC: lambda: runner.run(_all(over_grpc, data)),
                REST: lambda: runner.run(_all(over_rest, data)),
            },
            rounds,
        )
        runner.run(rest.aclose())
    torch.set_num_threads(threads)
    rates = {name: FRAMES / float(np.median(values)) for name, values in seconds.items()}
    ratios = {name: float(np.median(seconds[BARE] / seconds[name])) for name in (GRPC, REST)}
    show(
        f"{SERVER_MODEL}, {FRAMES} frames, ρ = {RHO}, {CLIENTS} clients, {THREADS} thread, median of {rounds}",
        ("images/s", "ratio"),
        [(name, f"{rate:.2f}", f"{ratios[name]:.3f}" if name in ratios else "") for name, rate in rates.items()],
    )
    return {"images_per_second": rates, "ratios": ratios}


async def _connect(where: dict[str, str]) -> tuple[link_pb2_grpc.LinkServiceStub, httpx.AsyncClient]:
    channel = grpc.aio.insecure_channel(where["grpc"])
    return link_pb2_grpc.LinkServiceStub(channel), httpx.AsyncClient(
        base_url=f"http://{where['http']}", timeout=WAIT_SECONDS, trust_env=False
    )


async def _all(classify: Callable[[bytes], Awaitable[None]], frames: list[bytes]) -> None:
    """All frames, by so many clients at once."""
    waiting = iter(frames)

    async def client() -> None:
        for frame in waiting:
            await classify(frame)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


if __name__ == "__main__":
    run()
