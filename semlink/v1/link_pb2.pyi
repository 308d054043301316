from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClassifyRequest(_message.Message):
    __slots__ = ("frame", "object_id", "device_id", "frame_id", "expected_views", "top_k", "echo_frame")
    FRAME_FIELD_NUMBER: _ClassVar[int]
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VIEWS_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    ECHO_FRAME_FIELD_NUMBER: _ClassVar[int]
    frame: bytes
    object_id: str
    device_id: str
    frame_id: int
    expected_views: int
    top_k: int
    echo_frame: bool
    def __init__(self, frame: _Optional[bytes] = ..., object_id: _Optional[str] = ..., device_id: _Optional[str] = ..., frame_id: _Optional[int] = ..., expected_views: _Optional[int] = ..., top_k: _Optional[int] = ..., echo_frame: _Optional[bool] = ...) -> None: ...

class ClassifyResponse(_message.Message):
    __slots__ = ("predictions", "vote", "missing_views", "model", "repeated", "timings", "channel", "received_frame")
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    VOTE_FIELD_NUMBER: _ClassVar[int]
    MISSING_VIEWS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FRAME_FIELD_NUMBER: _ClassVar[int]
    predictions: _containers.RepeatedCompositeFieldContainer[Prediction]
    vote: Vote
    missing_views: int
    model: str
    repeated: bool
    timings: ServerTimings
    channel: ChannelReport
    received_frame: bytes
    def __init__(self, predictions: _Optional[_Iterable[_Union[Prediction, _Mapping]]] = ..., vote: _Optional[_Union[Vote, _Mapping]] = ..., missing_views: _Optional[int] = ..., model: _Optional[str] = ..., repeated: _Optional[bool] = ..., timings: _Optional[_Union[ServerTimings, _Mapping]] = ..., channel: _Optional[_Union[ChannelReport, _Mapping]] = ..., received_frame: _Optional[bytes] = ...) -> None: ...

class Prediction(_message.Message):
    __slots__ = ("label", "name", "confidence")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    label: int
    name: str
    confidence: float
    def __init__(self, label: _Optional[int] = ..., name: _Optional[str] = ..., confidence: _Optional[float] = ...) -> None: ...

class Vote(_message.Message):
    __slots__ = ("label", "name", "votes", "views")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VOTES_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    label: int
    name: str
    votes: int
    views: int
    def __init__(self, label: _Optional[int] = ..., name: _Optional[str] = ..., votes: _Optional[int] = ..., views: _Optional[int] = ...) -> None: ...

class ServerTimings(_message.Message):
    __slots__ = ("decode_ms", "queue_ms", "inference_ms")
    DECODE_MS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_MS_FIELD_NUMBER: _ClassVar[int]
    decode_ms: float
    queue_ms: float
    inference_ms: float
    def __init__(self, decode_ms: _Optional[float] = ..., queue_ms: _Optional[float] = ..., inference_ms: _Optional[float] = ...) -> None: ...

class ChannelReport(_message.Message):
    __slots__ = ("impairment", "bits_flipped", "bits_exposed", "channel_ms")
    IMPAIRMENT_FIELD_NUMBER: _ClassVar[int]
    BITS_FLIPPED_FIELD_NUMBER: _ClassVar[int]
    BITS_EXPOSED_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_MS_FIELD_NUMBER: _ClassVar[int]
    impairment: str
    bits_flipped: int
    bits_exposed: int
    channel_ms: float
    def __init__(self, impairment: _Optional[str] = ..., bits_flipped: _Optional[int] = ..., bits_exposed: _Optional[int] = ..., channel_ms: _Optional[float] = ...) -> None: ...

class WaitVoteRequest(_message.Message):
    __slots__ = ("object_id", "wait_seconds")
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    object_id: str
    wait_seconds: float
    def __init__(self, object_id: _Optional[str] = ..., wait_seconds: _Optional[float] = ...) -> None: ...

class WaitVoteResponse(_message.Message):
    __slots__ = ("vote", "missing_views")
    VOTE_FIELD_NUMBER: _ClassVar[int]
    MISSING_VIEWS_FIELD_NUMBER: _ClassVar[int]
    vote: Vote
    missing_views: int
    def __init__(self, vote: _Optional[_Union[Vote, _Mapping]] = ..., missing_views: _Optional[int] = ...) -> None: ...
