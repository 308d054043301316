"""Feed: a stream of pictures, read in a thread of its own, of which rounds take the next or the newest."""

import asyncio
import threading

import structlog

from device.sources.source import Picture, SourceError, Stream

log = structlog.get_logger(__name__)

CLOSE_SECONDS = 1.0
"""So long a thread that reads is waited for at the end; one that stands in a read ends with the process."""


class Feed:
    """Hands over one picture at a time.

    In order, the stream is read on when a picture was taken, so that whoever writes it waits and none is lost. The
    newest is for what goes on whether somebody takes its pictures or not: a picture then replaces the one before,
    which is counted.
    """

    def __init__(self, stream: Stream, *, newest: bool) -> None:
        """Nothing is read before the first picture is asked for."""
        self.passed_over = 0
        self._stream, self._newest = stream, newest
        self._stop, self._turn = threading.Event(), threading.Condition()
        self._waiting: Picture | None = None
        self._error: Exception | None = None
        self._ended = False
        self._thread: threading.Thread | None = None
        self._arrived = asyncio.Event()

    async def picture(self, number: int) -> Picture | None:
        """The next picture, or the newest; None at the end.

        Raises:
            SourceError: the stream cannot be read.
        """
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._read, args=(loop,), name="pictures", daemon=True)
            self._thread.start()
        while True:
            self._arrived.clear()
            with self._turn:
                ended = self._ended
                picture, self._waiting = self._waiting, None
                self._turn.notify()
            if picture is not None:
                return picture
            if self._error is not None:
                raise SourceError(str(self._error)) from self._error
            if ended:
                return None
            await self._arrived.wait()

    def close(self) -> None:
        """Ends the reading."""
        self._stop.set()
        with self._turn:
            self._turn.notify()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            for picture in self._stream.pictures(self._stop):
                with self._turn:
                    while not self._newest and self._waiting is not None and not self._stop.is_set():
                        self._turn.wait()
                    if self._stop.is_set():
                        return
                    self.passed_over += self._waiting is not None
                    self._waiting = picture
                self._tell(loop)
        except Exception as error:  # whatever it is, the device says so rather than wait
            if not isinstance(error, SourceError):
                log.exception("the reading of pictures fails")
            self._error = error
        finally:
            with self._turn:
                self._ended = True
            self._tell(loop)

    def _tell(self, loop: asyncio.AbstractEventLoop) -> None:
        if not loop.is_closed():
            try:
                loop.call_soon_threadsafe(self._arrived.set)
            except RuntimeError:  # closed in between: nobody waits any more
                return
