import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CropMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CROP_MODE_UNSPECIFIED: _ClassVar[CropMode]
    CROP_MODE_UPPER_BODY: _ClassVar[CropMode]
    CROP_MODE_FACE: _ClassVar[CropMode]
    CROP_MODE_CENTER: _ClassVar[CropMode]
    CROP_MODE_PAD: _ClassVar[CropMode]

class AudioEncoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AUDIO_ENCODING_UNSPECIFIED: _ClassVar[AudioEncoding]
    AUDIO_ENCODING_PCM_S16LE: _ClassVar[AudioEncoding]
    AUDIO_ENCODING_PCM_F32LE: _ClassVar[AudioEncoding]

class FrameEncoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FRAME_ENCODING_UNSPECIFIED: _ClassVar[FrameEncoding]
    FRAME_ENCODING_JPEG: _ClassVar[FrameEncoding]
    FRAME_ENCODING_H264: _ClassVar[FrameEncoding]
    FRAME_ENCODING_RGB24: _ClassVar[FrameEncoding]
    FRAME_ENCODING_I420: _ClassVar[FrameEncoding]

class Pacing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PACING_UNSPECIFIED: _ClassVar[Pacing]
    PACING_AS_FAST_AS_POSSIBLE: _ClassVar[Pacing]
    PACING_REAL_TIME: _ClassVar[Pacing]

class DegradationLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEGRADATION_LEVEL_UNSPECIFIED: _ClassVar[DegradationLevel]
    DEGRADATION_LEVEL_NONE: _ClassVar[DegradationLevel]
    DEGRADATION_LEVEL_FEWER_STEPS: _ClassVar[DegradationLevel]
    DEGRADATION_LEVEL_LOWER_RATE: _ClassVar[DegradationLevel]
CROP_MODE_UNSPECIFIED: CropMode
CROP_MODE_UPPER_BODY: CropMode
CROP_MODE_FACE: CropMode
CROP_MODE_CENTER: CropMode
CROP_MODE_PAD: CropMode
AUDIO_ENCODING_UNSPECIFIED: AudioEncoding
AUDIO_ENCODING_PCM_S16LE: AudioEncoding
AUDIO_ENCODING_PCM_F32LE: AudioEncoding
FRAME_ENCODING_UNSPECIFIED: FrameEncoding
FRAME_ENCODING_JPEG: FrameEncoding
FRAME_ENCODING_H264: FrameEncoding
FRAME_ENCODING_RGB24: FrameEncoding
FRAME_ENCODING_I420: FrameEncoding
PACING_UNSPECIFIED: Pacing
PACING_AS_FAST_AS_POSSIBLE: Pacing
PACING_REAL_TIME: Pacing
DEGRADATION_LEVEL_UNSPECIFIED: DegradationLevel
DEGRADATION_LEVEL_NONE: DegradationLevel
DEGRADATION_LEVEL_FEWER_STEPS: DegradationLevel
DEGRADATION_LEVEL_LOWER_RATE: DegradationLevel

class StreamAnimateRequest(_message.Message):
    __slots__ = ("config", "audio", "hand_poses", "facial_controls", "end_of_utterance", "interrupt", "pause", "resume", "change_portrait", "ack")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    HAND_POSES_FIELD_NUMBER: _ClassVar[int]
    FACIAL_CONTROLS_FIELD_NUMBER: _ClassVar[int]
    END_OF_UTTERANCE_FIELD_NUMBER: _ClassVar[int]
    INTERRUPT_FIELD_NUMBER: _ClassVar[int]
    PAUSE_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    CHANGE_PORTRAIT_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    config: SessionConfig
    audio: AudioChunk
    hand_poses: HandPoses
    facial_controls: FacialControls
    end_of_utterance: EndOfUtterance
    interrupt: Interrupt
    pause: Pause
    resume: Resume
    change_portrait: ChangePortrait
    ack: FrameAck
    def __init__(self, config: _Optional[_Union[SessionConfig, _Mapping]] = ..., audio: _Optional[_Union[AudioChunk, _Mapping]] = ..., hand_poses: _Optional[_Union[HandPoses, _Mapping]] = ..., facial_controls: _Optional[_Union[FacialControls, _Mapping]] = ..., end_of_utterance: _Optional[_Union[EndOfUtterance, _Mapping]] = ..., interrupt: _Optional[_Union[Interrupt, _Mapping]] = ..., pause: _Optional[_Union[Pause, _Mapping]] = ..., resume: _Optional[_Union[Resume, _Mapping]] = ..., change_portrait: _Optional[_Union[ChangePortrait, _Mapping]] = ..., ack: _Optional[_Union[FrameAck, _Mapping]] = ...) -> None: ...

class StreamAnimateResponse(_message.Message):
    __slots__ = ("started", "frames", "event", "summary", "state_saved")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    STATE_SAVED_FIELD_NUMBER: _ClassVar[int]
    started: SessionStarted
    frames: FrameBatch
    event: SessionEvent
    summary: SessionSummary
    state_saved: StateSaved
    def __init__(self, started: _Optional[_Union[SessionStarted, _Mapping]] = ..., frames: _Optional[_Union[FrameBatch, _Mapping]] = ..., event: _Optional[_Union[SessionEvent, _Mapping]] = ..., summary: _Optional[_Union[SessionSummary, _Mapping]] = ..., state_saved: _Optional[_Union[StateSaved, _Mapping]] = ...) -> None: ...

class SessionConfig(_message.Message):
    __slots__ = ("portrait", "audio_format", "output", "pacing", "seed", "guidance", "expression", "include_audio", "max_unacked_frames", "takeover", "preset", "consent_token", "client_reference", "resumable")
    PORTRAIT_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FORMAT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    PACING_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_FIELD_NUMBER: _ClassVar[int]
    EXPRESSION_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_AUDIO_FIELD_NUMBER: _ClassVar[int]
    MAX_UNACKED_FRAMES_FIELD_NUMBER: _ClassVar[int]
    TAKEOVER_FIELD_NUMBER: _ClassVar[int]
    PRESET_FIELD_NUMBER: _ClassVar[int]
    CONSENT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CLIENT_REFERENCE_FIELD_NUMBER: _ClassVar[int]
    RESUMABLE_FIELD_NUMBER: _ClassVar[int]
    portrait: PortraitSource
    audio_format: AudioFormat
    output: OutputFormat
    pacing: Pacing
    seed: int
    guidance: float
    expression: float
    include_audio: bool
    max_unacked_frames: int
    takeover: SessionTakeover
    preset: str
    consent_token: str
    client_reference: str
    resumable: bool
    def __init__(self, portrait: _Optional[_Union[PortraitSource, _Mapping]] = ..., audio_format: _Optional[_Union[AudioFormat, _Mapping]] = ..., output: _Optional[_Union[OutputFormat, _Mapping]] = ..., pacing: _Optional[_Union[Pacing, str]] = ..., seed: _Optional[int] = ..., guidance: _Optional[float] = ..., expression: _Optional[float] = ..., include_audio: _Optional[bool] = ..., max_unacked_frames: _Optional[int] = ..., takeover: _Optional[_Union[SessionTakeover, _Mapping]] = ..., preset: _Optional[str] = ..., consent_token: _Optional[str] = ..., client_reference: _Optional[str] = ..., resumable: _Optional[bool] = ...) -> None: ...

class PortraitSource(_message.Message):
    __slots__ = ("image", "portrait_id", "crop_mode")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    PORTRAIT_ID_FIELD_NUMBER: _ClassVar[int]
    CROP_MODE_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    portrait_id: str
    crop_mode: CropMode
    def __init__(self, image: _Optional[bytes] = ..., portrait_id: _Optional[str] = ..., crop_mode: _Optional[_Union[CropMode, str]] = ...) -> None: ...

class AudioFormat(_message.Message):
    __slots__ = ("encoding", "sample_rate_hz", "num_channels")
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    NUM_CHANNELS_FIELD_NUMBER: _ClassVar[int]
    encoding: AudioEncoding
    sample_rate_hz: int
    num_channels: int
    def __init__(self, encoding: _Optional[_Union[AudioEncoding, str]] = ..., sample_rate_hz: _Optional[int] = ..., num_channels: _Optional[int] = ...) -> None: ...

class OutputFormat(_message.Message):
    __slots__ = ("encoding", "jpeg_quality", "h264_bitrate_bps", "h264_key_frame_interval_frames")
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    JPEG_QUALITY_FIELD_NUMBER: _ClassVar[int]
    H264_BITRATE_BPS_FIELD_NUMBER: _ClassVar[int]
    H264_KEY_FRAME_INTERVAL_FRAMES_FIELD_NUMBER: _ClassVar[int]
    encoding: FrameEncoding
    jpeg_quality: int
    h264_bitrate_bps: int
    h264_key_frame_interval_frames: int
    def __init__(self, encoding: _Optional[_Union[FrameEncoding, str]] = ..., jpeg_quality: _Optional[int] = ..., h264_bitrate_bps: _Optional[int] = ..., h264_key_frame_interval_frames: _Optional[int] = ...) -> None: ...

class SessionTakeover(_message.Message):
    __slots__ = ("session_id", "next_frame_index", "takeover_token")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    NEXT_FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    TAKEOVER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    next_frame_index: int
    takeover_token: bytes
    def __init__(self, session_id: _Optional[str] = ..., next_frame_index: _Optional[int] = ..., takeover_token: _Optional[bytes] = ...) -> None: ...

class InputPosition(_message.Message):
    __slots__ = ("num_audio_bytes", "num_requests")
    NUM_AUDIO_BYTES_FIELD_NUMBER: _ClassVar[int]
    NUM_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    num_audio_bytes: int
    num_requests: int
    def __init__(self, num_audio_bytes: _Optional[int] = ..., num_requests: _Optional[int] = ...) -> None: ...

class StateSaved(_message.Message):
    __slots__ = ("input",)
    INPUT_FIELD_NUMBER: _ClassVar[int]
    input: InputPosition
    def __init__(self, input: _Optional[_Union[InputPosition, _Mapping]] = ...) -> None: ...

class AudioChunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class HandPoses(_message.Message):
    __slots__ = ("poses",)
    POSES_FIELD_NUMBER: _ClassVar[int]
    poses: _containers.RepeatedCompositeFieldContainer[HandPose]
    def __init__(self, poses: _Optional[_Iterable[_Union[HandPose, _Mapping]]] = ...) -> None: ...

class HandPose(_message.Message):
    __slots__ = ("frame_index", "sample_index", "left", "right")
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_INDEX_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    RIGHT_FIELD_NUMBER: _ClassVar[int]
    frame_index: int
    sample_index: int
    left: Hand
    right: Hand
    def __init__(self, frame_index: _Optional[int] = ..., sample_index: _Optional[int] = ..., left: _Optional[_Union[Hand, _Mapping]] = ..., right: _Optional[_Union[Hand, _Mapping]] = ...) -> None: ...

class Hand(_message.Message):
    __slots__ = ("keypoints",)
    KEYPOINTS_FIELD_NUMBER: _ClassVar[int]
    keypoints: _containers.RepeatedCompositeFieldContainer[Keypoint]
    def __init__(self, keypoints: _Optional[_Iterable[_Union[Keypoint, _Mapping]]] = ...) -> None: ...

class Keypoint(_message.Message):
    __slots__ = ("x", "y", "visibility")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    VISIBILITY_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    visibility: float
    def __init__(self, x: _Optional[float] = ..., y: _Optional[float] = ..., visibility: _Optional[float] = ...) -> None: ...

class FacialControls(_message.Message):
    __slots__ = ("first_frame_index", "controls")
    FIRST_FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    CONTROLS_FIELD_NUMBER: _ClassVar[int]
    first_frame_index: int
    controls: _containers.RepeatedCompositeFieldContainer[FacialControl]
    def __init__(self, first_frame_index: _Optional[int] = ..., controls: _Optional[_Iterable[_Union[FacialControl, _Mapping]]] = ...) -> None: ...

class FacialControl(_message.Message):
    __slots__ = ("name", "value", "weight")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    weight: float
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ..., weight: _Optional[float] = ...) -> None: ...

class EndOfUtterance(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Interrupt(_message.Message):
    __slots__ = ("after_sample_index",)
    AFTER_SAMPLE_INDEX_FIELD_NUMBER: _ClassVar[int]
    after_sample_index: int
    def __init__(self, after_sample_index: _Optional[int] = ...) -> None: ...

class Pause(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Resume(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ChangePortrait(_message.Message):
    __slots__ = ("portrait",)
    PORTRAIT_FIELD_NUMBER: _ClassVar[int]
    portrait: PortraitSource
    def __init__(self, portrait: _Optional[_Union[PortraitSource, _Mapping]] = ...) -> None: ...

class FrameAck(_message.Message):
    __slots__ = ("last_frame_index",)
    LAST_FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    last_frame_index: int
    def __init__(self, last_frame_index: _Optional[int] = ...) -> None: ...

class SessionStarted(_message.Message):
    __slots__ = ("session_id", "effective_config", "model", "frame_size", "timing", "algorithmic_latency_ms", "portrait", "takeover_token", "resume_from")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_CONFIG_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FRAME_SIZE_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    ALGORITHMIC_LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    PORTRAIT_FIELD_NUMBER: _ClassVar[int]
    TAKEOVER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RESUME_FROM_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    effective_config: SessionConfig
    model: ModelVersion
    frame_size: FrameSize
    timing: AudioTiming
    algorithmic_latency_ms: float
    portrait: PortraitInfo
    takeover_token: bytes
    resume_from: InputPosition
    def __init__(self, session_id: _Optional[str] = ..., effective_config: _Optional[_Union[SessionConfig, _Mapping]] = ..., model: _Optional[_Union[ModelVersion, _Mapping]] = ..., frame_size: _Optional[_Union[FrameSize, _Mapping]] = ..., timing: _Optional[_Union[AudioTiming, _Mapping]] = ..., algorithmic_latency_ms: _Optional[float] = ..., portrait: _Optional[_Union[PortraitInfo, _Mapping]] = ..., takeover_token: _Optional[bytes] = ..., resume_from: _Optional[_Union[InputPosition, _Mapping]] = ...) -> None: ...

class ModelVersion(_message.Message):
    __slots__ = ("preset", "weights_sha256", "engine", "service_version", "trained")
    PRESET_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    SERVICE_VERSION_FIELD_NUMBER: _ClassVar[int]
    TRAINED_FIELD_NUMBER: _ClassVar[int]
    preset: str
    weights_sha256: str
    engine: str
    service_version: str
    trained: bool
    def __init__(self, preset: _Optional[str] = ..., weights_sha256: _Optional[str] = ..., engine: _Optional[str] = ..., service_version: _Optional[str] = ..., trained: _Optional[bool] = ...) -> None: ...

class FrameSize(_message.Message):
    __slots__ = ("width_px", "height_px")
    WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    width_px: int
    height_px: int
    def __init__(self, width_px: _Optional[int] = ..., height_px: _Optional[int] = ...) -> None: ...

class AudioTiming(_message.Message):
    __slots__ = ("sample_rate_hz", "frame_rate_numerator", "frame_rate_denominator", "chunk_frames")
    SAMPLE_RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    FRAME_RATE_NUMERATOR_FIELD_NUMBER: _ClassVar[int]
    FRAME_RATE_DENOMINATOR_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FRAMES_FIELD_NUMBER: _ClassVar[int]
    sample_rate_hz: int
    frame_rate_numerator: int
    frame_rate_denominator: int
    chunk_frames: int
    def __init__(self, sample_rate_hz: _Optional[int] = ..., frame_rate_numerator: _Optional[int] = ..., frame_rate_denominator: _Optional[int] = ..., chunk_frames: _Optional[int] = ...) -> None: ...

class FrameBatch(_message.Message):
    __slots__ = ("first_frame_index", "epoch", "utterance", "is_idle", "frames", "audio")
    FIRST_FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    UTTERANCE_FIELD_NUMBER: _ClassVar[int]
    IS_IDLE_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    first_frame_index: int
    epoch: int
    utterance: int
    is_idle: bool
    frames: _containers.RepeatedCompositeFieldContainer[Frame]
    audio: bytes
    def __init__(self, first_frame_index: _Optional[int] = ..., epoch: _Optional[int] = ..., utterance: _Optional[int] = ..., is_idle: _Optional[bool] = ..., frames: _Optional[_Iterable[_Union[Frame, _Mapping]]] = ..., audio: _Optional[bytes] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("data", "sample_index", "is_key_frame")
    DATA_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_INDEX_FIELD_NUMBER: _ClassVar[int]
    IS_KEY_FRAME_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    sample_index: int
    is_key_frame: bool
    def __init__(self, data: _Optional[bytes] = ..., sample_index: _Optional[int] = ..., is_key_frame: _Optional[bool] = ...) -> None: ...

class SessionEvent(_message.Message):
    __slots__ = ("frame_index", "sample_index", "epoch", "utterance_started", "utterance_finished", "interrupted", "paused", "resumed", "degraded", "going_away", "portrait_changed", "taken_over")
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_INDEX_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    UTTERANCE_STARTED_FIELD_NUMBER: _ClassVar[int]
    UTTERANCE_FINISHED_FIELD_NUMBER: _ClassVar[int]
    INTERRUPTED_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    GOING_AWAY_FIELD_NUMBER: _ClassVar[int]
    PORTRAIT_CHANGED_FIELD_NUMBER: _ClassVar[int]
    TAKEN_OVER_FIELD_NUMBER: _ClassVar[int]
    frame_index: int
    sample_index: int
    epoch: int
    utterance_started: UtteranceStarted
    utterance_finished: UtteranceFinished
    interrupted: Interrupted
    paused: Paused
    resumed: Resumed
    degraded: Degraded
    going_away: GoingAway
    portrait_changed: PortraitChanged
    taken_over: TakenOver
    def __init__(self, frame_index: _Optional[int] = ..., sample_index: _Optional[int] = ..., epoch: _Optional[int] = ..., utterance_started: _Optional[_Union[UtteranceStarted, _Mapping]] = ..., utterance_finished: _Optional[_Union[UtteranceFinished, _Mapping]] = ..., interrupted: _Optional[_Union[Interrupted, _Mapping]] = ..., paused: _Optional[_Union[Paused, _Mapping]] = ..., resumed: _Optional[_Union[Resumed, _Mapping]] = ..., degraded: _Optional[_Union[Degraded, _Mapping]] = ..., going_away: _Optional[_Union[GoingAway, _Mapping]] = ..., portrait_changed: _Optional[_Union[PortraitChanged, _Mapping]] = ..., taken_over: _Optional[_Union[TakenOver, _Mapping]] = ...) -> None: ...

class UtteranceStarted(_message.Message):
    __slots__ = ("utterance",)
    UTTERANCE_FIELD_NUMBER: _ClassVar[int]
    utterance: int
    def __init__(self, utterance: _Optional[int] = ...) -> None: ...

class UtteranceFinished(_message.Message):
    __slots__ = ("utterance", "interrupted")
    UTTERANCE_FIELD_NUMBER: _ClassVar[int]
    INTERRUPTED_FIELD_NUMBER: _ClassVar[int]
    utterance: int
    interrupted: bool
    def __init__(self, utterance: _Optional[int] = ..., interrupted: _Optional[bool] = ...) -> None: ...

class Interrupted(_message.Message):
    __slots__ = ("last_kept_frame_index", "last_kept_sample_index", "dropped_samples")
    LAST_KEPT_FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_KEPT_SAMPLE_INDEX_FIELD_NUMBER: _ClassVar[int]
    DROPPED_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    last_kept_frame_index: int
    last_kept_sample_index: int
    dropped_samples: int
    def __init__(self, last_kept_frame_index: _Optional[int] = ..., last_kept_sample_index: _Optional[int] = ..., dropped_samples: _Optional[int] = ...) -> None: ...

class Paused(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Resumed(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Degraded(_message.Message):
    __slots__ = ("level", "reason")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    level: DegradationLevel
    reason: str
    def __init__(self, level: _Optional[_Union[DegradationLevel, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class GoingAway(_message.Message):
    __slots__ = ("deadline",)
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    deadline: _duration_pb2.Duration
    def __init__(self, deadline: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class TakenOver(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PortraitChanged(_message.Message):
    __slots__ = ("portrait",)
    PORTRAIT_FIELD_NUMBER: _ClassVar[int]
    portrait: PortraitInfo
    def __init__(self, portrait: _Optional[_Union[PortraitInfo, _Mapping]] = ...) -> None: ...

class SessionSummary(_message.Message):
    __slots__ = ("num_frames", "num_idle_frames", "num_skipped_frames", "num_late_frames", "num_audio_samples", "num_utterances", "num_interrupts", "num_chunks", "num_frame_bytes", "first_frame_latency", "chunk_time_p50", "chunk_time_p99", "session_time")
    NUM_FRAMES_FIELD_NUMBER: _ClassVar[int]
    NUM_IDLE_FRAMES_FIELD_NUMBER: _ClassVar[int]
    NUM_SKIPPED_FRAMES_FIELD_NUMBER: _ClassVar[int]
    NUM_LATE_FRAMES_FIELD_NUMBER: _ClassVar[int]
    NUM_AUDIO_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    NUM_UTTERANCES_FIELD_NUMBER: _ClassVar[int]
    NUM_INTERRUPTS_FIELD_NUMBER: _ClassVar[int]
    NUM_CHUNKS_FIELD_NUMBER: _ClassVar[int]
    NUM_FRAME_BYTES_FIELD_NUMBER: _ClassVar[int]
    FIRST_FRAME_LATENCY_FIELD_NUMBER: _ClassVar[int]
    CHUNK_TIME_P50_FIELD_NUMBER: _ClassVar[int]
    CHUNK_TIME_P99_FIELD_NUMBER: _ClassVar[int]
    SESSION_TIME_FIELD_NUMBER: _ClassVar[int]
    num_frames: int
    num_idle_frames: int
    num_skipped_frames: int
    num_late_frames: int
    num_audio_samples: int
    num_utterances: int
    num_interrupts: int
    num_chunks: int
    num_frame_bytes: int
    first_frame_latency: _duration_pb2.Duration
    chunk_time_p50: _duration_pb2.Duration
    chunk_time_p99: _duration_pb2.Duration
    session_time: _duration_pb2.Duration
    def __init__(self, num_frames: _Optional[int] = ..., num_idle_frames: _Optional[int] = ..., num_skipped_frames: _Optional[int] = ..., num_late_frames: _Optional[int] = ..., num_audio_samples: _Optional[int] = ..., num_utterances: _Optional[int] = ..., num_interrupts: _Optional[int] = ..., num_chunks: _Optional[int] = ..., num_frame_bytes: _Optional[int] = ..., first_frame_latency: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., chunk_time_p50: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., chunk_time_p99: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., session_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class RegisterPortraitRequest(_message.Message):
    __slots__ = ("image", "crop_mode", "preset", "consent_token")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    CROP_MODE_FIELD_NUMBER: _ClassVar[int]
    PRESET_FIELD_NUMBER: _ClassVar[int]
    CONSENT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    crop_mode: CropMode
    preset: str
    consent_token: str
    def __init__(self, image: _Optional[bytes] = ..., crop_mode: _Optional[_Union[CropMode, str]] = ..., preset: _Optional[str] = ..., consent_token: _Optional[str] = ...) -> None: ...

class RegisterPortraitResponse(_message.Message):
    __slots__ = ("portrait", "already_known")
    PORTRAIT_FIELD_NUMBER: _ClassVar[int]
    ALREADY_KNOWN_FIELD_NUMBER: _ClassVar[int]
    portrait: PortraitInfo
    already_known: bool
    def __init__(self, portrait: _Optional[_Union[PortraitInfo, _Mapping]] = ..., already_known: _Optional[bool] = ...) -> None: ...

class PortraitInfo(_message.Message):
    __slots__ = ("portrait_id", "source_size", "crop")
    PORTRAIT_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_SIZE_FIELD_NUMBER: _ClassVar[int]
    CROP_FIELD_NUMBER: _ClassVar[int]
    portrait_id: str
    source_size: FrameSize
    crop: CropBox
    def __init__(self, portrait_id: _Optional[str] = ..., source_size: _Optional[_Union[FrameSize, _Mapping]] = ..., crop: _Optional[_Union[CropBox, _Mapping]] = ...) -> None: ...

class CropBox(_message.Message):
    __slots__ = ("x_px", "y_px", "width_px", "height_px")
    X_PX_FIELD_NUMBER: _ClassVar[int]
    Y_PX_FIELD_NUMBER: _ClassVar[int]
    WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    x_px: int
    y_px: int
    width_px: int
    height_px: int
    def __init__(self, x_px: _Optional[int] = ..., y_px: _Optional[int] = ..., width_px: _Optional[int] = ..., height_px: _Optional[int] = ...) -> None: ...

class GetCapabilitiesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCapabilitiesResponse(_message.Message):
    __slots__ = ("presets", "limits", "encodings", "audio_encodings", "pacings", "crop_modes", "unimplemented_fields", "service_version")
    PRESETS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    ENCODINGS_FIELD_NUMBER: _ClassVar[int]
    AUDIO_ENCODINGS_FIELD_NUMBER: _ClassVar[int]
    PACINGS_FIELD_NUMBER: _ClassVar[int]
    CROP_MODES_FIELD_NUMBER: _ClassVar[int]
    UNIMPLEMENTED_FIELDS_FIELD_NUMBER: _ClassVar[int]
    SERVICE_VERSION_FIELD_NUMBER: _ClassVar[int]
    presets: _containers.RepeatedCompositeFieldContainer[PresetCapabilities]
    limits: Limits
    encodings: _containers.RepeatedScalarFieldContainer[FrameEncoding]
    audio_encodings: _containers.RepeatedScalarFieldContainer[AudioEncoding]
    pacings: _containers.RepeatedScalarFieldContainer[Pacing]
    crop_modes: _containers.RepeatedScalarFieldContainer[CropMode]
    unimplemented_fields: _containers.RepeatedScalarFieldContainer[str]
    service_version: str
    def __init__(self, presets: _Optional[_Iterable[_Union[PresetCapabilities, _Mapping]]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., encodings: _Optional[_Iterable[_Union[FrameEncoding, str]]] = ..., audio_encodings: _Optional[_Iterable[_Union[AudioEncoding, str]]] = ..., pacings: _Optional[_Iterable[_Union[Pacing, str]]] = ..., crop_modes: _Optional[_Iterable[_Union[CropMode, str]]] = ..., unimplemented_fields: _Optional[_Iterable[str]] = ..., service_version: _Optional[str] = ...) -> None: ...

class PresetCapabilities(_message.Message):
    __slots__ = ("model", "frame_size", "timing", "algorithmic_latency_ms", "controls", "hands", "guidance", "expression")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FRAME_SIZE_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    ALGORITHMIC_LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    CONTROLS_FIELD_NUMBER: _ClassVar[int]
    HANDS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_FIELD_NUMBER: _ClassVar[int]
    EXPRESSION_FIELD_NUMBER: _ClassVar[int]
    model: ModelVersion
    frame_size: FrameSize
    timing: AudioTiming
    algorithmic_latency_ms: float
    controls: _containers.RepeatedCompositeFieldContainer[ControlInfo]
    hands: bool
    guidance: FloatRange
    expression: FloatRange
    def __init__(self, model: _Optional[_Union[ModelVersion, _Mapping]] = ..., frame_size: _Optional[_Union[FrameSize, _Mapping]] = ..., timing: _Optional[_Union[AudioTiming, _Mapping]] = ..., algorithmic_latency_ms: _Optional[float] = ..., controls: _Optional[_Iterable[_Union[ControlInfo, _Mapping]]] = ..., hands: _Optional[bool] = ..., guidance: _Optional[_Union[FloatRange, _Mapping]] = ..., expression: _Optional[_Union[FloatRange, _Mapping]] = ...) -> None: ...

class ControlInfo(_message.Message):
    __slots__ = ("name", "unit", "range")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    name: str
    unit: str
    range: FloatRange
    def __init__(self, name: _Optional[str] = ..., unit: _Optional[str] = ..., range: _Optional[_Union[FloatRange, _Mapping]] = ...) -> None: ...

class FloatRange(_message.Message):
    __slots__ = ("min", "max", "default")
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_FIELD_NUMBER: _ClassVar[int]
    min: float
    max: float
    default: float
    def __init__(self, min: _Optional[float] = ..., max: _Optional[float] = ..., default: _Optional[float] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_sessions", "max_portrait_bytes", "max_portrait_pixels", "max_message_bytes", "max_buffered_audio", "max_session_length", "max_idle_time", "min_sample_rate_hz", "max_sample_rate_hz", "portrait_ttl", "max_audio_ahead", "max_stall", "max_requests_per_second")
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_PORTRAIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_PORTRAIT_PIXELS_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_BUFFERED_AUDIO_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSION_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MAX_IDLE_TIME_FIELD_NUMBER: _ClassVar[int]
    MIN_SAMPLE_RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    MAX_SAMPLE_RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    PORTRAIT_TTL_FIELD_NUMBER: _ClassVar[int]
    MAX_AUDIO_AHEAD_FIELD_NUMBER: _ClassVar[int]
    MAX_STALL_FIELD_NUMBER: _ClassVar[int]
    MAX_REQUESTS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    max_sessions: int
    max_portrait_bytes: int
    max_portrait_pixels: int
    max_message_bytes: int
    max_buffered_audio: _duration_pb2.Duration
    max_session_length: _duration_pb2.Duration
    max_idle_time: _duration_pb2.Duration
    min_sample_rate_hz: int
    max_sample_rate_hz: int
    portrait_ttl: _duration_pb2.Duration
    max_audio_ahead: _duration_pb2.Duration
    max_stall: _duration_pb2.Duration
    max_requests_per_second: int
    def __init__(self, max_sessions: _Optional[int] = ..., max_portrait_bytes: _Optional[int] = ..., max_portrait_pixels: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., max_buffered_audio: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_session_length: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_idle_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., min_sample_rate_hz: _Optional[int] = ..., max_sample_rate_hz: _Optional[int] = ..., portrait_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_audio_ahead: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_stall: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_requests_per_second: _Optional[int] = ...) -> None: ...
