from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetChannelRequest(_message.Message):
    __slots__ = ("device_id", "frame_id")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    frame_id: int
    def __init__(self, device_id: _Optional[str] = ..., frame_id: _Optional[int] = ...) -> None: ...

class ChannelState(_message.Message):
    __slots__ = ("impairment", "state_id", "subcarriers", "streams", "spacing_hz", "total_power", "coherence_symbols", "snr_db", "target_bler", "channel", "receive_antennas", "transmit_antennas")
    IMPAIRMENT_FIELD_NUMBER: _ClassVar[int]
    STATE_ID_FIELD_NUMBER: _ClassVar[int]
    SUBCARRIERS_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    SPACING_HZ_FIELD_NUMBER: _ClassVar[int]
    TOTAL_POWER_FIELD_NUMBER: _ClassVar[int]
    COHERENCE_SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    SNR_DB_FIELD_NUMBER: _ClassVar[int]
    TARGET_BLER_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    RECEIVE_ANTENNAS_FIELD_NUMBER: _ClassVar[int]
    TRANSMIT_ANTENNAS_FIELD_NUMBER: _ClassVar[int]
    impairment: str
    state_id: bytes
    subcarriers: int
    streams: int
    spacing_hz: float
    total_power: float
    coherence_symbols: int
    snr_db: float
    target_bler: float
    channel: bytes
    receive_antennas: int
    transmit_antennas: int
    def __init__(self, impairment: _Optional[str] = ..., state_id: _Optional[bytes] = ..., subcarriers: _Optional[int] = ..., streams: _Optional[int] = ..., spacing_hz: _Optional[float] = ..., total_power: _Optional[float] = ..., coherence_symbols: _Optional[int] = ..., snr_db: _Optional[float] = ..., target_bler: _Optional[float] = ..., channel: _Optional[bytes] = ..., receive_antennas: _Optional[int] = ..., transmit_antennas: _Optional[int] = ...) -> None: ...

class TransmissionPlan(_message.Message):
    __slots__ = ("state_id", "rho", "power", "block_of_subchannel", "error_rates", "method")
    STATE_ID_FIELD_NUMBER: _ClassVar[int]
    RHO_FIELD_NUMBER: _ClassVar[int]
    POWER_FIELD_NUMBER: _ClassVar[int]
    BLOCK_OF_SUBCHANNEL_FIELD_NUMBER: _ClassVar[int]
    ERROR_RATES_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    state_id: bytes
    rho: float
    power: _containers.RepeatedScalarFieldContainer[float]
    block_of_subchannel: _containers.RepeatedScalarFieldContainer[int]
    error_rates: _containers.RepeatedScalarFieldContainer[float]
    method: str
    def __init__(self, state_id: _Optional[bytes] = ..., rho: _Optional[float] = ..., power: _Optional[_Iterable[float]] = ..., block_of_subchannel: _Optional[_Iterable[int]] = ..., error_rates: _Optional[_Iterable[float]] = ..., method: _Optional[str] = ...) -> None: ...

class ClassifyRequest(_message.Message):
    __slots__ = ("frame", "object_id", "device_id", "frame_id", "expected_views", "top_k", "echo_frame", "plan", "lost_patches", "header_tag", "layer", "more", "protection", "report_symbols")
    class More(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        NOTHING: _ClassVar[ClassifyRequest.More]
        FOLLOWS: _ClassVar[ClassifyRequest.More]
        ON_WISH: _ClassVar[ClassifyRequest.More]
    NOTHING: ClassifyRequest.More
    FOLLOWS: ClassifyRequest.More
    ON_WISH: ClassifyRequest.More
    FRAME_FIELD_NUMBER: _ClassVar[int]
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VIEWS_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    ECHO_FRAME_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    LOST_PATCHES_FIELD_NUMBER: _ClassVar[int]
    HEADER_TAG_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    PROTECTION_FIELD_NUMBER: _ClassVar[int]
    REPORT_SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    frame: bytes
    object_id: str
    device_id: str
    frame_id: int
    expected_views: int
    top_k: int
    echo_frame: bool
    plan: TransmissionPlan
    lost_patches: _containers.RepeatedScalarFieldContainer[int]
    header_tag: bytes
    layer: int
    more: ClassifyRequest.More
    protection: Protection
    report_symbols: int
    def __init__(self, frame: _Optional[bytes] = ..., object_id: _Optional[str] = ..., device_id: _Optional[str] = ..., frame_id: _Optional[int] = ..., expected_views: _Optional[int] = ..., top_k: _Optional[int] = ..., echo_frame: _Optional[bool] = ..., plan: _Optional[_Union[TransmissionPlan, _Mapping]] = ..., lost_patches: _Optional[_Iterable[int]] = ..., header_tag: _Optional[bytes] = ..., layer: _Optional[int] = ..., more: _Optional[_Union[ClassifyRequest.More, str]] = ..., protection: _Optional[_Union[Protection, _Mapping]] = ..., report_symbols: _Optional[int] = ...) -> None: ...

class Protection(_message.Message):
    __slots__ = ("design_ber", "attempt")
    DESIGN_BER_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    design_ber: float
    attempt: int
    def __init__(self, design_ber: _Optional[float] = ..., attempt: _Optional[int] = ...) -> None: ...

class Wish(_message.Message):
    __slots__ = ("layer", "most_bytes", "side")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    MOST_BYTES_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    layer: int
    most_bytes: int
    side: int
    def __init__(self, layer: _Optional[int] = ..., most_bytes: _Optional[int] = ..., side: _Optional[int] = ...) -> None: ...

class ClassifyResponse(_message.Message):
    __slots__ = ("predictions", "vote", "missing_views", "wish", "model", "repeated", "timings", "channel", "received_frame")
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    VOTE_FIELD_NUMBER: _ClassVar[int]
    MISSING_VIEWS_FIELD_NUMBER: _ClassVar[int]
    WISH_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FRAME_FIELD_NUMBER: _ClassVar[int]
    predictions: _containers.RepeatedCompositeFieldContainer[Prediction]
    vote: Vote
    missing_views: int
    wish: Wish
    model: str
    repeated: bool
    timings: ServerTimings
    channel: ChannelReport
    received_frame: bytes
    def __init__(self, predictions: _Optional[_Iterable[_Union[Prediction, _Mapping]]] = ..., vote: _Optional[_Union[Vote, _Mapping]] = ..., missing_views: _Optional[int] = ..., wish: _Optional[_Union[Wish, _Mapping]] = ..., model: _Optional[str] = ..., repeated: _Optional[bool] = ..., timings: _Optional[_Union[ServerTimings, _Mapping]] = ..., channel: _Optional[_Union[ChannelReport, _Mapping]] = ..., received_frame: _Optional[bytes] = ...) -> None: ...

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
    __slots__ = ("label", "name", "votes", "views", "fused")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VOTES_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    FUSED_FIELD_NUMBER: _ClassVar[int]
    label: int
    name: str
    votes: int
    views: int
    fused: Prediction
    def __init__(self, label: _Optional[int] = ..., name: _Optional[str] = ..., votes: _Optional[int] = ..., views: _Optional[int] = ..., fused: _Optional[_Union[Prediction, _Mapping]] = ...) -> None: ...

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
    __slots__ = ("impairment", "bits_flipped", "bits_exposed", "channel_ms", "channel_uses", "air_bits", "measured_ber", "constellation", "block_air_ms", "air_ms", "t_d_ms", "lost_blocks", "bits_lost", "exceeds_coherence", "power")
    IMPAIRMENT_FIELD_NUMBER: _ClassVar[int]
    BITS_FLIPPED_FIELD_NUMBER: _ClassVar[int]
    BITS_EXPOSED_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_MS_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_USES_FIELD_NUMBER: _ClassVar[int]
    AIR_BITS_FIELD_NUMBER: _ClassVar[int]
    MEASURED_BER_FIELD_NUMBER: _ClassVar[int]
    CONSTELLATION_FIELD_NUMBER: _ClassVar[int]
    BLOCK_AIR_MS_FIELD_NUMBER: _ClassVar[int]
    AIR_MS_FIELD_NUMBER: _ClassVar[int]
    T_D_MS_FIELD_NUMBER: _ClassVar[int]
    LOST_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    BITS_LOST_FIELD_NUMBER: _ClassVar[int]
    EXCEEDS_COHERENCE_FIELD_NUMBER: _ClassVar[int]
    POWER_FIELD_NUMBER: _ClassVar[int]
    impairment: str
    bits_flipped: int
    bits_exposed: int
    channel_ms: float
    channel_uses: int
    air_bits: int
    measured_ber: float
    constellation: Constellation
    block_air_ms: _containers.RepeatedScalarFieldContainer[float]
    air_ms: float
    t_d_ms: float
    lost_blocks: _containers.RepeatedScalarFieldContainer[int]
    bits_lost: int
    exceeds_coherence: bool
    power: float
    def __init__(self, impairment: _Optional[str] = ..., bits_flipped: _Optional[int] = ..., bits_exposed: _Optional[int] = ..., channel_ms: _Optional[float] = ..., channel_uses: _Optional[int] = ..., air_bits: _Optional[int] = ..., measured_ber: _Optional[float] = ..., constellation: _Optional[_Union[Constellation, _Mapping]] = ..., block_air_ms: _Optional[_Iterable[float]] = ..., air_ms: _Optional[float] = ..., t_d_ms: _Optional[float] = ..., lost_blocks: _Optional[_Iterable[int]] = ..., bits_lost: _Optional[int] = ..., exceeds_coherence: _Optional[bool] = ..., power: _Optional[float] = ...) -> None: ...

class Constellation(_message.Message):
    __slots__ = ("order", "symbols", "wrong", "total", "snr_db")
    ORDER_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    WRONG_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    SNR_DB_FIELD_NUMBER: _ClassVar[int]
    order: int
    symbols: bytes
    wrong: _containers.RepeatedScalarFieldContainer[int]
    total: int
    snr_db: float
    def __init__(self, order: _Optional[int] = ..., symbols: _Optional[bytes] = ..., wrong: _Optional[_Iterable[int]] = ..., total: _Optional[int] = ..., snr_db: _Optional[float] = ...) -> None: ...

class WaitVoteRequest(_message.Message):
    __slots__ = ("object_id", "wait_seconds", "device_id")
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    object_id: str
    wait_seconds: float
    device_id: str
    def __init__(self, object_id: _Optional[str] = ..., wait_seconds: _Optional[float] = ..., device_id: _Optional[str] = ...) -> None: ...

class WaitVoteResponse(_message.Message):
    __slots__ = ("vote", "missing_views", "wish")
    VOTE_FIELD_NUMBER: _ClassVar[int]
    MISSING_VIEWS_FIELD_NUMBER: _ClassVar[int]
    WISH_FIELD_NUMBER: _ClassVar[int]
    vote: Vote
    missing_views: int
    wish: Wish
    def __init__(self, vote: _Optional[_Union[Vote, _Mapping]] = ..., missing_views: _Optional[int] = ..., wish: _Optional[_Union[Wish, _Mapping]] = ...) -> None: ...
