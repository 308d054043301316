"""Micro-batching: a bounded queue before the model, which takes what waits in batches whenever it is free."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Generic, Self, TypeVar

from opentelemetry import trace

from semlink.service import tracing
from semlink.service.admission import CALLER
from server.latency import LatencyModel
from server.metrics import Metrics
from server.model import BatchResult, Prediction
from server.refusals import Expired, Overloaded, TooLate

FRAME_DECODERS = 2
"""Threads that decode frames."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Decoded(Generic[Item]):
    """A decoded image, and when its decoding began and ended, by `time.perf_counter`."""

    item: Item
    began: float
    ended: float


@dataclass(frozen=True)
class Recognition:
    """What is known of one image, and the milliseconds spent on it.

    Attributes:
        predictions: as many classes as are wanted, the likeliest first.
        decode_ms: from its bytes to pixels.
        queue_ms: waiting for the model.
        inference_ms: of the whole batch, which every image of it waits for.
        named: the classes that a belief names, the likeliest first; see `semlink.decision.belief`.
        classes: how many classes there are.
        is_look: the model has looked at a picture; otherwise it is a device's opinion, as it is.
    """

    predictions: tuple[Prediction, ...]
    decode_ms: float
    queue_ms: float
    inference_ms: float
    named: tuple[Prediction, ...]
    classes: int
    is_look: bool = True


class Pending:
    """A recognition under way, for one caller or several: those who repeat a call wait for the same one.

    Attributes:
        answer: the result; cancelled if it was abandoned.
        deadline: until when any caller waits for it, by the event loop's clock.
    """

    def __init__(self, abandon: Callable[[], None]) -> None:
        """`abandon` is called when the last caller gives up before there is an answer."""
        self.answer: asyncio.Future[Recognition] = asyncio.get_running_loop().create_future()
        self.answer.add_done_callback(self._end)
        self.deadline = -math.inf
        self._abandon: Callable[[], None] | None = abandon
        self._callers = 0

    @classmethod
    def known(cls, recognition: Recognition) -> Self:
        """Of what needs no recognition."""
        pending = cls(lambda: None)
        pending.answer.set_result(recognition)
        return pending

    def _end(self, answer: asyncio.Future[Recognition]) -> None:
        if not answer.cancelled():
            answer.exception()  # marks it as retrieved, though no caller may be left
        self._abandon = None  # answers live long, and it refers to the image

    async def wait(self, deadline: float) -> Recognition:
        """The answer, or whatever error there was instead.

        Args:
            deadline: when the caller gives up, by the event loop's clock.

        Raises:
            Expired: the deadline has passed.
        """
        self.deadline = max(self.deadline, deadline)
        self._callers += 1
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(self.answer)
        except TimeoutError:
            raise Expired from None
        finally:
            self._callers -= 1
            if not self._callers and not self.answer.done() and self._abandon:
                self._abandon()


class _Entry(Generic[Item]):
    """A place in the queue."""

    decoding: asyncio.Future[Decoded[Item]]
    decoded: Decoded[Item] | None = None

    def __init__(self, abandon: Callable[["_Entry[Item]"], None]) -> None:
        self.pending = Pending(partial(abandon, self))
        self.parent_span = trace.get_current_span()
        self.enqueued = time.perf_counter()

    def fail(self, error: BaseException) -> None:
        if not self.pending.answer.done():
            self.pending.answer.set_exception(error)


class Batcher(Generic[Item]):
    """Decodes images as they come, and runs the model on batches of those that wait when it is free.

    A batch is not delayed until it is full. All runs in the event loop except the `decode` of most frames and
    `predict`, which run in threads; `predict` never runs twice at once. Frames wait for the model from the
    beginning, pictures only once they have been decoded, which may take long.

    Attributes:
        latency: of the model; requests are refused, and told when to retry, by its estimates.
    """

    def __init__(
        self,
        predict: Callable[[Sequence[Item]], BatchResult],
        thread: ThreadPoolExecutor,
        *,
        max_batch: int,
        queue_size: int,
        answer_within_seconds: float,
        metrics: Metrics,
    ) -> None:
        """Runs `predict` on up to `max_batch` images at once, in `thread`; up to `queue_size` wait for it.

        Of these, only such as are estimated to be answered within so many seconds; 0: the latency model's default.
        """
        self._predict, self._thread = predict, thread
        self._max_batch, self._queue_size, self._metrics = max_batch, queue_size, metrics
        self._answer_within = answer_within_seconds
        self._decoders = ThreadPoolExecutor(FRAME_DECODERS, thread_name_prefix="decode")
        self._pictures: dict[_Entry[Item], None] = {}  # that are being decoded
        self._waiting: dict[_Entry[Item], None] = {}  # in order of arrival
        self._running = 0
        self._of_key: Counter[str] = Counter()  # requests that are not answered yet
        self.latency = LatencyModel(max_batch)
        metrics.queue_depth.set_function(lambda: len(self._waiting))

    def check_room(self, deadline: float = math.inf, *, of_picture: bool = False, own: int = 0) -> None:
        """Raises Overloaded where waiting is of no use.

        That is where the queue is full, or where the answer can't be expected within the bound, or before
        `deadline`, by the event loop's clock. A request with none before it is never refused, however slow the
        model seems: only its requests tell whether it still is. Pictures that are being decoded are before other
        pictures, not before frames. Where there are several API keys, one place is kept for those that have no
        request here: for all others it is taken. `own`: requests of the caller's key that do not count for that.
        """
        waiting = len(self._waiting) + (len(self._pictures) if of_picture else 0)
        before = waiting + self._running
        if not before:
            return
        free = self.latency.wait(self._running, waiting)
        caller = CALLER.get()
        kept = int(caller.has_rivals and self._of_key[caller.key] > own)
        if waiting + kept >= self._queue_size:
            raise Overloaded(f"{waiting} requests wait for the model, and no more may", free)
        answer = self.latency.wait(self._running, waiting + 1)
        remaining = deadline - asyncio.get_running_loop().time()
        bound = self._answer_within or self.latency.usual_bound
        if answer > bound or (kept and self.latency.wait(self._running, waiting + 2) > bound):
            reason = f"later than the {bound:.3g} s that the server allows"
        elif answer > remaining:
            reason = f"and its caller waits for {max(remaining, 0):.3g} s"
        else:
            return
        raise TooLate(
            f"with {before} requests before it there would be an answer in {answer:.3g} s, {reason}", free
        )

    def submit(self, decode: Callable[[], Item], deadline: float = math.inf) -> Pending:
        """Queues a frame; the caller must wait for the result before it awaits anything else.

        Args:
            decode: makes the image; called in a thread. Its error is that of this frame only.
            deadline: until when the caller waits, by the event loop's clock.

        Raises:
            Overloaded: see `check_room`.
        """
        self.check_room(deadline)
        entry = _Entry[Item](self._leave)
        self._waiting[entry] = None
        self._begin(entry, asyncio.get_running_loop().run_in_executor(self._decoders, _timed, decode))
        return entry.pending

    def submit_apart(
        self, decode: Callable[[], Coroutine[Any, Any, Decoded[Item]]], deadline: float = math.inf
    ) -> Pending:
        """Queues a frame that `decode` has a process decode; else as `submit`."""
        self.check_room(deadline)
        entry = _Entry[Item](self._leave)
        self._waiting[entry] = None
        self._begin(entry, asyncio.create_task(decode()))
        return entry.pending

    def submit_picture(
        self, decode: Callable[[], Coroutine[Any, Any, Decoded[Item]]], deadline: float = math.inf
    ) -> Pending:
        """Queues a picture once `decode` has decoded it; else as `submit`.

        The result is Overloaded where there is no room for it then.
        """
        self.check_room(deadline, of_picture=True)
        entry = _Entry[Item](self._leave)
        self._pictures[entry] = None
        self._begin(entry, asyncio.create_task(decode()))
        return entry.pending

    def _begin(self, entry: _Entry[Item], decoding: asyncio.Future[Decoded[Item]]) -> None:
        key = CALLER.get().key
        self._of_key[key] += 1
        entry.pending.answer.add_done_callback(lambda _: self._forget(key))
        entry.decoding = decoding
        decoding.add_done_callback(partial(self._decoded, entry))

    def _forget(self, key: str) -> None:
        self._of_key[key] -= 1
        if not self._of_key[key]:
            del self._of_key[key]

    def _leave(self, entry: _Entry[Item]) -> None:
        """Removes an entry whose callers are gone, unless its batch is running."""
        for place in (self._waiting, self._pictures):
            if entry in place:
                del place[entry]
                entry.decoding.cancel()
                entry.pending.answer.cancel()

    def _decoded(self, entry: _Entry[Item], decoding: asyncio.Future[Decoded[Item]]) -> None:
        if decoding.cancelled():
            return
        try:
            entry.decoded = decoding.result()
            if entry in self._pictures:
                self.check_room(entry.pending.deadline, own=1)
                self._waiting[entry] = None
        except Exception as error:
            self._waiting.pop(entry, None)
            entry.fail(error)
        else:
            self._run_next()
        finally:
            self._pictures.pop(entry, None)

    def _run_next(self) -> None:
        if self._running:
            return
        loop = asyncio.get_running_loop()
        for entry in [entry for entry in self._waiting if entry.pending.deadline <= loop.time()]:
            del self._waiting[entry]
            entry.decoding.cancel()
            entry.fail(Expired())
        batch = list(islice((entry for entry in self._waiting if entry.decoded), self._max_batch))
        if not batch:
            return
        for entry in batch:
            del self._waiting[entry]
        self._running = len(batch)
        running = loop.run_in_executor(
            self._thread, self._predict, [entry.decoded.item for entry in batch if entry.decoded]
        )
        running.add_done_callback(partial(self._answer, batch, time.perf_counter()))

    def _answer(self, batch: list[_Entry[Item]], began: float, running: asyncio.Future[BatchResult]) -> None:
        ended = time.perf_counter()
        self._running = 0
        self._run_next()  # before any answer is passed on: the model must not stand idle
        if running.cancelled():
            return
        if error := running.exception():
            for entry in batch:
                entry.fail(error)
            return
        result = running.result()
        self.latency.measure(len(batch), result.prepare_seconds + result.inference_seconds)
        self._metrics.batch_size.observe(len(batch))
        self._metrics.inference_seconds.observe(result.inference_seconds)
        named = result.named or result.predictions
        for entry, predictions, likely in zip(batch, result.predictions, named, strict=True):
            assert entry.decoded is not None
            decode_began, decode_ended = entry.decoded.began, entry.decoded.ended
            decode_seconds = decode_ended - decode_began
            queue_seconds = began - entry.enqueued - decode_seconds
            self._metrics.decode_seconds.observe(decode_seconds)
            self._metrics.queue_wait_seconds.observe(queue_seconds)
            record = partial(tracing.record, parent=entry.parent_span)
            record("queue for decoder", entry.enqueued, decode_began)
            record("decode", decode_began, decode_ended)
            record("queue for model", decode_ended, began)
            record("inference", began, ended, batch=len(batch))
            if not entry.pending.answer.done():
                entry.pending.answer.set_result(
                    Recognition(
                        predictions,
                        decode_ms=1e3 * (decode_seconds + result.prepare_seconds),
                        queue_ms=1e3 * queue_seconds,
                        inference_ms=1e3 * result.inference_seconds,
                        named=likely,
                        classes=result.classes,
                    )
                )


def _timed(decode: Callable[[], Item]) -> Decoded[Item]:
    began = time.perf_counter()
    return Decoded(decode(), began, time.perf_counter())
