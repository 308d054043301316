import asyncio
import contextlib
import gc
import math
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

import server.batching
from semlink.service.admission import CALLER, Caller
from server.batching import Batcher, Decoded
from server.metrics import Metrics
from server.model import BatchResult, Prediction
from server.refusals import Expired, Overloaded


class AtOnce(Executor):
    """Instead of the threads that decode."""

    def __init__(self, *_, **__) -> None: ...

    def submit(self, work, /, *arguments):
        future: Future = Future()
        try:
            future.set_result(work(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


class WhenTold(Executor):
    """Instead of the model's thread: looks when it is told to, and remembers at what."""

    def __init__(self) -> None:
        self.asked, self.batches = [], []

    def submit(self, work, /, *arguments):
        future: Future = Future()
        self.asked.append((future, work, arguments))
        self.batches.append(arguments[0])
        return future

    def look(self) -> None:
        (future, work, arguments), *self.asked = self.asked
        try:
            future.set_result(work(*arguments))
        except Exception as error:
            future.set_exception(error)


def look(items) -> BatchResult:
    if "broken" in items:
        raise RuntimeError("the model broke")
    return BatchResult([(Prediction(int(item), str(item), 1.0),) for item in items], 0.25, 4.0)


class Line:
    """A batcher, and who stands in line."""

    def __init__(self, *, max_batch=4, queue_size=100, answer_within=1e6) -> None:
        self.metrics, self.model = Metrics(), WhenTold()
        self.batcher = Batcher(
            look,
            self.model,
            max_batch=max_batch,
            queue_size=queue_size,
            answer_within_seconds=answer_within,
            metrics=self.metrics,
        )

    def ask(self, item, seconds: float = 1e6) -> asyncio.Task:
        def decode():
            if isinstance(item, Exception):
                raise item
            return item

        loop = asyncio.get_running_loop()
        now = loop.time()
        with pytest.MonkeyPatch.context() as patch:  # no time passes until it is admitted or refused
            patch.setattr(loop, "time", lambda: now)
            pending = self.batcher.submit(decode, now + seconds)
        return asyncio.create_task(pending.wait(now + seconds))

    async def look(self) -> None:
        self.model.look()
        await settle()

    def metric(self, name: str, **labels) -> float:
        return self.metrics.registry.get_sample_value(f"semlink_server_{name}", labels)


async def settle() -> None:
    for _ in range(12):
        await asyncio.sleep(0)


def label(task: asyncio.Task) -> int:
    return task.result().predictions[0].label


@pytest.fixture(autouse=True)
def decode_at_once(monkeypatch):
    """Threads decode at once."""
    monkeypatch.setattr(server.batching, "ThreadPoolExecutor", AtOnce)


@contextlib.contextmanager
def called_by(caller: Caller) -> Iterator[None]:
    token = CALLER.set(caller)
    try:
        yield
    finally:
        CALLER.reset(token)


class TestKeys:
    """One place is kept for a key that has no request here."""

    @pytest.mark.parametrize(("queue_size", "answer_within"), [(4, 1e6), (100, 4.5)])
    async def test_no_key_keeps_all_others_out(self, queue_size, answer_within):
        line = Line(max_batch=1, queue_size=queue_size, answer_within=answer_within)
        line.batcher.latency.start(1.0, 1.0)
        mallory, alice = (Caller(key, has_rivals=True) for key in ("mallory", "alice"))
        with called_by(mallory):
            for _ in range(3):
                line.ask(1)
            with pytest.raises(Overloaded):
                line.ask(1)
        with called_by(alice):
            call = line.ask(7)
        with called_by(mallory), pytest.raises(Overloaded):
            line.ask(1)
        await settle()
        while not call.done():
            await line.look()
        assert label(call) == 7
        await settle()
        assert not line.batcher._of_key

    async def test_a_key_without_others_has_every_place(self):
        line = Line(max_batch=1, queue_size=4)
        with called_by(Caller("alone")):
            for _ in range(4):
                line.ask(1)
            with pytest.raises(Overloaded):
                line.ask(1)


class TestBatches:
    async def test_nobody_waits_for_a_batch_to_fill_up(self):
        line = Line()
        call = line.ask(7)
        await settle()
        assert line.model.batches == [[7]]
        await line.look()
        assert label(call) == 7

    async def test_what_waits_is_batched_in_order_and_never_more_than_so_many(self):
        line = Line(max_batch=4)
        calls = [line.ask(0)]
        await settle()
        calls += [line.ask(item) for item in range(1, 11)]
        await settle()
        while line.model.asked:
            await line.look()
        assert line.model.batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
        assert [label(call) for call in calls] == list(range(11))

    async def test_the_model_is_never_asked_twice_at_once(self):
        line = Line(max_batch=2)
        for item in range(6):
            line.ask(item)
            await settle()
            assert len(line.model.asked) == 1

    async def test_an_image_that_cannot_be_decoded_fails_alone(self):
        line = Line()
        calls = [line.ask(item) for item in (1, ValueError("no image"), 2)]
        await settle()
        while line.model.asked:
            await line.look()
        with pytest.raises(ValueError, match="no image"):
            calls[1].result()
        assert [label(calls[0]), label(calls[2])] == [1, 2]

    async def test_a_model_that_breaks_fails_its_batch_and_goes_on(self):
        line = Line()
        line.ask(0)
        await settle()
        calls = [line.ask("broken"), line.ask(1)]
        await settle()
        await line.look()
        after = line.ask(2)
        await line.look()
        await line.look()
        for call in calls:
            with pytest.raises(RuntimeError, match="the model broke"):
                call.result()
        assert label(after) == 2

    async def test_an_answer_that_is_kept_does_not_keep_its_picture(self):
        class Picture:
            def __int__(self) -> int:
                return 7

        gc.disable()  # pictures are large: they must not wait for the collector
        try:
            line = Line()
            pending = line.batcher.submit(Picture)
            call = asyncio.create_task(pending.wait(asyncio.get_running_loop().time() + 1000))
            await settle()
            picture = weakref.ref(line.model.batches.pop()[0])
            assert picture() is not None
            await line.look()
            assert label(call) == pending.answer.result().predictions[0].label == 7
            assert picture() is None
        finally:
            gc.enable()


class TestPictures:
    """They take a place before the model once they are decoded."""

    @staticmethod
    def submit(line: Line, gate: asyncio.Event, item: object) -> asyncio.Task:
        async def decode() -> Decoded:
            await gate.wait()
            if isinstance(item, Exception):
                raise item
            return Decoded(item, 1.0, 2.0)

        return asyncio.create_task(line.batcher.submit_picture(decode).wait(math.inf))

    async def test_frames_do_not_wait_for_them(self):
        line, gate = Line(queue_size=2), asyncio.Event()
        pictures = [self.submit(line, gate, item) for item in (5, 6)]
        with pytest.raises(Overloaded, match="2 requests wait"):
            self.submit_now(line)
        frame = line.ask(7)
        await settle()
        assert line.model.batches == [[7]]
        await line.look()
        assert label(frame) == 7
        gate.set()
        await settle()
        while line.model.asked:
            await line.look()
        assert [label(picture) for picture in pictures] == [5, 6]

    @staticmethod
    def submit_now(line: Line) -> None:
        line.batcher.submit_picture(lambda: asyncio.sleep(0))  # refused before it would be awaited

    async def test_a_place_that_frames_took_meanwhile_is_refused(self):
        line, gate = Line(queue_size=1), asyncio.Event()
        picture = self.submit(line, gate, 5)
        frames = [line.ask(1)]
        await settle()
        frames.append(line.ask(2))
        gate.set()
        await settle()
        with pytest.raises(Overloaded, match="1 requests wait"):
            picture.result()
        while line.model.asked:
            await line.look()
        assert [label(frame) for frame in frames] == [1, 2]

    async def test_what_cannot_be_decoded_fails_alone_and_whoever_leaves_is_not_decoded(self):
        line, gate = Line(), asyncio.Event()
        broken, gone, stays = (self.submit(line, gate, item) for item in (ValueError("no image"), 1, 2))
        await settle()
        gone.cancel()
        await settle()
        gate.set()
        await settle()
        await line.look()
        with pytest.raises(ValueError, match="no image"):
            broken.result()
        assert label(stays) == 2
        assert line.model.batches == [[2]]


class TestLeaving:
    async def test_whoever_hangs_up_is_not_looked_at(self):
        line = Line()
        line.ask(0)
        await settle()
        gone, stays = line.ask(1), line.ask(2)
        await settle()
        gone.cancel()
        await settle()
        assert line.metric("queue_depth") == 1
        await line.look()
        await line.look()
        assert line.model.batches == [[0], [2]]
        assert label(stays) == 2
        assert gone.cancelled()

    async def test_whoever_ran_out_of_time_is_not_looked_at(self):
        line = Line()
        line.ask(0)
        await settle()
        hurried, stays = line.ask(1, seconds=0.01), line.ask(2)
        with pytest.raises(Expired):
            await hurried
        assert line.metric("queue_depth") == 1
        await line.look()
        assert line.model.batches == [[0], [2]]
        assert not stays.done()

    async def test_a_deadline_that_the_loop_was_too_busy_to_notice(self):
        line = Line()
        line.ask(0)
        await settle()
        hurried = line.ask(1, seconds=1000)
        await settle()
        (entry,) = line.batcher._waiting
        entry.pending.deadline = 0  # passed, though no timer has said so
        await line.look()
        assert line.model.batches == [[0]]
        with pytest.raises(Expired):
            hurried.result()

    async def test_what_is_looked_at_is_looked_at_to_the_end(self):
        line = Line()
        pending = line.batcher.submit(lambda: 5)
        call = asyncio.create_task(pending.wait(asyncio.get_running_loop().time() + 1000))
        await settle()
        call.cancel()
        await settle()
        await line.look()
        assert pending.answer.result().predictions[0].label == 5


class TestFull:
    async def test_refuses_at_once_and_does_not_grow(self):
        line = Line(max_batch=4, queue_size=3)
        first = line.ask(0)
        await settle()
        calls = [line.ask(item) for item in (1, 2, 3)]
        for _ in range(100):
            with pytest.raises(Overloaded, match="3 requests wait for the model"):
                line.ask(9)
        assert line.metric("queue_depth") == 3
        await line.look()
        calls.append(line.ask(4))  # there is room again
        await line.look()
        await line.look()
        assert line.model.batches == [[0], [1, 2, 3], [4]]
        assert [label(call) for call in (first, *calls)] == [0, 1, 2, 3, 4]

    async def test_whoever_leaves_makes_room(self):
        line = Line(queue_size=1)
        line.ask(0)
        await settle()
        gone = line.ask(1)
        await settle()
        gone.cancel()
        await settle()
        line.ask(2)
        with pytest.raises(Overloaded):
            line.ask(3)

    async def test_says_when_to_come_back_from_what_was_measured(self):
        line = Line(max_batch=2, queue_size=3)
        line.batcher.latency.start(3.0, 6.0)
        line.ask(0)
        await settle()
        for item in (1, 2, 3):
            line.ask(item)
        with pytest.raises(Overloaded) as refused:
            line.ask(4)
        assert refused.value.retry_after == 4 * 3.0
        await line.look()  # one image took 4.25 s
        line.ask(4)
        line.ask(5)
        with pytest.raises(Overloaded) as refused:
            line.ask(6)
        assert refused.value.retry_after == pytest.approx(5 * (0.8 * 3.0 + 0.2 * 4.25))


class TestTooLate:
    async def test_refuses_what_cannot_be_answered_within_the_bound(self):
        line = Line(max_batch=2, answer_within=9.5)
        line.batcher.latency.start(3.0, 4.0)
        calls = [line.ask(0)]  # 3 s
        await settle()
        calls += [line.ask(1), line.ask(2)]  # 3 s and 4 s
        with pytest.raises(
            Overloaded, match=r"with 3 requests before it .* in 10 s, later than the 9.5 s"
        ) as refused:
            line.ask(3)
        assert refused.value.retry_after == 7
        while line.model.asked:
            await line.look()
        assert [label(call) for call in calls] == [0, 1, 2]

    async def test_refuses_whoever_would_have_left_before_the_answer(self):
        line = Line(max_batch=2)
        line.batcher.latency.start(3.0, 4.0)
        line.ask(0)
        await settle()
        with pytest.raises(Overloaded, match="its caller waits for 5 s"):
            line.ask(1, seconds=5)
        assert line.metric("queue_depth") == 0
        line.ask(1, seconds=7)
        assert line.metric("queue_depth") == 1

    async def test_whoever_is_alone_is_looked_at_however_slow_the_model_seems(self):
        line = Line(answer_within=1.0)
        line.batcher.latency.start(1000.0, 4000.0)
        call = line.ask(7, seconds=10)
        await settle()
        with pytest.raises(Overloaded):
            line.ask(8)
        await line.look()
        assert label(call) == 7

    async def test_without_a_bound_everybody_is_answered_within_a_full_batch_and_three_images_alone(self):
        line = Line(max_batch=4, answer_within=0)
        line.batcher.latency.start(1.0, 4.0)  # a batch takes as long as all its images alone
        line.ask(0)
        await settle()
        for item in range(1, 5):
            line.ask(item)
        with pytest.raises(Overloaded, match=r"in 6 s, later than the 5.95 s"):
            line.ask(5)

    async def test_where_a_batch_takes_no_longer_than_an_image_whole_ones_may_wait(self):
        line = Line(max_batch=4, answer_within=0)
        line.batcher.latency.start(1.0, 1.0)
        line.ask(0)
        await settle()
        for item in range(1, 9):
            line.ask(item)
        with pytest.raises(Overloaded, match=r"with 9 requests before it .* in 4 s, later than the 3.4 s"):
            line.ask(9)


@st.composite
def stories(draw):
    steps = draw(st.lists(st.sampled_from(["ask", "ask", "bad", "leave", "look"]), min_size=1, max_size=40))
    return [(step, draw(st.integers(0, 50))) for step in steps]


@given(story=stories(), max_batch=st.integers(1, 4), queue_size=st.integers(1, 6))
async def test_in_whatever_order_things_happen(story, max_batch, queue_size):
    """Everyone gets their own answer, in order, and nobody is looked at who had left before."""
    line = Line(max_batch=max_batch, queue_size=queue_size)
    calls, line_up, refused = {}, [], 0
    for item, (step, number) in enumerate(story):
        await settle()
        waiting = [each for each in line_up if not any(each in batch for batch in line.model.batches)]
        assert line.metric("queue_depth") == len(waiting) <= queue_size
        assert not waiting or line.model.asked  # the model has no time to lose
        if step == "look" and line.model.asked:
            await line.look()
        elif step == "leave" and waiting:
            gone = waiting[number % len(waiting)]
            calls.pop(gone).cancel()
            line_up.remove(gone)
        elif step in ("ask", "bad") and len(waiting) == queue_size:
            refused += 1
            with pytest.raises(Overloaded):
                line.ask(item)
        elif step == "ask":
            calls[item] = line.ask(item)
            line_up.append(item)
        elif step == "bad":
            bad = line.ask(ValueError(item))
            await settle()
            assert str(bad.exception()) == str(item)
    await settle()
    while line.model.asked:
        await line.look()
    assert all(len(batch) <= max_batch for batch in line.model.batches)
    assert [item for batch in line.model.batches for item in batch] == line_up
    assert {item: label(call) for item, call in calls.items()} == {item: item for item in calls}


async def test_metrics_and_timings():
    line = Line(max_batch=2)
    calls = [line.ask(item) for item in range(3)]
    await settle()
    assert line.metric("queue_depth") == 2
    await line.look()
    await line.look()
    assert line.metric("queue_depth") == 0
    assert line.metric("batch_size_count") == 2
    assert line.metric("batch_size_sum") == 3
    assert line.metric("batch_size_bucket", le="1.0") == 1
    assert line.metric("inference_seconds_sum") == 2 * 4.0
    assert line.metric("queue_wait_seconds_count") == 3
    assert line.metric("decode_seconds_count") == 3
    for call in calls:
        recognition = call.result()
        assert recognition.inference_ms == 4000
        assert recognition.decode_ms >= 250  # its own part, and the batch's
        assert recognition.queue_ms >= 0


async def test_neither_decoding_nor_looking_holds_up_the_loop(monkeypatch):
    """With real threads, both of which stand still until the loop has gone on."""
    decoding, looking, decoded, looked = (threading.Event() for _ in range(4))

    def decode() -> int:
        decoding.set()
        assert decoded.wait(30)
        return 3

    def slow(items) -> BatchResult:
        looking.set()
        assert looked.wait(30)
        return look(items)

    def label_of(recognition) -> int:
        return recognition.predictions[0].label

    monkeypatch.setattr(server.batching, "ThreadPoolExecutor", ThreadPoolExecutor)
    with ThreadPoolExecutor(1) as thread:
        batcher = Batcher(slow, thread, max_batch=4, queue_size=4, answer_within_seconds=0, metrics=Metrics())
        call = asyncio.create_task(batcher.submit(decode).wait(asyncio.get_running_loop().time() + 30))
        for begun, go_on in ((decoding, decoded), (looking, looked)):
            while not begun.is_set():
                await asyncio.sleep(0.001)
            go_on.set()
        assert label_of(await call) == 3
