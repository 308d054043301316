"""Decoders of the source coders: their models, loaded at the start, and the frames that lack theirs."""

from pathlib import Path

import structlog
from numpy.typing import NDArray

from semlink.frame import Frame, FrameError
from semlink.source.registry import coder_of, decode, source_coders
from semlink.vision.weights import WeightsError
from server.refusals import BadFrame, NoDecoder

log = structlog.get_logger(__name__)


class SourceDecoders:
    """Decoders of every source coder. One whose models are missing takes none of the others with it."""

    def __init__(self) -> None:
        """Loads nothing yet; see `load`."""
        self._missing: dict[str, str] = {}

    def load(self, weights: Path | None) -> None:
        """Loads the models of all coders that have any, looking into a folder first; logs which are missing."""
        for coder in source_coders():
            try:
                coder.prepare(weights)
            except (ImportError, OSError, WeightsError) as error:
                self._missing[coder.name] = str(error)
                log.warning("frames of a source coder are refused", source=coder.flag, reason=str(error))

    def problem(self) -> str:
        """Which frames are refused for lack of models; empty where none are."""
        names = ", ".join(name.replace("_", "-") for name in self._missing)
        return f"frames: no decoder for those of {names}; the log says why" if names else ""

    def check(self, frame: Frame) -> None:
        """Refuses a frame before it waits for a decoder that is not there.

        Raises:
            NoDecoder: its coder's models could not be loaded.
        """
        coder = coder_of(frame)
        if coder.name in self._missing:
            raise NoDecoder(
                f"this server has no decoder for frames of profile {frame.profile} ({coder.flag}): put its models "
                "where the server looks for weights"
            )

    @staticmethod
    def decode(frame: Frame) -> NDArray:
        """(H, W, C) pixels within 0..255; takes the time that the coder's model takes.

        Raises:
            BadFrame: the frame is for other models than the coder has here.
        """
        try:
            return decode(frame)
        except FrameError as error:
            raise BadFrame(str(error), error.reason) from None
