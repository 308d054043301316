"""Cell: one setting of the link, its channel among them; and the JSON form by which a row is found again."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from numpy.typing import NDArray

from experiments.data.prepared import Prepared
from experiments.evaluation.coders import Received
from semlink.channel.base import Channel, Noisy

Tuning = Callable[[str, float], float]
"""Name of a method, ratio ρ -> its threshold, tuned on images that are not measured; that may take a minute."""


DIGEST = "channel_digest"


@dataclass(frozen=True)
class Cell(ABC):
    """One setting of the link.

    Its fields are settings that somebody chose. What is found from them, such as a tuned threshold or the rate of
    a code, differs in its last digits from machine to machine, and is a field of the row instead (`fields`).
    """

    channel: Channel
    """The channel that the image crosses."""

    @property
    def settings(self) -> dict[str, Any]:
        """The cell as JSON; the channel is written as on the control plane, with its `type`.

        A measured channel is known by the digest of what its file holds, too (`DIGEST`).
        """
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "channel"}
        channel = {"type": self.channel.name} | asdict(self.channel)
        if (digest := digest_of(self.channel)) is not None:
            channel[DIGEST] = digest
        return own | {"channel": channel}

    def value(self, name: str) -> Any:
        """A setting of the cell or of its channel, by its name; None where neither has it.

        >>> from experiments.evaluation.frame_cells import FrameCell
        >>> from semlink.channel.bsc import BinarySymmetricChannel
        >>> cell = FrameCell(BinarySymmetricChannel(ber=0.05), "fixed", 0.25)
        >>> cell.value("rho"), cell.value("ber"), cell.value("snr_db")
        (0.25, 0.05, None)
        """
        return getattr(self, name, getattr(self.channel, name, None))

    @property
    @abstractmethod
    def title(self) -> str:
        """In words, for the progress bar."""


class SentCell(Cell):
    """A cell whose images travel one by one, each in one frame or file: it knows how."""

    @property
    def takes_tokens(self) -> bool:
        """It sends tokens of the device's model, which are prepared only where one does."""
        return False

    @abstractmethod
    def shared(self, tuning: Tuning) -> Any:
        """What serves all images and is found once, before the first; it goes to other processes."""

    @abstractmethod
    def send(self, shared: Any, prepared: Prepared, image: int, seed: int) -> Received:
        """An image as it arrives.

        Args:
            shared: what `shared` gave.
            prepared: pixels and attention.
            image: its number among them.
            seed: of the channel. Cells of one seed meet the same errors image by image.
        """

    @abstractmethod
    def fields(self, shared: Any, seen: Mapping[str, NDArray]) -> dict[str, Any]:
        """Fields of a row of this kind of cell alone; `seen` has `Received.more` of all images by name."""


def digest_of(channel: Channel) -> str | None:
    """Digest of the recording that a measured channel meets; None: it is not a measured one."""
    recording = channel.recording if isinstance(channel, Noisy) else None
    return None if recording is None else recording.digest


def channel_title(channel: Channel) -> str:
    """A channel in words: its name and what its parameters are set to.

    >>> from semlink.channel.awgn import Awgn
    >>> channel_title(Awgn(snr_db=10.0))
    'awgn, snr_db 10, order 64, access qam'
    """
    told = {
        name: value
        for name, value in asdict(channel).items()
        if value not in (None, "none") and name not in channel.idle
    }
    return ", ".join([channel.name, *(f"{name} {_shown(value)}" for name, value in told.items())])


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
