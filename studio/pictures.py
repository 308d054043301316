"""Pictures that the cameras look at: one photo seen four ways, or one for each; uploads in memory."""

from base64 import b64encode
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device.camera import VIEWPOINTS
from semlink.vision.photos import find_photos
from studio.rounds import digest_of

MOST_PICTURES, MOST_UPLOADS = 64, 16
"""Of the start, and of the page's reader."""


@dataclass
class Pictures:
    """Pictures by digest, and which of them each camera looks at, from which viewpoint."""

    _files: dict[str, Path] = field(default_factory=dict)
    _uploaded: OrderedDict[str, bytes] = field(default_factory=OrderedDict)
    _start: list[str] = field(default_factory=list)
    _shown: dict[str, dict[str, Any]] = field(default_factory=dict)

    def open(self, images: Sequence[str]) -> None:
        """Takes the pictures of the start.

        Raises:
            PhotosError: there are no such pictures.
        """
        for path in find_photos(images)[:MOST_PICTURES]:
            digest = digest_of(path.read_bytes())
            self._files[digest] = path.absolute()
            self._start.append(digest)

    def of(self, device_id: str, number: int) -> dict[str, Any]:
        """Digest and viewpoint of what camera `number`, from 0, looks at; no viewpoint: the whole picture."""
        if device_id in self._shown:
            return self._shown[device_id]
        if len(self._start) > 1:
            return {"picture": self._start[number % len(self._start)], "view": None}
        return {"picture": self._start[0], "view": number % len(VIEWPOINTS) + 1}

    def line(self, digest: str) -> dict[str, str] | None:
        """What tells a camera of a picture; None: it is no longer held."""
        if digest in self._files:
            return {"digest": digest, "path": str(self._files[digest])}
        data = self._uploaded.get(digest)
        return None if data is None else {"digest": digest, "data": b64encode(data).decode()}

    def show(self, data: bytes, device_ids: Sequence[str], *, from_viewpoints: bool) -> str:
        """Has cameras look at a picture.

        Args:
            data: the file.
            device_ids: the cameras.
            from_viewpoints: each from another one; else each at the whole picture.
        """
        digest = digest_of(data)
        self._uploaded[digest] = data
        while len(self._uploaded) > MOST_UPLOADS:
            self._uploaded.popitem(last=False)
        for number, device_id in enumerate(device_ids):
            view = number % len(VIEWPOINTS) + 1 if from_viewpoints else None
            self._shown[device_id] = {"picture": digest, "view": view}
        return digest

    def forget(self) -> None:
        """Has all cameras look at the pictures of the start again."""
        self._shown.clear()
        self._uploaded.clear()
