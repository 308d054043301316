"""Decoder pool: what libraries of codecs read becomes pixels in processes of their own, killed where need be.

One pool is for ordinary pictures, another for frames whose coder has them decoded apart: frames never wait for
pictures. A process that takes too long or that nothing is heard of is killed and replaced.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from typing import Self

import numpy as np
import structlog
from numpy.typing import NDArray

from semlink.vision import picture_worker
from semlink.vision.images import IMAGE_SIZE, ImageError
from server.batching import Decoded
from server.metrics import Metrics
from server.refusals import DecoderLost, PictureTooSlow

log = structlog.get_logger(__name__)

DECODERS = 2
"""Decoder processes."""
PICTURES = ("JPEG", "PNG")
"""Formats of ordinary pictures."""
FRAMES = (picture_worker.FRAME,)
MAX_SECONDS = 20.0
"""Longest time for one picture, beside MAX_CPU_SECONDS of computing in its process."""
BEGIN_SECONDS = 5.0
"""A process that has not begun with its picture within so long is replaced, and the picture given to another."""
START_SECONDS = 30.0
"""Deadline of a process to start."""
SLOW_SECONDS = 0.5
"""Pictures that take longer go on with low priority: frames come first."""
LOW_PRIORITY = 10
STUCK_SECONDS = 5.0
"""The pool is stuck when pictures wait and none was answered for so long."""


class PictureDecoders:
    """Decoder pool of DECODERS processes.

    Attributes:
        waiting: pictures, or frames, without an answer.
    """

    def __init__(self, metrics: Metrics, kinds: tuple[str, ...] = PICTURES) -> None:
        """Of PICTURES or FRAMES. Starts no process yet: `start` does, or else the first one to decode."""
        self._metrics, self._kinds = metrics, kinds
        self._called = "frames" if kinds == FRAMES else "pictures"
        self._places = asyncio.Semaphore(DECODERS)
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()
        self._is_closed = False
        self._cannot_start = ""
        self._moved = 0.0  # when a picture was answered, or the first one that waits came
        self.waiting = 0

    async def start(self) -> None:
        """Starts the processes; where that fails, pictures are refused until it succeeds."""
        await asyncio.gather(*(self._refill() for _ in range(DECODERS)))

    async def close(self) -> None:
        """Ends the processes, whatever they do; waits for none that does not end at once."""
        self._is_closed = True
        for task in self._serving:
            task.cancel()
        for process in self._all:
            process.kill()
        if self._all:
            await asyncio.wait([asyncio.create_task(process.wait()) for process in self._all])

    def problem(self) -> str:
        """Why nothing is decoded now; empty where it is."""
        if self._cannot_start:
            return f"{self._called}: no process that decodes them can be started: {self._cannot_start}"
        since = asyncio.get_running_loop().time() - self._moved
        if self.waiting and since > STUCK_SECONDS:
            return f"{self._called}: none was decoded for {since:.0f} s, and {self.waiting} wait"
        return ""

    async def decode(self, data: bytes) -> Decoded[NDArray[np.uint8]]:
        """The (224, 224, 3) pixels that a model takes of a JPEG or PNG, or of a frame.

        Raises:
            ImageError: no such picture, or too large a one; or a frame that can't be decoded.
            PictureTooSlow: decoding it takes too long.
            DecoderLost: its process died, or can't be started.
        """
        loop = asyncio.get_running_loop()
        if not self.waiting:
            self._moved = loop.time()
        self.waiting += 1
        try:
            await self._places.acquire()
            answer: asyncio.Future[Decoded[NDArray[np.uint8]]] = loop.create_future()
            # Not cancelled with its caller: the process goes on with the picture.
            serving = asyncio.create_task(self._serve(data, answer))
            self._serving.add(serving)
            serving.add_done_callback(self._serving.discard)
            return await answer
        finally:
            self.waiting -= 1

    async def _serve(self, data: bytes, answer: asyncio.Future[Decoded[NDArray[np.uint8]]]) -> None:
        try:
            began = time.perf_counter()
            pixels = await self._decoded(data)
            if not answer.done():
                answer.set_result(Decoded(pixels, began, time.perf_counter()))
        except Exception as error:
            if not answer.done():
                answer.set_exception(error)
        finally:
            if not answer.done():
                answer.cancel()
            self._moved = asyncio.get_running_loop().time()
            await self._refill()
            self._places.release()

    async def _decoded(self, data: bytes) -> NDArray[np.uint8]:
        for _ in range(1 + DECODERS):
            if not self._idle:
                await self._refill()
            if not self._idle:
                break
            process = self._idle.pop()
            try:
                return await process.decode(data)
            except _NotBegunError:
                continue
            finally:
                if process.is_usable:
                    self._idle.append(process)
                else:
                    self._drop(process)
        raise DecoderLost

    def _drop(self, process: "_Process") -> None:
        process.kill()
        self._all.discard(process)
        self._metrics.decoders_replaced.inc()

    async def _refill(self) -> None:
        """Starts a process if there are fewer than there should be."""
        async with self._starting:
            for process in [process for process in self._idle if process.has_ended]:
                self._idle.remove(process)
                self._drop(process)
            if self._is_closed or len(self._all) >= DECODERS:
                return
            try:
                process = await _Process.start(self._kinds)
                self._all.add(process)
                await process.come_up()
            except (EOFError, OSError, TimeoutError) as error:
                reason = str(error) or type(error).__name__
                if reason != self._cannot_start:
                    log.error("no process that decodes pictures can be started", reason=reason)
                self._cannot_start = reason
                self._all = {process for process in self._all if process.is_usable}
            else:
                self._cannot_start = ""
                self._idle.append(process)


class _NotBegunError(Exception):
    """The process has not begun with the picture, which another may decode."""


class _Process:
    """One decoder process; see `semlink.vision.picture_worker`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._pictures, self._answers = process, process.stdin, process.stdout
        self.is_usable = True

    @classmethod
    async def start(cls, kinds: tuple[str, ...]) -> Self:
        """Starts one for PICTURES or FRAMES, which has yet to come up.

        Raises:
            OSError: the system allows no further process.
        """
        arguments = ("-P", "-W", "ignore", "-m", picture_worker.__name__, *kinds)
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=1 << 18,
                env=picture_worker.environment(),
            )
        )

    async def come_up(self) -> None:
        """Waits until it takes pictures.

        Raises:
            EOFError, TimeoutError: it does not.
        """
        self.is_usable = False
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._answers.readexactly(1)
            self.is_usable = True
        finally:
            if not self.is_usable:
                self.kill()

    @property
    def has_ended(self) -> bool:
        """It has ended by itself, as it does when it holds too much memory."""
        return self._process.returncode is not None or self._answers.at_eof()

    def kill(self) -> None:
        """Ends it, also where it is stopped."""
        self.is_usable = False
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._pictures.close()

    async def decode(self, data: bytes) -> NDArray[np.uint8]:
        """Decodes one picture; afterwards it is usable or not.

        Raises:
            _NotBegunError, ImageError, PictureTooSlow, DecoderLost: see `PictureDecoders.decode`.
        """
        usable, self.is_usable = True, False
        self._pictures.write(len(data).to_bytes(picture_worker.LENGTH_BYTES))
        self._pictures.write(data)
        try:
            async with asyncio.timeout(BEGIN_SECONDS):
                await self._answers.readexactly(1)
        except (EOFError, OSError, TimeoutError):
            raise _NotBegunError from None

        def slow_down() -> None:
            nonlocal usable
            usable = False  # only a privileged process could have its priority back
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self._process.pid, LOW_PRIORITY)

        slowing = asyncio.get_running_loop().call_later(SLOW_SECONDS, slow_down)
        try:
            async with asyncio.timeout(MAX_SECONDS):
                answer = await picture_worker.read_answer(self._answers, IMAGE_SIZE * IMAGE_SIZE * 3)
        except TimeoutError:
            raise PictureTooSlow from None
        except (EOFError, OSError, TypeError, ValueError) as error:
            status = await self.wait()
            log.warning("a process that decodes pictures is lost", status=status, reason=repr(error))
            raise (PictureTooSlow if status == -signal.SIGXCPU else DecoderLost) from None
        finally:
            slowing.cancel()
        self.is_usable = usable
        if isinstance(answer, ImageError):
            raise answer
        return np.frombuffer(answer, np.uint8).reshape(IMAGE_SIZE, IMAGE_SIZE, 3)

    async def wait(self) -> int | None:
        """The status with which it ended; None if it has not within a second."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                return await self._process.wait()
        return None
