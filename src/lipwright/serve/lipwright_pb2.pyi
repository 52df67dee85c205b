from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Command(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMMAND_UNSPECIFIED: _ClassVar[Command]
    COMMAND_INTERRUPT: _ClassVar[Command]
    COMMAND_END: _ClassVar[Command]

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_LIVE: _ClassVar[Mode]
    MODE_PUSHED: _ClassVar[Mode]

class SoundFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SOUND_FORMAT_S16LE: _ClassVar[SoundFormat]
    SOUND_FORMAT_F32LE: _ClassVar[SoundFormat]

class PictureFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PICTURE_FORMAT_JPEG: _ClassVar[PictureFormat]
    PICTURE_FORMAT_H264: _ClassVar[PictureFormat]
    PICTURE_FORMAT_BGR: _ClassVar[PictureFormat]
    PICTURE_FORMAT_NONE: _ClassVar[PictureFormat]

class TensorType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TENSOR_TYPE_FLOAT32: _ClassVar[TensorType]
    TENSOR_TYPE_UINT8: _ClassVar[TensorType]
COMMAND_UNSPECIFIED: Command
COMMAND_INTERRUPT: Command
COMMAND_END: Command
MODE_LIVE: Mode
MODE_PUSHED: Mode
SOUND_FORMAT_S16LE: SoundFormat
SOUND_FORMAT_F32LE: SoundFormat
PICTURE_FORMAT_JPEG: PictureFormat
PICTURE_FORMAT_H264: PictureFormat
PICTURE_FORMAT_BGR: PictureFormat
PICTURE_FORMAT_NONE: PictureFormat
TENSOR_TYPE_FLOAT32: TensorType
TENSOR_TYPE_UINT8: TensorType

class ListAvatarsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListAvatarsReply(_message.Message):
    __slots__ = ("avatars", "sessions", "capacity")
    AVATARS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    avatars: _containers.RepeatedCompositeFieldContainer[Avatar]
    sessions: int
    capacity: int
    def __init__(self, avatars: _Optional[_Iterable[_Union[Avatar, _Mapping]]] = ..., sessions: _Optional[int] = ..., capacity: _Optional[int] = ...) -> None: ...

class Avatar(_message.Message):
    __slots__ = ("name", "width", "height", "poster")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    POSTER_FIELD_NUMBER: _ClassVar[int]
    name: str
    width: int
    height: int
    poster: bytes
    def __init__(self, name: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., poster: _Optional[bytes] = ...) -> None: ...

class AudioChunk(_message.Message):
    __slots__ = ("start", "sound", "command")
    START_FIELD_NUMBER: _ClassVar[int]
    SOUND_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    start: Start
    sound: bytes
    command: Command
    def __init__(self, start: _Optional[_Union[Start, _Mapping]] = ..., sound: _Optional[bytes] = ..., command: _Optional[_Union[Command, str]] = ...) -> None: ...

class Start(_message.Message):
    __slots__ = ("avatar", "mode", "sound_format", "rate", "channels", "picture_format", "quality", "lookahead")
    AVATAR_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    SOUND_FORMAT_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    PICTURE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    LOOKAHEAD_FIELD_NUMBER: _ClassVar[int]
    avatar: str
    mode: Mode
    sound_format: SoundFormat
    rate: int
    channels: int
    picture_format: PictureFormat
    quality: int
    lookahead: int
    def __init__(self, avatar: _Optional[str] = ..., mode: _Optional[_Union[Mode, str]] = ..., sound_format: _Optional[_Union[SoundFormat, str]] = ..., rate: _Optional[int] = ..., channels: _Optional[int] = ..., picture_format: _Optional[_Union[PictureFormat, str]] = ..., quality: _Optional[int] = ..., lookahead: _Optional[int] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("generation", "sequence", "pts_us", "speaking", "last", "sound", "picture", "key", "started")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PTS_US_FIELD_NUMBER: _ClassVar[int]
    SPEAKING_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    SOUND_FIELD_NUMBER: _ClassVar[int]
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    generation: int
    sequence: int
    pts_us: int
    speaking: bool
    last: bool
    sound: bytes
    picture: bytes
    key: bool
    started: Started
    def __init__(self, generation: _Optional[int] = ..., sequence: _Optional[int] = ..., pts_us: _Optional[int] = ..., speaking: _Optional[bool] = ..., last: _Optional[bool] = ..., sound: _Optional[bytes] = ..., picture: _Optional[bytes] = ..., key: _Optional[bool] = ..., started: _Optional[_Union[Started, _Mapping]] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("session", "avatar", "width", "height", "rate", "channels", "lookahead", "lookahead_ms")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    AVATAR_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    LOOKAHEAD_FIELD_NUMBER: _ClassVar[int]
    LOOKAHEAD_MS_FIELD_NUMBER: _ClassVar[int]
    session: str
    avatar: str
    width: int
    height: int
    rate: int
    channels: int
    lookahead: int
    lookahead_ms: float
    def __init__(self, session: _Optional[str] = ..., avatar: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., rate: _Optional[int] = ..., channels: _Optional[int] = ..., lookahead: _Optional[int] = ..., lookahead_ms: _Optional[float] = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ("type", "shape", "data")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    type: TensorType
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, type: _Optional[_Union[TensorType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class InferBatchRequest(_message.Message):
    __slots__ = ("avatar", "input", "audio", "output_type")
    AVATAR_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TYPE_FIELD_NUMBER: _ClassVar[int]
    avatar: str
    input: Tensor
    audio: Tensor
    output_type: TensorType
    def __init__(self, avatar: _Optional[str] = ..., input: _Optional[_Union[Tensor, _Mapping]] = ..., audio: _Optional[_Union[Tensor, _Mapping]] = ..., output_type: _Optional[_Union[TensorType, str]] = ...) -> None: ...

class InferBatchReply(_message.Message):
    __slots__ = ("output",)
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    output: Tensor
    def __init__(self, output: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...
