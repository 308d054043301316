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
"""Of the start, and of the page's reader; more than there are cameras, so that what one looks at is held."""
MOST_HELD = 96
"""Pictures, each from a viewpoint, that a camera holds."""


@dataclass
class Pictures:
    """Pictures by digest, and which of them each camera looks at, from which viewpoint."""

    _files: dict[str, Path] = field(default_factory=dict)
    _uploaded: OrderedDict[str, Sequence[bytes]] = field(default_factory=OrderedDict)
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

    def line(self, picture: str, view: int | None) -> dict[str, Any] | None:
        """What tells a camera of a picture seen from a viewpoint; None: it is no longer held."""
        told: dict[str, Any] = {"picture": picture, "view": view}
        if picture in self._files:
            return told | {"path": str(self._files[picture])}
        if picture in self._uploaded:
            return told | {"pixels": b64encode(self._uploaded[picture][view or 0]).decode()}
        return None

    def show(
        self, digest: str, seen: Sequence[bytes], device_ids: Sequence[str], *, from_viewpoints: bool
    ) -> None:
        """Has cameras look at a picture.

        Args:
            digest: of its file.
            seen: as `studio.uploads.Uploads` gives it.
            device_ids: the cameras.
            from_viewpoints: each from another one; else each at the whole picture.
        """
        self._uploaded[digest] = seen
        self._uploaded.move_to_end(digest)
        for number, device_id in enumerate(device_ids):
            view = number % len(VIEWPOINTS) + 1 if from_viewpoints else None
            self._shown[device_id] = {"picture": digest, "view": view}
        self._drop_old()

    def forget(self) -> None:
        """Has all cameras look at the pictures of the start again; past rounds may still need those of now."""
        self._shown.clear()
        self._drop_old()

    def _drop_old(self) -> None:
        looked_at = {each["picture"] for each in self._shown.values()}
        unseen = [each for each in self._uploaded if each not in looked_at]
        for old in unseen[: max(len(self._uploaded) - MOST_UPLOADS, 0)]:
            del self._uploaded[old]
