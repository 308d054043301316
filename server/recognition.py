"""From a request, however it came, to its answer."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from semlink import iaq
from semlink.bitstream import MAX_FRAME_BYTES, Frame, FrameError, Geometry
from semlink.images import model_pixels, open_image
from semlink.vit import IMAGE_SIZE
from server.classifier import Classifier, Recognition
from server.refusals import Refusal
from server.sessions import Sessions, Standing

SIDE = IMAGE_SIZE // iaq.PATCH_SIZE
MODEL_GEOMETRY = Geometry(rows=SIDE, columns=SIDE, patch_size=iaq.PATCH_SIZE, channels=3)


class ViewRequest(BaseModel):
    """What a request says beside the picture."""

    model_config = ConfigDict(extra="forbid")

    object_id: str = Field(
        "", max_length=128, description="what the cameras look at; empty: this view stands alone, without a vote"
    )
    device_id: str = Field("", max_length=128, description="who sends; needed where there is an object id")
    frame_id: int = Field(0, ge=0, lt=2**64, description="the device's count of its frames; a retry keeps it")
    expected_views: int = Field(1, ge=1, le=64, description="how many devices will give a view of this object")
    top_k: int = Field(5, ge=1, le=100, description="how many of the likeliest classes to answer")

    @model_validator(mode="after")
    def _device_of_object(self) -> Self:
        if self.object_id and not self.device_id:
            raise ValueError("device_id must be given where there is an object_id")
        return self


@dataclass(frozen=True)
class Answer:
    """What a view shows, and how the vote on its object stands (None for a view that stands alone)."""

    recognition: Recognition
    standing: Standing | None
    repeated: bool
    model: str


class Recognizer:
    """Answers views: checks them, has them classified, counts them."""

    def __init__(self, classifier: Classifier, sessions: Sessions) -> None:
        """Both are shared by everything that asks."""
        self._classifier, self._sessions = classifier, sessions

    async def frame(self, data: bytes, request: ViewRequest) -> Answer:
        """Answers a frame as it came from the channel.

        Raises:
            Refusal: the frame is malformed or of another geometry than the model's, or its view can't count.
        """
        frame = parse_frame(data)
        header = data[: frame.header_bits // 8]
        return await self._answer(request, header, lambda: iaq.decode(frame))

    async def picture(self, data: bytes, request: ViewRequest) -> Answer:
        """Answers an ordinary JPEG or PNG, as if there were no link.

        Raises:
            Refusal: the view can't count.
            ImageError: no such picture, or too large a one.
        """
        return await self._answer(
            request, data, lambda: model_pixels(open_image(data, ("JPEG", "PNG")), IMAGE_SIZE)
        )

    async def _answer(self, request: ViewRequest, identity: bytes, pixels: Callable[[], NDArray]) -> Answer:
        async def recognise() -> Recognition:
            return await self._classifier.classify(pixels, request.top_k)

        if not request.object_id:
            return Answer(await recognise(), None, repeated=False, model=self._classifier.description)
        recognition, standing, repeated = await self._sessions.add_view(
            request.object_id,
            request.device_id,
            request.frame_id,
            request.expected_views,
            hashlib.sha256(identity).digest(),
            recognise,
        )
        return Answer(recognition, standing, repeated, self._classifier.description)


def parse_frame(data: bytes) -> Frame:
    """A frame of the model's geometry, or Refusal."""
    if len(data) > MAX_FRAME_BYTES:
        raise Refusal(f"frame: {len(data)} bytes; at most {MAX_FRAME_BYTES} are taken (oversized)")
    try:
        frame = Frame.from_bytes(data)
    except FrameError as error:
        raise Refusal(f"frame: {error} ({error.reason})") from None
    if frame.geometry != MODEL_GEOMETRY:
        raise Refusal(f"frame: the model takes {MODEL_GEOMETRY}, not {frame.geometry} (geometry)")
    return frame
