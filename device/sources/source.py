"""Picture and source: what every source of pictures gives, and how it is asked."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from PIL import Image


class SourceError(Exception):
    """No pictures can be taken from the source; the message says why and what to do."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture, not yet decoded unless it is a frame of a video.

    Attributes:
        name: where it comes from.
        content: a file, the bytes of one, or an upright RGB picture.
        taken_at: seconds since 1970.
    """

    name: str
    content: Path | bytes | Image.Image
    taken_at: float = field(default_factory=time.time)


class Source(Protocol):
    """What rounds take their pictures from."""

    @property
    def passed_over(self) -> int:
        """How many pictures were not taken because a newer one was there."""

    async def picture(self, number: int) -> Picture | None:
        """The picture for round `number`, as soon as there is one; None at the end of the source.

        Raises:
            SourceError: no more pictures can be taken.
        """

    def close(self) -> None:
        """Ends the source, also while a picture is waited for; returns at once or almost."""


class Stream(Protocol):
    """Pictures that come one after the other; read in a thread of its own by a `Feed`."""

    def pictures(self, stop: threading.Event) -> Iterator[Picture]:
        """Blocks until the next one is there, at most some seconds after `stop` is set.

        Raises:
            SourceError: there will be no more.
        """
