"""Spool: captures that wait in an SQLite file until they are answered, in order, over restarts and power cuts."""

import contextlib
import fcntl
import os
import sqlite3
import threading
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from device.capture import COLUMNS, Capture, from_row, to_row

log = structlog.get_logger(__name__)

APPLICATION_ID = 0x534C5350
"""`SLSP` in the file's header: a spool of this project."""
VERSION = 1
PAGE_BYTES = 4096
JOURNAL_BYTES = 64 * PAGE_BYTES
"""Reserved for the journal of a removal, with much to spare, so that one can be made on a full disk."""
FIXED_BYTES = JOURNAL_BYTES + 16 * PAGE_BYTES
"""More than the file and its journal take without any view."""
MAX_UNSAVED = 16
"""Captures that wait in memory while none can be stored."""

_COLUMNS = ", ".join(COLUMNS)
_PLACES = ", ".join(f"?{number + 1}" for number in range(len(COLUMNS)))
_INSERT = f"INSERT INTO views ({_COLUMNS}, size, checksum) VALUES ({_PLACES}, ?, crc({_PLACES}))"
_OLDEST = f"SELECT {_COLUMNS}, checksum = crc({_COLUMNS}) FROM views WHERE number > ? ORDER BY number LIMIT 1"
_DAMAGED = f"SELECT number FROM views WHERE checksum != crc({_COLUMNS}) OR number >= ? LIMIT 1"
_WRITE_COUNTS = "INSERT OR REPLACE INTO counts VALUES (1, ?1, ?2, ?3, crc(?1, ?2, ?3))"
_READ_COUNTS = "SELECT next_number, dropped, faults FROM counts WHERE checksum = crc(next_number, dropped, faults)"
# In a row, what is short stands before what is long, so that it is found without reading through that.
_CREATE = f"""
    PRAGMA page_size = {PAGE_BYTES};
    BEGIN;
    CREATE TABLE views (number INTEGER PRIMARY KEY, object_id TEXT NOT NULL, device_id TEXT NOT NULL,
        request_id TEXT NOT NULL, expected_views INTEGER NOT NULL, taken_at REAL NOT NULL, size INTEGER NOT NULL,
        checksum INTEGER NOT NULL, details TEXT NOT NULL, frame BLOB NOT NULL, attention BLOB NOT NULL,
        pixels BLOB);
    CREATE TABLE counts (only INTEGER PRIMARY KEY CHECK (only = 1), next_number INTEGER NOT NULL,
        dropped INTEGER NOT NULL, faults INTEGER NOT NULL, checksum INTEGER NOT NULL);
    INSERT INTO counts VALUES (1, 0, 0, 0, crc(0, 0, 0));
    PRAGMA application_id = {APPLICATION_ID};
    PRAGMA user_version = {VERSION};
    COMMIT;
"""


class SpoolError(Exception):
    """The spool cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class SpoolStatus:
    """State of a spool.

    Attributes:
        held: captures that are not done, whether on disk or in memory.
        bytes: what they take or would take in the file.
        dropped: captures given up unsent for want of room, or lost at the end because they could not be stored,
            since the file was made.
        faults: how often the file could not be written or read, since it was made.
        next_number: the first frame id that was never given.
        full: whether a capture like the last one could not be stored, or not without dropping another.
    """

    held: int
    bytes: int
    dropped: int
    faults: int
    next_number: int
    full: bool

    @property
    def report(self) -> dict[str, int]:
        """What logs and answers say of the spool."""
        return {name: value for name, value in asdict(self).items() if name not in ("next_number", "full")}


class Spool:
    """Captures in the order of their numbers, from when they are put to when they are done. Any thread may call.

    Once `put` is over without a complaint in the log, the capture outlives the process and the machine's power.
    What cannot be written waits in memory, up to `MAX_UNSAVED` captures, and is stored as soon as it can be.

    Attributes:
        path: its file.
        status: as of the last call that is over. To read it waits for no disk.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Opens the file for this device alone, or makes it; checks all of it.

        Raises:
            SpoolError: another device uses it, it is damaged, it is no spool, or it cannot be opened.
        """
        self.path, self._room = path, max_bytes - FIXED_BYTES
        self._turn = threading.Lock()
        self._unsaved: dict[int, Capture] = {}
        self._taken = -1
        self._done: set[int] = set()  # and not yet removed from the file
        with contextlib.ExitStack() as opened, _explained(path):
            opened.enter_context(_locked(path))
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._file = opened.enter_context(contextlib.closing(_connect(path)))
            if not path.stat().st_size:  # new, or the process that made it was killed before anything was in it
                self._file.executescript(_CREATE)
            _check_kind(self._file, path)
            self._next_number, self._dropped, self._faults = _counts(self._file)
            self._check_views()
            with contextlib.suppress(OSError, sqlite3.Error):  # the disk may be full already
                self._reserve_journal()
            self._sizes: dict[int, int] = dict(
                self._file.execute("SELECT number, size FROM views ORDER BY number")
            )
            self._opened = opened.pop_all()
        self.status = self._status()

    def close(self) -> None:
        """Stores what waits in memory, if that can be done now, and lets others use the file.

        What cannot be stored is lost, and counted as dropped; in the file too, where a full disk lets it.
        """
        with self._in_turn():
            self._save()
            lost = list(self._unsaved)
            self._unsaved.clear()
            if lost:
                self._dropped += len(lost)
                try:
                    with self._file:
                        self._write_counts(self._dropped)
                except sqlite3.Error as error:
                    self._count_fault("the count of dropped views cannot be stored", error)
                log.error(
                    "views lost, the spool cannot be written",
                    spool=str(self.path), frame_ids=lost, dropped=self._dropped,
                )  # fmt: skip
            self._opened.close()

    def put(self, capture: Capture) -> None:
        """Stores a capture, whose number must be `next_number` of the status or higher.

        For want of room, the oldest go. A capture that was taken does not go, for it may have been counted
        already; one that does not fit beside those goes itself. Where the file cannot be written, the capture
        waits in memory. All this is logged and counted.
        """
        with self._in_turn():
            self._next_number = capture.number + 1
            self._unsaved[capture.number] = capture
            self._save()
            waiting = [number for number in self._unsaved if number > self._taken]
            for number in waiting[:-MAX_UNSAVED]:
                del self._unsaved[number]
                self._count_dropped(number)

    def take(self) -> Capture | None:
        """The oldest capture not yet taken since the spool was opened; None if there is none, or a fault.

        Raises:
            SpoolError: the capture is damaged.
        """
        with self._in_turn():
            if any(number > self._taken for number in self._sizes):  # older than any that could not be stored
                try:
                    *row, intact = self._file.execute(_OLDEST, (self._taken,)).fetchone()
                except sqlite3.Error as error:
                    self._count_fault("the spool cannot be read", error)
                    return None
                if not intact:
                    raise _damaged(f"view {row[0]}")
                capture = from_row(row)
            elif waiting := [number for number in self._unsaved if number > self._taken]:
                capture = self._unsaved[waiting[0]]
            else:
                return None
            self._taken = capture.number
            return capture

    def done(self, number: int) -> None:
        """Removes a capture that was taken."""
        with self._in_turn():
            self._unsaved.pop(number, None)
            self._done.add(number)
            try:
                with self._file:
                    self._file.executemany("DELETE FROM views WHERE number = ?", [(each,) for each in self._done])
            except sqlite3.Error as error:
                # It goes with the next one. If this process ends before, it is sent again, and counted once.
                self._count_fault("an answered view cannot be removed from the spool", error, number)
                return
            for each in self._done:
                self._sizes.pop(each, None)
            self._done.clear()

    @contextlib.contextmanager
    def _in_turn(self) -> Iterator[None]:
        """One call after the other, each of which then updates the status."""
        with self._turn:
            try:
                yield
            finally:
                self.status = self._status()

    def _status(self) -> SpoolStatus:
        sizes = self._sizes | {number: size_in_file(to_row(capture)) for number, capture in self._unsaved.items()}
        left = [size for number, size in sizes.items() if number not in self._done]
        last = next(reversed(self._sizes.values()), 0)
        full = any(number > self._taken for number in self._unsaved)
        full = full or sum(self._sizes.values()) + last > self._room
        return SpoolStatus(len(left), sum(left), self._dropped, self._faults, self._next_number, full)

    def _save(self) -> None:
        """Stores what waits in memory, the oldest first, up to the first that cannot be."""
        for number, capture in list(self._unsaved.items()):
            row = to_row(capture)
            size = size_in_file(row)
            going = self._to_make_room(number, size)
            try:
                with self._file:
                    self._file.executemany("DELETE FROM views WHERE number = ?", [(each,) for each in going])
                    if number not in going:
                        self._insert(row, size)
                    self._write_counts(self._dropped + len(going))
            except sqlite3.Error as error:
                self._count_fault("a view cannot be stored and waits in memory", error, number)
                with contextlib.suppress(sqlite3.Error), self._file:
                    self._write_counts(self._dropped)  # at least its number is not given again
                return
            self._sizes[number] = size
            del self._unsaved[number]
            for each in going:
                del self._sizes[each]
                self._count_dropped(each)

    def _to_make_room(self, new: int, size: int) -> list[int]:
        """Numbers of the captures that go so that the new one fits: the oldest, or it alone if none would do."""
        excess = sum(self._sizes.values()) + size - self._room
        going = []
        for number, bytes_ in self._sizes.items():
            if excess > 0 and number > self._taken:
                going.append(number)
                excess -= bytes_
        return [new] if excess > 0 else going

    def _insert(self, row: tuple[Any, ...], size: int) -> None:
        self._file.execute(_INSERT, (*row, size))

    def _write_counts(self, dropped: int) -> None:
        self._file.execute(_WRITE_COUNTS, (self._next_number, dropped, self._faults))

    def _count_fault(self, event: str, error: sqlite3.Error, number: int | None = None) -> None:
        self._faults += 1
        log.error(event, spool=str(self.path), frame_id=number, reason=str(error), faults=self._faults)

    def _count_dropped(self, number: int) -> None:
        self._dropped += 1
        log.warning("dropped the oldest view for want of room", dropped_frame_id=number, dropped=self._dropped)

    def _check_views(self) -> None:
        (verdict,) = self._file.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        if found := self._file.execute(_DAMAGED, (self._next_number,)).fetchone():
            raise _damaged(f"view {found[0]}")

    def _reserve_journal(self) -> None:
        """Lengthens the journal. SQLite writes it over from its start, and does not read what follows there."""
        with self._file:
            self._write_counts(self._dropped)
        with open(f"{self.path}-journal", "r+b") as journal:
            journal.write(bytes(max(JOURNAL_BYTES - journal.seek(0, os.SEEK_END), 0)))
            journal.flush()
            os.fsync(journal.fileno())


def spool_contents(path: Path) -> Iterator[dict[str, Any]]:
    """What a spool holds, as JSON objects: first the whole, then each view, the oldest first.

    A device may be using it meanwhile.

    Raises:
        SpoolError: there is none, or it cannot be read.
    """
    if not path.exists():
        raise SpoolError(f"there is no spool {path}")
    names = ("frame_id", "object_id", "device_id", "request_id", "taken_at", "bytes")
    query = "SELECT number, object_id, device_id, request_id, taken_at, size FROM views ORDER BY number"
    with _explained(path), contextlib.closing(_connect(path)) as file:
        _check_kind(file, path)
        file.execute("BEGIN")  # counts and views of one moment
        next_number, dropped, faults = _counts(file)
        views = [dict(zip(names, row, strict=True)) for row in file.execute(query)]
    yield {
        "event": "spool",
        "spool": str(path),
        "held": len(views),
        "bytes": sum(view["bytes"] for view in views),
        "oldest_taken_at": views[0]["taken_at"] if views else None,
        "dropped": dropped,
        "faults": faults,
        "next_frame_id": next_number,
    }
    yield from ({"event": "held", **view} for view in views)


def size_in_file(row: tuple[Any, ...]) -> int:
    """Bytes that a row takes in the file: whole pages, of them two for what leads to it."""
    content = sum(len(value.encode()) for value in row if isinstance(value, str))
    content += sum(len(value) for value in row if isinstance(value, bytes))
    return PAGE_BYTES * (-(-content // (PAGE_BYTES - 4)) + 2)


def _crc(*values: object) -> int:
    """CRC-32 of a row: SQLite does not see a flipped bit in the values that it stores."""
    checksum = 0
    for value in values:
        content = value if isinstance(value, bytes) else repr(value).encode()
        checksum = zlib.crc32(content, zlib.crc32(b"%d:" % len(content), checksum))
    return checksum


def _connect(path: Path) -> sqlite3.Connection:
    """Opens a file that is there; the caller's threads use it in turn."""
    file = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, check_same_thread=False)
    file.create_function("crc", -1, _crc, deterministic=True)
    file.execute("PRAGMA synchronous = FULL")
    file.execute("PRAGMA journal_mode = PERSIST")
    return file


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Locks a file beside the spool; the kernel unlocks it, however the process ends."""
    descriptor = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise SpoolError(f"another device uses the spool {path}: give each its own --spool") from None
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise SpoolError(
            f"the spool {path} cannot be used: {error}. If it is damaged, keep it and start with another --spool"
        ) from None
    except OSError as error:
        raise SpoolError(f"the spool {path} cannot be used: {error.strerror}") from None


def _damaged(where: str) -> SpoolError:
    return SpoolError(f"the spool is damaged: {where}. Keep it and start with another --spool")


def _check_kind(file: sqlite3.Connection, path: Path) -> None:
    (application,) = file.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        raise SpoolError(f"{path} is no spool, but another SQLite file: choose another --spool")
    (version,) = file.execute("PRAGMA user_version").fetchone()
    if version != VERSION:
        raise SpoolError(f"the spool {path} has version {version}, and this device knows version {VERSION} only")


def _counts(file: sqlite3.Connection) -> tuple[int, int, int]:
    """First frame id never given, captures dropped, faults."""
    if (row := file.execute(_READ_COUNTS).fetchone()) is None:
        raise _damaged("its counts")
    return row
