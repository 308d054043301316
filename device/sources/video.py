"""Video through PyAV (FFmpeg): the frames of a file, or the newest of a V4L2 device or RTSP camera."""

import importlib.util
import random
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog
from PIL import Image

from device.sources.kinds import LIVE_SCHEMES
from device.sources.source import Picture, SourceError
from semlink.vision.images import MAX_PIXELS

if TYPE_CHECKING:
    from av.container import InputContainer

log = structlog.get_logger(__name__)

OPEN_SECONDS, READ_SECONDS = 10.0, 10.0
"""Time limits of opening a camera, and of waiting for its next packet."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0
"""Before a live camera is opened anew: a random share of twice as long after each failure."""
MAX_SILENT_PACKETS = 10_000
"""Packets after which a video that has given no frame counts as damaged."""

_FILE_OPTIONS = {
    # Of demuxers, those of containers: playlists would open other files and addresses.
    "format_whitelist": "avi,matroska,webm,mov,mp4,mjpeg,mpeg,mpegvideo,mpegts,yuv4mpegpipe,h264,hevc",
    "protocol_whitelist": "file",
}
_RTSP_OPTIONS = {"rtsp_transport": "tcp", "protocol_whitelist": "rtsp,rtsps,rtp,tcp,tls,udp,srtp,crypto"}


class VideoFile:
    """The frames of a file in order, upright as they are coded."""

    def __init__(self, path: Path, step_seconds: float) -> None:
        """Of frames less than `step_seconds` after the last one of the film, none is taken.

        Raises:
            SourceError: there is no such file, or PyAV is not installed.
        """
        _require_pyav()
        if not path.is_file():
            raise SourceError(f"there is no video {path}")
        self._path, self._step_seconds = path, step_seconds

    def pictures(self, stop: threading.Event) -> Iterator[Picture]:
        """Until the film's end."""
        due = 0.0
        for number, (seconds, image) in enumerate(_frames(str(self._path), stop, options=_FILE_OPTIONS)):
            if seconds >= due - 1e-6:
                due += self._step_seconds
                yield Picture(f"{self._path} {number}", image)


class LiveVideo:
    """A camera that goes on, whatever becomes of it: opened anew, after growing pauses, when it ends or fails."""

    def __init__(self, address: str) -> None:
        """`address` is rtsp://..., or a V4L2 device.

        Raises:
            SourceError: there is no such device, or PyAV is not installed.
        """
        _require_pyav()
        self._is_device = address.startswith("/")
        if self._is_device and not Path(address).exists():
            raise SourceError(f"there is no camera {address}")
        self._address, self._name = address, without_password(address)

    def pictures(self, stop: threading.Event) -> Iterator[Picture]:
        """Until stopped."""
        how: dict[str, Any] = {"demuxer": "v4l2", "options": {}} if self._is_device else {"options": _RTSP_OPTIONS}
        number, failures = 0, 0
        while not stop.is_set():
            try:
                for _, image in _frames(self._address, stop, name=self._name, **how):
                    yield Picture(f"{self._name} {number}", image)
                    number, failures = number + 1, 0
                reason = "the stream has ended"
            except SourceError as error:
                reason = str(error)
            failures += 1
            longest = min(FIRST_PAUSE_SECONDS * 2.0**failures, LONGEST_PAUSE_SECONDS)
            pause = random.uniform(longest / 2, longest)
            if not stop.is_set():
                log.warning(
                    "the camera is opened anew", camera=self._name, reason=reason, pause_seconds=round(pause, 2)
                )
            stop.wait(pause)


def without_password(address: str) -> str:
    """An address as logs and reports may show it: without user and password."""
    if not address.lower().startswith(LIVE_SCHEMES):
        return address
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def _frames(
    address: str, stop: threading.Event, *, options: dict[str, str], demuxer: str | None = None, name: str = ""
) -> Iterator[tuple[float, Image.Image]]:
    """Frames and their seconds from the first one.

    Raises:
        SourceError: it can't be opened or read, has no video, or frames larger than a picture may be.
    """
    import av

    name = name or address
    try:
        container = av.open(address, format=demuxer, options=options, timeout=(OPEN_SECONDS, READ_SECONDS))
    except (OSError, ValueError, av.FFmpegError) as error:
        raise SourceError(f"{name} cannot be opened: {_reason(error)}") from None
    with closing(container):
        yield from _decoded(container, name, stop)


def _decoded(container: "InputContainer", name: str, stop: threading.Event) -> Iterator[tuple[float, Image.Image]]:
    import av

    if not container.streams.video:
        raise SourceError(f"{name} has no video")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise SourceError(f"{name} is coded in a way that this FFmpeg cannot decode")
    _check_size(stream.codec_context.width, stream.codec_context.height, name)
    first, number, silent, damaged = None, 0, 0, 0
    try:
        for packet in container.demux(stream):
            if stop.is_set():
                return
            silent += 1
            try:
                frames = packet.decode()
            except av.InvalidDataError:  # the next packet may be whole again
                damaged, frames = damaged + 1, []
            for frame in frames:
                _check_size(frame.width, frame.height, name)
                at = float(frame.time) if frame.time is not None else number / float(stream.average_rate or 25)
                first, number, silent = at if first is None else first, number + 1, 0
                yield at - first, frame.to_image()
            if silent > MAX_SILENT_PACKETS:
                break
    except (OSError, ValueError, av.FFmpegError) as error:
        raise SourceError(f"{name} cannot be read: {_reason(error)}") from None
    if not number and not stop.is_set():
        raise SourceError(f"{name} has no frame that can be decoded")
    if damaged:
        log.warning("parts of a video could not be decoded", video=name, packets=damaged)


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise SourceError(f"{name} has frames of {width} x {height} pixels; at most {MAX_PIXELS} are taken")


def _reason(error: Exception) -> str:
    """FFmpeg's message without the address, which may hold a password."""
    return getattr(error, "strerror", None) or str(error)


def _require_pyav() -> None:
    if importlib.util.find_spec("av") is None:
        raise SourceError("video needs PyAV: pip install 'semlink[video]'")
