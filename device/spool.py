"""The spool: views that wait on disk until they are answered, in order, over restarts and power cuts."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from device.spool_file import (
    JOURNAL_BYTES,
    PAGE_BYTES,
    Counts,
    Stored,
    delete,
    insert,
    oldest_after,
    open_spool,
    read_counts,
    transaction,
    write_counts,
)

log = structlog.get_logger(__name__)

FIXED_BYTES = JOURNAL_BYTES + 16 * PAGE_BYTES
"""More than the file and its journal take without any view."""
MAX_UNSAVED = 16
"""Views that wait in memory while none can be stored."""


@dataclass(frozen=True)
class Standing:
    """How a spool stands.

    Attributes:
        views: how many are not done, whether on disk or in memory.
        bytes: what they take or would take in its file.
        full: whether a view like the last one could not be stored, or not without dropping another.
        counts: the next number, and what was dropped or went wrong since the file was made.
    """

    views: int
    bytes: int
    full: bool
    counts: Counts


class Spool:
    """Views in the order of their numbers, from when they are put to when they are done. Any thread may call.

    Once `put` is over without a complaint in the log, the view outlives the process and the machine's power.
    What cannot be written waits in memory, up to `MAX_UNSAVED` views, and is stored as soon as it can be.

    Attributes:
        path: its file.
        standing: as of the last call that is over. Who reads it waits for no disk.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Opens the file, or makes it; from now on it takes up to `max_bytes`.

        Raises:
            SpoolError: another device uses it, it is damaged, it is no spool, or it cannot be opened.
        """
        self.path, self._room = path, max_bytes - FIXED_BYTES
        self._turn = threading.Lock()
        self._opened = contextlib.ExitStack()
        self._file = self._opened.enter_context(open_spool(path))
        self._counts = read_counts(self._file)
        self._sizes: dict[int, int] = dict(self._file.execute("SELECT number, size FROM views ORDER BY number"))
        self._unsaved: dict[int, Stored] = {}
        self._done: set[int] = set()
        self._taken = -1
        self.standing = self._stands()

    def close(self) -> int:
        """Stores what waits in memory, if that can be done now, and lets others use the file.

        Returns:
            How many views are lost because they could not be stored.
        """
        with self._in_turn():
            self._save()
            lost = list(self._unsaved)
            self._unsaved.clear()
            self._opened.close()
        if lost:
            log.error("views lost, the spool cannot be written", frame_ids=lost)
        return len(lost)

    def put(self, view: Stored) -> None:
        """Stores a view, whose number must be `next_number` of the counts or higher.

        For want of room, the oldest go. A view that was taken does not go, for it may have been counted already;
        one that does not fit beside those goes itself. Where the file cannot be written, the view waits in memory.
        All this is logged and counted.
        """
        with self._in_turn():
            self._counts = replace(self._counts, next_number=view.number + 1)
            self._unsaved[view.number] = view
            self._save()
            waiting = [number for number in self._unsaved if number > self._taken]
            for number in waiting[:-MAX_UNSAVED]:
                del self._unsaved[number]
                self._counts = replace(self._counts, dropped=self._counts.dropped + 1)
                self._tell_dropped(number)

    def take(self) -> Stored | None:
        """The oldest view that was not yet taken since the spool was opened; None if there is none, or a fault.

        Raises:
            SpoolError: the view is damaged.
        """
        with self._in_turn():
            if any(number > self._taken for number in self._sizes):  # older than any that could not be stored
                try:
                    view = oldest_after(self._file, self._taken)
                except sqlite3.Error as error:
                    self._fault("the spool cannot be read", error)
                    return None
            else:
                view = next((view for number, view in self._unsaved.items() if number > self._taken), None)
            if view is not None:
                self._taken = view.number
            return view

    def done(self, number: int) -> None:
        """Removes a view that was taken."""
        with self._in_turn():
            self._unsaved.pop(number, None)
            self._done.add(number)
            try:
                with transaction(self._file):
                    delete(self._file, self._done)
            except sqlite3.Error as error:
                # It goes with the next one. If this process ends before, it is sent again, and counted once.
                self._fault("an answered view cannot be removed from the spool", error, number)
                return
            for each in self._done:
                self._sizes.pop(each, None)
            self._done.clear()

    @contextlib.contextmanager
    def _in_turn(self) -> Iterator[None]:
        """One call after the other, each of which then says how the spool stands."""
        with self._turn:
            try:
                yield
            finally:
                self.standing = self._stands()

    def _stands(self) -> Standing:
        sizes = self._sizes | {number: view.size for number, view in self._unsaved.items()}
        left = [size for number, size in sizes.items() if number not in self._done]
        last = next(reversed(self._sizes.values()), 0)
        full = any(number > self._taken for number in self._unsaved)
        full = full or sum(self._sizes.values()) + last > self._room
        return Standing(len(left), sum(left), full, self._counts)

    def _save(self) -> None:
        """Stores what waits in memory, the oldest first, up to the first that cannot be."""
        for number, view in list(self._unsaved.items()):
            going = self._to_make_room(view)
            counts = replace(self._counts, dropped=self._counts.dropped + len(going))
            try:
                with transaction(self._file):
                    delete(self._file, going)
                    if number not in going:
                        insert(self._file, view)
                    write_counts(self._file, counts)
            except sqlite3.Error as error:
                self._fault("a view cannot be stored and waits in memory", error, number)
                with contextlib.suppress(sqlite3.Error), transaction(self._file):
                    write_counts(self._file, self._counts)  # at least its number is not given again
                return
            self._counts = counts
            self._sizes[number] = view.size
            del self._unsaved[number]
            for each in going:
                del self._sizes[each]
                self._tell_dropped(each)

    def _to_make_room(self, view: Stored) -> list[int]:
        """Numbers of the views that go so that this one fits: the oldest, or it alone if that does not help."""
        excess = sum(self._sizes.values()) + view.size - self._room
        going = []
        for number, size in self._sizes.items():
            if excess > 0 and number > self._taken:
                going.append(number)
                excess -= size
        return [view.number] if excess > 0 else going

    def _fault(self, event: str, error: sqlite3.Error, number: int | None = None) -> None:
        self._counts = replace(self._counts, faults=self._counts.faults + 1)
        log.error(event, spool=str(self.path), frame_id=number, reason=str(error), faults=self._counts.faults)

    def _tell_dropped(self, number: int) -> None:
        log.warning(
            "dropped the oldest view for want of room", dropped_frame_id=number, dropped=self._counts.dropped
        )
