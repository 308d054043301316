"""Photos: picture files, one each round, the first again after the last."""

from collections.abc import Sequence
from pathlib import Path

from device.sources.source import Picture


class Photos:
    """Files, all there before the first round."""

    passed_over = 0

    def __init__(self, paths: Sequence[Path]) -> None:
        """At least one; opened in its round."""
        self._paths = paths

    async def picture(self, number: int) -> Picture:
        """The photo of a round: the same one for all cameras with the same photos."""
        path = self._paths[number % len(self._paths)]
        return Picture(str(path), path)

    def close(self) -> None:
        """Nothing is open."""
