"""Opening of the picture source that the settings name."""

from collections.abc import Sequence
from pathlib import Path

from device.sources.feed import Feed
from device.sources.kinds import kind_of
from device.sources.photos import Photos
from device.sources.pipe import standard_input
from device.sources.source import Source
from device.sources.video import LiveVideo, VideoFile
from device.sources.watched import Watched
from semlink.vision.photos import find_photos


def open_source(images: Sequence[str], watch: bool, every: float | None) -> Source:
    """The source that `images` stand for.

    Args:
        images: one or more, which `is_stream` accepts.
        watch: whether a folder or file is watched.
        every: seconds between rounds; so far apart frames of a video file are taken.

    Raises:
        PhotosError: no such picture.
        SourceError: no such folder, device or video, or what reads videos is not installed.
    """
    (first, *_), path = images, Path(images[0])
    if watch:
        return Feed(Watched(path), newest=not path.is_dir())
    match kind_of(first):
        case "standard input":
            return Feed(standard_input(), newest=False)
        case "live video":
            return Feed(LiveVideo(first), newest=True)
        case "video file":
            return Feed(VideoFile(path, every or 0), newest=False)
    return Photos(find_photos(images))
