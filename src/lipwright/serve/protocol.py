"""What goes over the WebSocket, version 1: JSON in text messages, sound and pictures in binary ones.

``docs/protocol.md`` describes it for those who write a client.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from lipwright.contract import WINDOW_FUTURE, FloatArray
from lipwright.errors import LipwrightError
from lipwright.serve.pictures import JPEG_QUALITY
from lipwright.serve.session import RATES, LiveFrame

VERSION = 1
#: Version, kind, flags, generation, sequence, presentation time in microseconds, bytes that follow; network order.
HEADER = struct.Struct(">BBHIIQI")
US_PER_MS = 1000

SoundFormat = Literal["s16le", "f32le"]
PictureFormat = Literal["jpeg", "h264", "none"]
#: What each format is read as, and what full scale is.
_SOUND: dict[SoundFormat, tuple[str, float]] = {"s16le": ("<i2", 32768.0), "f32le": ("<f4", 1.0)}


class ProtocolError(LipwrightError):
    """A client's message breaks the protocol."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Kind(IntEnum):
    """What a binary message holds."""

    SOUND = 1
    JPEG = 2
    H264 = 3


class Flag(IntFlag):
    """What is to be known of the frame it belongs to."""

    SPEAKING = 1
    KEY = 2
    LAST = 4


class CloseCode(IntEnum):
    """Why the server closes a WebSocket (RFC 6455, and one of our own); of messages too big (1009) uvicorn says so."""

    BYE = 1000
    BROKEN = 1007
    POLICY = 1008
    ERROR = 1011
    RESTART = 1012
    FULL = 1013
    LOST = 4000


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SoundHello(_Message):
    """The sound that the client sends."""

    format: SoundFormat = "s16le"
    rate: int = Field(default=16_000, ge=RATES[0], le=RATES[1])
    channels: int = Field(default=1, ge=1, le=2)


class PictureHello(_Message):
    """The pictures that the client wants."""

    format: PictureFormat = "jpeg"
    quality: int = Field(default=JPEG_QUALITY, ge=1, le=100)


class Hello(_Message):
    """The client's first message."""

    type: Literal["hello"]
    version: int
    token: str | None = Field(default=None, repr=False)
    mode: Literal["live", "pushed"] = "live"
    audio: SoundHello = SoundHello()
    picture: PictureHello = PictureHello()
    lookahead: int | None = Field(default=None, ge=0, le=WINDOW_FUTURE)


class Command(_Message):
    """Any later text message of the client."""

    type: Literal["interrupt", "end", "stats", "bye"]


_Text = TypeAdapter[Hello | Command](Annotated[Hello | Command, Field(discriminator="type")])


def parse(text: str) -> Hello | Command:
    """A client's text message.

    Raises:
        ProtocolError: it is none.
    """
    try:
        return _Text.validate_json(text)
    except ValidationError as error:
        raise ProtocolError("message", f"this message is not understood: {_reason(error)}") from error


def _reason(error: ValidationError) -> str:
    """The first thing that is wrong, without what was sent: it may hold a token."""
    first = error.errors(include_input=False, include_context=False, include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]


def check_hello(message: Hello | Command) -> Hello:
    """The message as the first one.

    Raises:
        ProtocolError: it is another, or of another version.
    """
    if not isinstance(message, Hello):
        raise ProtocolError("hello", "the first message must be a hello")
    if message.version != VERSION:
        raise ProtocolError("version", f"this server speaks version {VERSION} of the protocol, not {message.version}")
    return message


class PcmReader:
    """Sound from the wire to samples; a piece may end in the middle of one.

    Args:
        kind: s16le or f32le, interleaved.
        channels: 1 or 2.
    """

    def __init__(self, kind: SoundFormat, channels: int) -> None:
        self._dtype, self._scale = np.dtype(_SOUND[kind][0]), _SOUND[kind][1]
        self._channels = channels
        self._rest = b""

    def read(self, data: bytes) -> FloatArray:
        """Float32 [n, channels], -1..1; what is not a whole sample yet waits for the next piece."""
        data = self._rest + data
        size = self._dtype.itemsize * self._channels
        whole = len(data) - len(data) % size
        self._rest = data[whole:]
        values = np.frombuffer(data[:whole], self._dtype).reshape(-1, self._channels)
        return np.asarray(values / np.float32(self._scale), np.float32)


def pcm(samples: FloatArray, kind: SoundFormat) -> bytes:
    """Float32 [n, channels], -1..1, as it goes over the wire."""
    dtype, scale = _SOUND[kind]
    if kind == "f32le":
        return bytes(samples.astype(dtype).tobytes())
    return bytes(np.clip(np.rint(samples * np.float32(scale)), -scale, scale - 1).astype(dtype).tobytes())


@dataclass(frozen=True, slots=True)
class Message:
    """A binary message as a client reads it."""

    kind: Kind
    flags: Flag
    generation: int
    sequence: int
    pts_us: int
    payload: bytes


def pack(frame: LiveFrame, kind: Kind, payload: bytes, key: bool = False) -> bytes:
    """One binary message of ``frame``."""
    flags = Flag.SPEAKING * frame.speaking | Flag.KEY * key | Flag.LAST * frame.last
    pts = round(frame.pts_ms * US_PER_MS)
    return HEADER.pack(VERSION, kind, flags, frame.generation, frame.sequence, pts, len(payload)) + payload


def unpack(data: bytes) -> Message:
    """What ``pack`` made.

    Raises:
        ProtocolError: it is cut short, or of another version.
    """
    if len(data) < HEADER.size:
        raise ProtocolError("header", f"a binary message of {len(data)} bytes is shorter than its header")
    version, kind, flags, generation, sequence, pts, size = HEADER.unpack_from(data)
    if version != VERSION or size != len(data) - HEADER.size:
        raise ProtocolError("header", f"version {version} with {size} of {len(data) - HEADER.size} bytes")
    return Message(Kind(kind), Flag(flags), generation, sequence, pts, data[HEADER.size :])


def text(kind: str, **content: Any) -> dict[str, Any]:
    """A text message of the server."""
    return {"type": kind, **content}
