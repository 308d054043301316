"""Watched folder or file: each new or overwritten picture file is taken once it is whole (polling)."""

import os
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from device.sources.boundaries import is_whole
from device.sources.source import Picture, SourceError
from semlink.vision.images import MAX_IMAGE_BYTES
from semlink.vision.photos import SUFFIXES

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.05
POLL_SHARE = 0.1
"""Of its time, a watched folder is looked through for no more than this."""
STALE_SECONDS = 10.0
"""A file that is not whole and has not changed for so long is taken as it is, and refused where it is decoded."""


@dataclass(frozen=True)
class _Version:
    """What tells a file from what it was before: an overwritten one has another time, size or inode."""

    mtime_ns: int
    size: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> "_Version":
        return cls(status.st_mtime_ns, status.st_size, status.st_ino)


class Watched:
    """A folder, or one file.

    Polling sees what network file systems and containers' mounts do not notify of.
    """

    def __init__(self, path: Path) -> None:
        """The folder's first pictures, and the file, may come later.

        Raises:
            SourceError: there is no such folder, nor one with such a file.
        """
        if not (path.is_dir() or path.parent.is_dir()):
            raise SourceError(f"there is no folder {path} to watch")
        if not path.is_dir() and path.suffix.lower() not in SUFFIXES:
            raise SourceError(f"{path} is no folder, and no picture file ({', '.join(SUFFIXES)}) to watch")
        self._path, self._is_folder = path, path.is_dir()
        self._taken: dict[str, _Version] = {}
        self._unfinished: dict[str, tuple[_Version, float]] = {}
        self._is_away = False

    def pictures(self, stop: threading.Event) -> Iterator[Picture]:
        """Those that are there, the oldest first, then each that is written; until stopped."""
        while not stop.is_set():
            started = time.monotonic()
            files = self._files()
            looked = time.monotonic() - started
            self._taken = {path: version for path, version in self._taken.items() if path in files}
            self._unfinished = {path: since for path, since in self._unfinished.items() if path in files}
            changed = [path for path, version in files.items() if self._taken.get(path) != version]
            for path in sorted(changed, key=lambda path: (files[path].mtime_ns, path)):
                if not self._is_unfinished(path, files[path]) and (picture := self._read(path)) is not None:
                    yield picture
            stop.wait(max(POLL_SECONDS, looked / POLL_SHARE))

    def _files(self) -> dict[str, _Version]:
        """Picture files; none while the folder is away, as a card that is being changed."""
        paths = [str(self._path)]
        try:
            if self._is_folder:
                with os.scandir(self._path) as entries:
                    paths = [entry.path for entry in entries if _is_picture(entry.name)]
        except OSError as error:
            if not self._is_away:
                log.warning("the watched folder cannot be read", folder=str(self._path), reason=error.strerror)
            self._is_away = True
            return {}
        self._is_away = False
        return {path: version for path in paths if (version := _version(path))}

    def _is_unfinished(self, path: str, version: _Version) -> bool:
        """Whether the file was not whole when it was read last, and is as it was then."""
        last, since = self._unfinished.get(path, (None, 0.0))
        return last == version and time.monotonic() - since < STALE_SECONDS

    def _read(self, path: str) -> Picture | None:
        """The file's picture; None while it is being written, or if it is gone."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:
                before = os.fstat(descriptor)
                data = file.read(MAX_IMAGE_BYTES + 1) if stat.S_ISREG(before.st_mode) else b""
                version = _Version.of(os.fstat(descriptor))
        except OSError:
            return None
        if version != _Version.of(before):
            return None
        is_stale = self._unfinished.get(path, (None, 0.0))[0] == version  # else it would not have been read again
        if not is_stale and len(data) <= MAX_IMAGE_BYTES and not is_whole(data):
            self._unfinished[path] = (version, time.monotonic())
            return None
        self._taken[path] = version
        return Picture(path, data, taken_at=version.mtime_ns / 1e9)


def _is_picture(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _version(path: str) -> _Version | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return _Version.of(status) if stat.S_ISREG(status.st_mode) else None
