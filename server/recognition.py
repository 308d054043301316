"""Recognition: from a request, over whichever protocol, to its answer; owns the model and its queue."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self, get_args

import structlog
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from semlink.decision.belief import Belief
from semlink.decision.calibration import Calibration, Rung
from semlink.frame import Frame, FrameError
from semlink.service import tracing
from semlink.service.admission import CALLER, Refusal
from semlink.source.codec.frame import CodecFrame
from semlink.source.opinion import OpinionFrame
from semlink.source.registry import coder_of
from semlink.vision.images import ImageError
from server.batching import Batcher, Decoded, Pending, Recognition
from server.decoders import SourceDecoders
from server.frames import HeaderKeys, parse_frame
from server.metrics import Metrics
from server.model import ModelInput, load_model, predictions_of
from server.pictures import FRAMES, PictureDecoders
from server.refusals import BadFrame, BadTag, NotReady
from server.sessions import LAST_LAYER, Recognise, Sessions, SubmittedView, VoteStatus
from server.settings import ServerSettings

log = structlog.get_logger(__name__)

More = Literal["nothing", "follows", "on_wish"]
"""Names of `ClassifyRequest.More`, which says what may follow a frame, in the order of its numbers."""


class ViewRequest(BaseModel):
    """The parameters of a request to classify, beside the frame or picture."""

    model_config = ConfigDict(extra="forbid")

    object_id: str = Field(
        "", max_length=128, description="what the cameras look at; empty: this view stands alone, without a vote"
    )
    device_id: str = Field("", max_length=128, description="who sends; needed where there is an object id")
    frame_id: int = Field(0, ge=0, lt=2**64, description="the device's count of its frames; a retry keeps it")
    expected_views: int = Field(1, ge=1, le=64, description="how many devices will give a view of this object")
    top_k: int = Field(5, ge=1, le=100, description="how many of the likeliest classes to answer")
    layer: int = Field(0, ge=0, le=LAST_LAYER, description="which layer of the view this is")
    more: More = Field(
        "nothing", description="what may follow it: nothing, the next layer, or the next layer if it is wished for"
    )

    @model_validator(mode="after")
    def _device_of_object(self) -> Self:
        if self.object_id and not self.device_id:
            raise ValueError("device_id must be given where there is an object_id")
        if (self.layer or self.more != "nothing") and not self.object_id:
            raise ValueError("a view in layers needs an object_id: leave layer and more out, or give one")
        if self.layer == LAST_LAYER and self.more != "nothing":
            raise ValueError(f"nothing follows layer {LAST_LAYER}, the last one that there may be")
        return self

    @property
    def more_number(self) -> int:
        """As the contract numbers it."""
        return get_args(More).index(self.more)

    def tagged(self) -> dict[str, Any]:
        """What a header tag covers beside the header."""
        ids = self.model_dump(include={"object_id", "device_id", "frame_id", "expected_views", "layer"})
        return ids | {"more": self.more_number}


@dataclass(frozen=True)
class Answer:
    """The classes of a view, and the vote status of its object (None for a view that stands alone).

    The classes are those of all its layers together.
    """

    recognition: Recognition
    status: VoteStatus | None
    repeated: bool
    model: str


class Recognizer:
    """Answers views: validates, decodes and classifies them, and counts them in their sessions.

    Attributes:
        is_loading: the model is being loaded, in a thread that can't be stopped.
        pictures: decodes them, in processes of its own.
        frames: the same for the frames of source coders that are decoded apart; started by the first such frame,
            or by the first opinion that a picture may follow.
        decoders: of all other frames, in threads.
    """

    def __init__(
        self,
        settings: ServerSettings,
        sessions: Sessions,
        metrics: Metrics,
        calibration: Calibration,
        header_keys: HeaderKeys | None = None,
    ) -> None:
        """Loads no model yet; see `start`. With `header_keys`, frames need a tag by their device."""
        self._settings, self._sessions, self._metrics = settings, sessions, metrics
        self._calibration, self._header_keys = calibration, header_keys
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._batcher: Batcher[ModelInput] | None = None
        self._description = ""
        self._class_names: Sequence[str] = ()
        self._preparing: asyncio.Task[None] | None = None
        self.is_loading = False
        self.decoders = SourceDecoders()
        self.pictures, self.frames = PictureDecoders(metrics), PictureDecoders(metrics, FRAMES)
        metrics.pictures_waiting.set_function(lambda: self.pictures.waiting)

    async def start(self) -> None:
        """Loads the models, measures how long one takes for an image and for a batch, and starts the decoders.

        Raises:
            WeightsError, EngineError: see `load_model`.
        """
        self.is_loading = True
        loading = asyncio.get_running_loop().run_in_executor(self._thread, self._load)
        _, self._batcher = await asyncio.gather(self.pictures.start(), loading)

    def _load(self) -> Batcher[ModelInput]:
        settings = self._settings
        try:
            model = load_model(settings)
            self.decoders.load(settings.weights)
            batcher = Batcher(
                model.predict,
                self._thread,
                max_batch=settings.max_batch,
                queue_size=settings.queue_size,
                answer_within_seconds=settings.answer_within_seconds,
                metrics=self._metrics,
            )
            batcher.latency.start(*model.warm_up(settings.max_batch))
            self._description, self._class_names = model.description, model.class_names
            return batcher
        finally:
            self.is_loading = False

    def check_room(self, request: ViewRequest) -> None:
        """Refuses a request before its body is read, which may be long.

        Raises:
            Refusal: it would be refused whatever its body. A view of an object is not refused: it may be a
                repeated one, which is answered without the model.
        """
        if not request.object_id:
            self._ready_batcher().check_room()

    async def frame(
        self, data: bytes, request: ViewRequest, deadline: float, *, tag: bytes, lost_patches: Sequence[int] = ()
    ) -> Answer:
        """Answers a frame as it came from the channel, before `deadline` by the event loop's clock.

        Args:
            data: the frame.
            request: its parameters.
            deadline: until when the caller waits.
            tag: of the frame's header, verified where the devices have keys.
            lost_patches: patches that the channel says it has lost, in any order; they may come twice.

        Raises:
            Refusal: the frame is malformed, of another geometry than the model's, or damaged beyond decoding,
                there is no decoder for it, its tag is wrong, its view can't be counted, the queue is full, Redis
                is away, or the deadline has passed.
        """
        self._metrics.received_bits.inc(8 * len(data))
        tracing.annotate(bits=8 * len(data))
        with self._counting_rejected():
            frame = parse_frame(data, lost_patches)
            if request.layer and not isinstance(frame, CodecFrame):
                raise BadFrame("every layer of a view after its first is a picture of the coder codec", "layer")
            if not isinstance(frame, OpinionFrame):
                self.decoders.check(frame)
            tracing.annotate(rho=frame.rho)
            header = data[: frame.header_bits // 8]
            if self._header_keys is not None:
                self._header_keys.check(tag, header, **request.tagged())

        def recognise(opinion: Belief | None) -> Pending:
            batcher = self._ready_batcher()
            if isinstance(frame, OpinionFrame):
                if request.more != "nothing" and self._preparing is None:
                    self._preparing = asyncio.create_task(self.frames.start())
                return Pending.known(self._opinion(frame, request.top_k))
            rung = self._rung_of(frame.without(lost_patches)) if opinion else None
            to_input = partial(ModelInput, top_k=request.top_k, opinion=opinion, rung=rung)
            if coder_of(frame).decodes_apart:
                return batcher.submit_apart(partial(self._decode_apart, frame, lost_patches, to_input), deadline)
            return batcher.submit(partial(self._decode, frame, lost_patches, to_input), deadline)

        return await self._answer(request, header, recognise, deadline)

    def _decode(self, frame: Frame, lost: Sequence[int], to_input: Callable[[NDArray], ModelInput]) -> ModelInput:
        with self._counting_rejected():
            return to_input(self.decoders.decode(frame.without(lost)))

    async def _decode_apart(
        self, frame: Frame, lost: Sequence[int], to_input: Callable[[NDArray], ModelInput]
    ) -> Decoded[ModelInput]:
        with self._counting_rejected():
            try:
                decoded = await self.frames.decode(frame.without(lost).to_bytes())
            except ImageError as error:
                raise BadFrame(str(error), "undecodable") from None
        return Decoded(to_input(decoded.item), decoded.began, decoded.ended)

    def _opinion(self, frame: OpinionFrame, top_k: int) -> Recognition:
        """What a device says, as an answer."""
        with self._counting_rejected():
            try:
                belief = frame.belief(len(self._class_names))
            except FrameError as error:
                raise BadFrame(str(error), error.reason) from None
        self._metrics.opinions.inc()
        named = predictions_of(belief, self._class_names)
        return Recognition(named[:top_k], 0.0, 0.0, 0.0, named, belief.classes, is_look=False)

    def _rung_of(self, frame: Frame) -> Rung:
        """By which a look at a frame is fused with an opinion: of what of the still has arrived."""
        assert isinstance(frame, CodecFrame)
        size = frame.header_bits // 8 + len(frame.payload)
        return self._calibration.rung_of(max(frame.head.height, frame.head.width), size)

    @contextmanager
    def _counting_rejected(self) -> Iterator[None]:
        try:
            yield
        except (BadFrame, BadTag) as refusal:
            self._metrics.frames_rejected.labels(refusal.reason).inc()
            raise

    async def picture(self, data: bytes, request: ViewRequest, deadline: float) -> Answer:
        """Answers an ordinary JPEG or PNG, as if there were no link.

        Raises:
            Refusal: as of a frame; where the devices have keys, always.
            ImageError: no such picture, or too large a one.
        """
        if self._header_keys is not None:
            raise BadTag("a picture has no header with a tag: this server takes frames of its devices only")

        if request.layer or request.more != "nothing":
            raise Refusal("a picture is no layer of a view: send a frame, or leave layer and more out")

        async def decode() -> Decoded[ModelInput]:
            decoded = await self.pictures.decode(data)
            return Decoded(ModelInput(decoded.item, request.top_k), decoded.began, decoded.ended)

        def recognise(opinion: Belief | None) -> Pending:
            return self._ready_batcher().submit_picture(decode, deadline)

        return await self._answer(request, data, recognise, deadline)

    def _ready_batcher(self) -> Batcher[ModelInput]:
        if self._batcher is None:
            raise NotReady
        return self._batcher

    async def _answer(
        self, request: ViewRequest, identity: bytes, recognise: Recognise, deadline: float
    ) -> Answer:
        status, repeated = None, False
        if request.object_id:
            view = SubmittedView(
                request.object_id,
                request.device_id,
                request.frame_id,
                request.expected_views,
                fingerprint=hashlib.sha256(identity).digest(),
                owner=CALLER.get().owner,
                layer=request.layer,
                more=request.more_number,
            )
            recognition, status, repeated = await self._sessions.add_view(view, recognise, deadline)
        else:
            recognition = await recognise(None).wait(deadline)
        details = {
            "label": recognition.predictions[0].label,
            "repeated": repeated,
            "queue_ms": recognition.queue_ms,
            "inference_ms": recognition.inference_ms,
        }
        tracing.annotate(**details)
        log.debug("answered", **details)
        return Answer(recognition, status, repeated, self._description)
