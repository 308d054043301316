"""The queue before the model: bounded, emptied in batches, left by those for whom nobody waits any more."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Generic, TypeVar

from opentelemetry import trace

from semlink.service import tracing
from server.metrics import Metrics
from server.pending import Pending
from server.predictions import Prediction, Recognition
from server.refusals import Expired, Overloaded
from server.speed import Speed

DECODERS = 2
"""Threads that decode: a large picture in one of them does not hold up the frames behind it."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Looked:
    """What a look at a batch found: the classes of each image, and seconds to prepare the batch and to look."""

    predictions: Sequence[tuple[Prediction, ...]]
    prepare_seconds: float
    inference_seconds: float


@dataclass(frozen=True)
class _Decoded(Generic[Item]):
    item: Item
    began: float
    ended: float


class _Entry(Generic[Item]):
    """A place in the queue."""

    def __init__(self, abandon: Callable[["_Entry[Item]"], None]) -> None:
        self.asked, self.asked_by = time.perf_counter(), trace.get_current_span()
        self.pending = Pending(partial(abandon, self))
        self.decoding: asyncio.Future[_Decoded[Item]]
        self.decoded: _Decoded[Item] | None = None

    def fail(self, error: BaseException) -> None:
        if not self.pending.answer.done():
            self.pending.answer.set_exception(error)


class Batcher(Generic[Item]):
    """Has images decoded as they come, and looked at in batches of those that wait when the model is free.

    Nobody waits for a batch to fill up. All of it runs in the event loop but `decode` and `look`, which run in
    threads; the model is never asked for two batches at once.

    Attributes:
        speed: of the model, measured; who is refused, and what refusals say, follows from it.
    """

    def __init__(
        self,
        look: Callable[[Sequence[Item]], Looked],
        thread: ThreadPoolExecutor,
        *,
        max_batch: int,
        queue_size: int,
        answer_within_seconds: float,
        metrics: Metrics,
    ) -> None:
        """Looks at up to `max_batch` images at once, in `thread`; up to `queue_size` wait for it.

        Of these, only such as can be expected to be answered within so many seconds; 0: the model's usual bound.
        """
        self._look, self._thread = look, thread
        self._max_batch, self._queue_size, self._metrics = max_batch, queue_size, metrics
        self._answer_within = answer_within_seconds
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")
        self._waiting: dict[_Entry[Item], None] = {}  # in the order they came
        self._looked_at = 0
        self.speed = Speed(max_batch)
        metrics.queue_depth.set_function(lambda: len(self._waiting))

    def check_room(self, deadline: float = math.inf) -> None:
        """Raises Overloaded where there is no use in waiting.

        That is where as many wait as may, or where the answer can't be expected within the bound, or before
        `deadline`, by the event loop's clock. Who finds nobody before it is never refused, however slow the
        model seems: only what it is asked tells whether it still is.
        """
        before = len(self._waiting) + self._looked_at
        if not before:
            return
        free = self.speed.wait(self._looked_at, len(self._waiting))
        if len(self._waiting) >= self._queue_size:
            raise Overloaded(f"{len(self._waiting)} requests wait for the model, and no more may", free)
        answer = self.speed.wait(self._looked_at, len(self._waiting) + 1)
        remaining = deadline - asyncio.get_running_loop().time()
        if answer > (bound := self._answer_within or self.speed.usual_bound):
            raise Overloaded(
                f"with {before} requests before it there would be an answer in {answer:.3g} s, later than the "
                f"{bound:.3g} s that the server allows",
                free,
            )
        if answer > remaining:
            raise Overloaded(
                f"with {before} requests before it there would be an answer in {answer:.3g} s, and its caller "
                f"waits for {max(remaining, 0):.3g} s",
                free,
            )

    def submit(self, decode: Callable[[], Item], deadline: float = math.inf) -> Pending:
        """Queues an image; whoever submits waits for it before anything else.

        Args:
            decode: makes the image; called in a thread. Its error is the answer's, and nobody else's.
            deadline: until when whoever submits waits, by the event loop's clock.

        Raises:
            Overloaded: as `check_room` does.
        """
        self.check_room(deadline)
        entry = _Entry(self._leave)
        self._waiting[entry] = None
        entry.decoding = asyncio.get_running_loop().run_in_executor(self._decoders, _decode, decode)
        entry.decoding.add_done_callback(partial(self._decoded, entry))
        return entry.pending

    def _leave(self, entry: _Entry[Item]) -> None:
        """Nobody waits for it any more; what is being looked at is looked at to the end."""
        if entry in self._waiting:
            del self._waiting[entry]
            entry.decoding.cancel()
            entry.pending.answer.cancel()

    def _decoded(self, entry: _Entry[Item], decoding: "asyncio.Future[_Decoded[Item]]") -> None:
        if decoding.cancelled():
            return
        if error := decoding.exception():
            self._waiting.pop(entry, None)
            entry.fail(error)
        else:
            entry.decoded = decoding.result()
            self._look_at_next()

    def _look_at_next(self) -> None:
        if self._looked_at:
            return
        loop = asyncio.get_running_loop()
        for entry in [entry for entry in self._waiting if entry.pending.deadline <= loop.time()]:
            del self._waiting[entry]
            entry.decoding.cancel()
            entry.fail(Expired())
        ready = ((entry, entry.decoded) for entry in self._waiting if entry.decoded is not None)
        batch = list(islice(ready, self._max_batch))
        if not batch:
            return
        for entry, _ in batch:
            del self._waiting[entry]
        self._looked_at = len(batch)
        looking = loop.run_in_executor(self._thread, self._look, [decoded.item for _, decoded in batch])
        looking.add_done_callback(partial(self._answer, batch, time.perf_counter()))

    def _answer(
        self,
        batch: Sequence[tuple[_Entry[Item], _Decoded[Item]]],
        began: float,
        looking: "asyncio.Future[Looked]",
    ) -> None:
        ended = time.perf_counter()
        self._looked_at = 0
        self._look_at_next()  # before anybody is told: the model has no time to lose
        if looking.cancelled():
            return
        if error := looking.exception():
            for entry, _ in batch:
                entry.fail(error)
            return
        looked = looking.result()
        self._measure(len(batch), looked)
        for (entry, decoded), predictions in zip(batch, looked.predictions, strict=True):
            decode_seconds = decoded.ended - decoded.began
            queue_seconds = began - entry.asked - decode_seconds
            self._metrics.decode_seconds.observe(decode_seconds)
            self._metrics.queue_wait_seconds.observe(queue_seconds)
            tracing.record("queue for decoder", entry.asked, decoded.began, parent=entry.asked_by)
            tracing.record("decode", decoded.began, decoded.ended, parent=entry.asked_by)
            tracing.record("queue for model", decoded.ended, began, parent=entry.asked_by)
            tracing.record("inference", began, ended, parent=entry.asked_by, batch=len(batch))
            if not entry.pending.answer.done():
                entry.pending.answer.set_result(
                    Recognition(
                        predictions,
                        decode_ms=1e3 * (decode_seconds + looked.prepare_seconds),
                        queue_ms=1e3 * queue_seconds,
                        inference_ms=1e3 * looked.inference_seconds,
                    )
                )

    def _measure(self, images: int, looked: Looked) -> None:
        self.speed.measure(images, looked.prepare_seconds + looked.inference_seconds)
        self._metrics.batch_size.observe(images)
        self._metrics.inference_seconds.observe(looked.inference_seconds)


def _decode(decode: Callable[[], Item]) -> _Decoded[Item]:
    began = time.perf_counter()
    item = decode()
    return _Decoded(item, began, time.perf_counter())
