"""From a request, however it came, to its answer."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import structlog
from pydantic import BaseModel, ConfigDict, Field, model_validator

from semlink.frame import MAX_FRAME_BYTES, Frame, FrameError
from semlink.service import tracing
from semlink.source.registry import decode, read_frame
from semlink.vision.images import IMAGE_SIZE, model_pixels, open_image
from server.classifier import PATCHES, Classifier, Picture
from server.header_keys import HeaderKeys
from server.metrics import Metrics
from server.pending import Pending
from server.predictions import Recognition
from server.refusals import BadFrame, BadTag
from server.sessions import Sessions, Standing, View

log = structlog.get_logger(__name__)

MODEL_SHAPE = (IMAGE_SIZE, IMAGE_SIZE, 3)

VOUCHED_FOR = {"object_id", "device_id", "frame_id", "expected_views"}
"""Fields of a request that stand under its header's tag."""


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

    def __init__(
        self, classifier: Classifier, sessions: Sessions, metrics: Metrics, header_keys: HeaderKeys | None = None
    ) -> None:
        """All are shared by everything that asks. With `header_keys`, frames need a tag by their device."""
        self._classifier, self._sessions, self._metrics = classifier, sessions, metrics
        self._header_keys = header_keys

    def check_room(self, request: ViewRequest) -> None:
        """To be asked before a request's picture is read: it may be long, and there may be no room for it.

        Raises:
            Refusal: it would be refused whatever the picture. The view of an object is none of these: it may
                be a repeated one, which is answered without the model.
        """
        if not request.object_id:
            self._classifier.check_room()

    async def frame(
        self, data: bytes, request: ViewRequest, deadline: float, *, tag: bytes, lost_patches: Sequence[int] = ()
    ) -> Answer:
        """Answers a frame as it came from the channel, before `deadline` by the event loop's clock.

        Args:
            data: the frame.
            request: what it is a view of.
            deadline: until when the caller waits.
            tag: of the frame's header, looked at where the devices have keys.
            lost_patches: patches that the channel says it has lost, in any order; they may come twice.

        Raises:
            Refusal: the frame is malformed or of another geometry than the model's, its header is not vouched
                for, its view can't count, there is no room in the queue, Redis is away, or the deadline has
                passed.
        """
        self._metrics.received_bits.inc(8 * len(data))
        tracing.annotate(bits=8 * len(data))
        try:
            frame = parse_frame(data)
            check_lost(lost_patches)
        except BadFrame as refusal:
            self._metrics.frames_rejected.labels(refusal.reason).inc()
            raise
        tracing.annotate(rho=frame.rho)
        header = data[: frame.header_bits // 8]
        if self._header_keys is not None:
            try:
                self._header_keys.check(tag, header, **request.model_dump(include=VOUCHED_FOR))
            except BadTag:
                self._metrics.frames_rejected.labels("tag").inc()
                raise

        def make() -> Picture:
            arrived = frame.without(lost_patches)
            return Picture(decode(arrived), arrived.segment_bits > 0, request.top_k)

        return await self._answer(request, header, make, deadline)

    async def picture(self, data: bytes, request: ViewRequest, deadline: float) -> Answer:
        """Answers an ordinary JPEG or PNG, as if there were no link.

        Raises:
            Refusal: as of a frame; where the devices have keys, always.
            ImageError: no such picture, or too large a one.
        """
        if self._header_keys is not None:
            raise BadTag("a picture has no header with a tag: this server takes frames of its devices only")

        def make() -> Picture:
            pixels = model_pixels(open_image(data, ("JPEG", "PNG")), IMAGE_SIZE)
            return Picture(pixels, np.ones(PATCHES, bool), request.top_k)

        return await self._answer(request, data, make, deadline)

    async def _answer(
        self, request: ViewRequest, identity: bytes, decode: Callable[[], Picture], deadline: float
    ) -> Answer:
        def recognise() -> Pending:
            return self._classifier.submit(decode, deadline)

        standing, repeated = None, False
        if request.object_id:
            recognition, standing, repeated = await self._sessions.add_view(
                View(
                    request.object_id,
                    request.device_id,
                    request.frame_id,
                    request.expected_views,
                    fingerprint=hashlib.sha256(identity).digest(),
                ),
                recognise,
                deadline,
            )
        else:
            recognition = await recognise().wait(deadline)
        told = {
            "label": recognition.predictions[0].label,
            "repeated": repeated,
            "queue_ms": recognition.queue_ms,
            "inference_ms": recognition.inference_ms,
        }
        tracing.annotate(**told)
        log.debug("answered", **told)
        return Answer(recognition, standing, repeated, self._classifier.description)


def parse_frame(data: bytes) -> Frame:
    """A frame of the model's geometry, or BadFrame."""
    try:
        frame = read_frame(data, most_bytes=MAX_FRAME_BYTES)
    except FrameError as error:
        raise BadFrame(str(error), error.reason) from None
    segments = frame.segment_bits.size
    if frame.shape != MODEL_SHAPE or segments != PATCHES:
        raise BadFrame(
            f"the model takes {MODEL_SHAPE} pixels in {PATCHES} patches, not {frame.shape} in {segments}",
            "geometry",
        )
    return frame


def check_lost(patches: Sequence[int]) -> None:
    """BadFrame unless these can be patches of a frame of the model's geometry; some may come twice."""
    if len(patches) > PATCHES or max(patches, default=0) >= PATCHES:
        raise BadFrame(f"lost patches must be at most {PATCHES} numbers within 0..{PATCHES - 1}", "lost_patches")
