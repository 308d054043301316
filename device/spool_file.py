"""The file of a spool: SQLite, with a checksum for every row, and a lock beside it."""

import contextlib
import fcntl
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

APPLICATION_ID = 0x534C5350
"""`SLSP` in the file's header: a spool of this project."""
VERSION = 1
PAGE_BYTES = 4096
JOURNAL_BYTES = 64 * PAGE_BYTES
"""What a removal needs for its journal, with much to spare; kept, so that one can be made on a full disk."""


class SpoolError(Exception):
    """The spool cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Stored:
    """A view as the spool keeps it.

    Attributes:
        number: its frame id.
        object_id: what is looked at.
        device_id: who looks.
        expected_views: how many devices look at the object.
        request_id: of all calls that are made for it.
        taken_at: when it was taken, in seconds since 1970.
        details: what only its report tells, as JSON.
        frame: the frame's bytes.
        attention: what the patches weigh, as bytes.
        pixels: what a plan or a picture is made from; None if there is to be neither.
    """

    number: int
    object_id: str
    device_id: str
    expected_views: int
    request_id: str
    taken_at: float
    details: str
    frame: bytes
    attention: bytes
    pixels: bytes | None

    @property
    def size(self) -> int:
        """Bytes that it takes in the file: whole pages, of them two for what leads to it."""
        texts = "".join((self.object_id, self.device_id, self.request_id, self.details))
        content = len(texts.encode()) + len(self.frame) + len(self.attention) + len(self.pixels or b"")
        return PAGE_BYTES * (-(-content // (PAGE_BYTES - 4)) + 2)


@dataclass(frozen=True)
class Counts:
    """What the file keeps beside the views.

    Attributes:
        next_number: the first frame id that was never given.
        dropped: views given up unsent because there was no more room.
        faults: how often the file could not be written or read.
    """

    next_number: int = 0
    dropped: int = 0
    faults: int = 0


_COLUMNS = ", ".join(field.name for field in fields(Stored))
_SCHEMA = (
    # What is short stands before what is long, so that it is found without reading through that.
    "CREATE TABLE views (number INTEGER PRIMARY KEY, object_id TEXT NOT NULL, device_id TEXT NOT NULL, "
    "request_id TEXT NOT NULL, expected_views INTEGER NOT NULL, taken_at REAL NOT NULL, size INTEGER NOT NULL, "
    "checksum INTEGER NOT NULL, details TEXT NOT NULL, frame BLOB NOT NULL, attention BLOB NOT NULL, pixels BLOB)",
    "CREATE TABLE counts (only INTEGER PRIMARY KEY CHECK (only = 1), next_number INTEGER NOT NULL, "
    "dropped INTEGER NOT NULL, faults INTEGER NOT NULL, checksum INTEGER NOT NULL)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)


@contextlib.contextmanager
def open_spool(path: Path) -> Iterator[sqlite3.Connection]:
    """Opens the file for one device alone, and makes it if there is none; all that is in it has been checked.

    Raises:
        SpoolError: another device uses it, it is damaged, it is no spool, or it cannot be opened.
    """
    with contextlib.ExitStack() as opened:
        with _explained(path):
            opened.enter_context(_alone(path))
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            file = opened.enter_context(contextlib.closing(_connect(path)))
            if path.stat().st_size == 0:  # new, or whoever made it was killed before anything was in it
                file.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                with transaction(file):
                    for statement in _SCHEMA:
                        file.execute(statement)
                    write_counts(file, Counts())
            _check_kind(file, path)
            _check_all(file)
        with contextlib.suppress(OSError, sqlite3.Error):  # the disk may be full already
            _reserve_journal(file, path)
        yield file


@contextlib.contextmanager
def transaction(file: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; on disk once it ends."""
    file.execute("BEGIN IMMEDIATE")
    try:
        yield
        file.execute("COMMIT")
    except BaseException:
        if file.in_transaction:  # SQLite has not taken it back by itself
            with contextlib.suppress(sqlite3.Error):
                file.execute("ROLLBACK")
        raise


def insert(file: sqlite3.Connection, view: Stored) -> None:
    """Adds a view."""
    values = astuple(view)
    places = ", ".join("?" * len(values))
    file.execute(
        f"INSERT INTO views ({_COLUMNS}, size, checksum) VALUES ({places}, ?, ?)",
        (*values, view.size, _checksum(values)),
    )


def delete(file: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """Removes views; numbers that there are no views of are passed over."""
    file.executemany("DELETE FROM views WHERE number = ?", [(number,) for number in numbers])


def oldest_after(file: sqlite3.Connection, number: int) -> Stored | None:
    """The first view with a higher number.

    Raises:
        SpoolError: it is damaged.
    """
    query = f"SELECT {_COLUMNS}, checksum FROM views WHERE number > ? ORDER BY number LIMIT 1"
    row = file.execute(query, (number,)).fetchone()
    return None if row is None else _checked(row)


def read_counts(file: sqlite3.Connection) -> Counts:
    """The counts.

    Raises:
        SpoolError: they are damaged.
    """
    row = file.execute("SELECT next_number, dropped, faults, checksum FROM counts").fetchone()
    if row is None or _checksum(row[:-1]) != row[-1]:
        raise SpoolError("the spool is damaged: its counts. Keep it and start with another --spool")
    return Counts(*row[:-1])


def write_counts(file: sqlite3.Connection, counts: Counts) -> None:
    """Sets the counts."""
    values = astuple(counts)
    file.execute("INSERT OR REPLACE INTO counts VALUES (1, ?, ?, ?, ?)", (*values, _checksum(values)))


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
        file.execute("BEGIN")
        counts = read_counts(file)
        views = [dict(zip(names, row, strict=True)) for row in file.execute(query)]
    yield {
        "event": "spool",
        "spool": str(path),
        "held": len(views),
        "bytes": sum(view["bytes"] for view in views),
        "oldest_taken_at": views[0]["taken_at"] if views else None,
        "dropped": counts.dropped,
        "faults": counts.faults,
        "next_frame_id": counts.next_number,
    }
    yield from ({"event": "held", **view} for view in views)


def _connect(path: Path) -> sqlite3.Connection:
    """Opens a file that is there; transactions are begun by name, and the caller keeps its threads in turn."""
    address = f"{path.resolve().as_uri()}?mode=rw"
    file = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
    file.execute("PRAGMA synchronous = FULL")
    file.execute("PRAGMA journal_mode = PERSIST")
    return file


def _reserve_journal(file: sqlite3.Connection, path: Path) -> None:
    """Lengthens the journal. It is written over from its start, and what follows there is not looked at."""
    with transaction(file):
        write_counts(file, read_counts(file))
    with open(f"{path}-journal", "r+b") as journal:
        missing = JOURNAL_BYTES - journal.seek(0, os.SEEK_END)
        journal.write(bytes(max(missing, 0)))
        journal.flush()
        os.fsync(journal.fileno())


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
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


def _check_kind(file: sqlite3.Connection, path: Path) -> None:
    (application,) = file.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        raise SpoolError(f"{path} is no spool, but another SQLite file: choose another --spool")
    (version,) = file.execute("PRAGMA user_version").fetchone()
    if version != VERSION:
        raise SpoolError(f"the spool {path} has version {version}, and this device knows version {VERSION} only")


def _check_all(file: sqlite3.Connection) -> None:
    (verdict,) = file.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)
    next_number = read_counts(file).next_number
    for row in file.execute(f"SELECT {_COLUMNS}, checksum FROM views"):
        view = _checked(row)
        if view.number >= next_number:
            raise sqlite3.DatabaseError(f"view {view.number} has a number that was not given")


def _checked(row: tuple) -> Stored:
    *values, checksum = row
    if _checksum(values) != checksum:
        raise SpoolError(f"the spool is damaged: view {row[0]}. Keep it and start with another --spool")
    return Stored(*values)


def _checksum(values: Iterable[object]) -> int:
    """CRC-32 of a row: SQLite does not see a flipped bit in what it keeps."""
    checksum = 0
    for value in values:
        content = value if isinstance(value, bytes) else repr(value).encode()
        checksum = zlib.crc32(content, zlib.crc32(b"%d:" % len(content), checksum))
    return checksum
