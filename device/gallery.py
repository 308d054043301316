"""Gallery: the folder that a device draws its views into, of rounds the newest."""

import asyncio
import contextlib
import re
from pathlib import Path

import structlog

from device.capture import Capture
from device.picture import draw_view
from device.sent import Sent
from semlink.source.opinion import OpinionFrame
from semlink.source.registry import read_frame

log = structlog.get_logger(__name__)

MAX_PICTURES = 1000
"""So many pictures of a device's rounds stay in its folder, the newest."""


class Gallery:
    """Pictures of one device's views."""

    def __init__(self, folder: Path, object_id: str, device_id: str) -> None:
        """`folder` is made with the first picture; `object_id` is that of the first part of rounds' ids."""
        self._folder = folder
        name, device = (each.replace("/", "-") for each in (object_id, device_id))
        self._of_rounds = re.compile(rf"{re.escape(name)}-\d+(@[A-Za-z0-9._-]+)?-{re.escape(device)}\.png")

    async def draw(self, capture: Capture, sent: Sent) -> Path | None:
        """Draws the view into a picture; one that cannot be drawn is logged, and costs no answer."""
        path = self._folder / f"{capture.object_id}-{capture.device_id}.png".replace("/", "-")
        try:
            first, last = sent.layers[0], sent.layers[-1]
            has_opinion = isinstance(first.view.frame, OpinionFrame)
            opinion = [(each.name, each.confidence) for each in first.response.predictions] if has_opinion else []
            received, answer = read_frame(last.response.received_frame), last.response.predictions[0].name
            await asyncio.to_thread(draw_view, path, last.view, received, answer, opinion)
            await asyncio.to_thread(self._remove_oldest)
        except (OSError, ValueError) as error:
            log.error("no picture", picture=str(path), reason=str(error))
            return None
        return path

    def _remove_oldest(self) -> None:
        """Removes the pictures of this device's rounds but the newest; nothing else that is in the folder."""
        drawn: dict[Path, float] = {}
        for path in self._folder.iterdir():
            if self._of_rounds.fullmatch(path.name):
                with contextlib.suppress(FileNotFoundError):  # another view is drawn meanwhile, and removed it
                    drawn[path] = path.stat().st_mtime
        for path in sorted(drawn, key=lambda path: drawn[path])[:-MAX_PICTURES]:
            path.unlink(missing_ok=True)
