"""Kinds of picture sources, told by what `--images` names; nothing is opened, and Pillow is not needed."""

from collections.abc import Sequence
from typing import Literal

LIVE_SCHEMES = ("rtsp://", "rtsps://")
VIDEO_SUFFIXES = (".avi", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".y4m")
STANDARD_INPUT = "-"

Kind = Literal["photos", "standard input", "video file", "live video"]


def kind_of(image: str) -> Kind:
    """What a value of `--images` stands for, by its form alone; no file is opened."""
    if image == STANDARD_INPUT:
        return "standard input"
    if image.lower().startswith(LIVE_SCHEMES) or image.startswith("/dev/video"):
        return "live video"
    return "video file" if image.lower().endswith(VIDEO_SUFFIXES) else "photos"


def is_stream(images: Sequence[str], watch: bool) -> bool:
    """Whether the pictures come one after the other, as they are made, and not again and again.

    Raises:
        ValueError: the images and `watch` do not go together; the message says what does.
    """
    streams = [image for image in images if kind_of(image) != "photos"]
    if streams and len(images) > 1:
        raise ValueError(f"--images (or SEMLINK_IMAGES): {streams[0]} goes with no other pictures")
    if watch and (streams or len(images) > 1):
        raise ValueError("--watch (or SEMLINK_WATCH) is for one folder, or one file that is overwritten")
    return watch or bool(streams)
