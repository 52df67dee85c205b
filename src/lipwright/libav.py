"""What the sound room and the picture room both need of FFmpeg's libraries (through PyAV).

Opening a file with clear errors, reading it again and again, decoding one stream of it in spite of damage, the time
line that sound and picture share, and resampling of sound.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Generic, TypeVar
from weakref import WeakSet

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from lipwright.closing import Closing
from lipwright.contract import FloatArray
from lipwright.errors import ContractError, MediaError

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Containers whose clock begins at zero by definition: a stream that starts later really starts later.
ZERO_BASED = ("mov", "matroska")


class Reader(Closing, Generic[T]):
    """A media file that every iteration reads from its beginning, piece by piece; any number of them at a time."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._live: WeakSet[Generator[T, None, None]] = WeakSet()

    def close(self) -> None:
        """Close the file even if an iteration over it was not finished."""
        for pieces in list(self._live):
            pieces.close()

    def _watched(self, pieces: Generator[T, None, None]) -> Iterator[T]:
        """The same iteration, which ``close`` will end."""
        self._live.add(pieces)
        return pieces


def open_input(path: Path) -> InputContainer:
    """Open a local media file of any kind for reading; the caller closes it.

    Raises:
        MediaError: the file is missing, empty, unreadable or no media file.
    """
    try:
        if not path.exists():
            raise MediaError(f"{path}: there is no such file; check the name")
        if path.is_dir():
            raise MediaError(f"{path} is a folder; name the sound or video file inside it")
        if path.stat().st_size == 0:
            raise MediaError(f"{path} is empty (0 bytes); record or copy it again")
        # The prefix keeps names such as `a:b.wav` from being taken for a protocol, the whitelist keeps playlists
        # from reaching into the network.
        return av.open(f"file:{path}", "r", metadata_errors="replace", options={"protocol_whitelist": "file"})
    except (FFmpegError, OSError) as error:
        raise MediaError(
            f"{path} cannot be opened as sound or video ({_reason(error)}): it is cut short, damaged or no media file; "
            "copy it again or convert it to WAV or MP4"
        ) from error


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def time_origin(container: InputContainer) -> Fraction:
    """Time in seconds on the file's own clock that is 0 for us: sound and picture are both counted from it."""
    if container.format.name.startswith(ZERO_BASED):
        return Fraction(0)
    timed = [s for s in container.streams if s.type in ("audio", "video")]
    return min((seconds(s.start_time, s.time_base) or Fraction(0) for s in timed), default=Fraction(0))


def seconds(ticks: int | None, time_base: Fraction | None) -> Fraction | None:
    """A time stamp in seconds, exact; None where the file does not say."""
    return None if ticks is None or time_base is None else ticks * time_base


class Damage:
    """Says once, as a warning, that a file is damaged; later reports about the same file are silent."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen = False

    def report(self, reason: str) -> None:
        """Log the first reason only: one damaged byte can spoil thousands of packets."""
        if not self.seen:
            logger.warning("%s is damaged or cut short (%s): what can be decoded is used", self.path, reason)
        self.seen = True


def decoded(container: InputContainer, stream: AudioStream | VideoStream, damage: Damage) -> Iterator[Any]:
    """Frames of one stream in presentation order; packets that cannot be decoded are reported and left out."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError as error:
            damage.report(_reason(error))
            return
        if packet is None:
            return
        if packet.is_corrupt:
            damage.report("incomplete packet")
        try:
            frames = packet.decode()
        except FFmpegError as error:
            damage.report(_reason(error))
            continue
        yield from frames


class Resampler:
    """Streaming change of the sample rate by libswresample, without delay and of exact length.

    ``push`` takes float32 [n, channels] and returns what became ready, float32 [k, channels]; ``flush`` returns the
    rest, so that all of it together is ceil(n * target / rate) samples. Sample j of the output lies at j / target
    seconds of the input. The result does not depend on how the input was cut into pieces.

    Args:
        rate: samples a second of the input.
        target: samples a second of the output.
        channels: 1 or 2, kept as they are.
    """

    #: Zeros that push the last sample through the filter (its half length is 16 samples at the lower rate).
    _TAIL_SECONDS = Fraction(1, 50)

    def __init__(self, rate: int, target: int, channels: int) -> None:
        self.rate, self.target, self.channels = rate, target, channels
        self._engine = av.AudioResampler(format="flt", layout=layout_name(channels), rate=target)
        self._received = 0
        self._delivered = 0

    def push(self, samples: FloatArray) -> FloatArray:
        """float32 [n, channels] in, float32 [k, channels] out."""
        check_samples(samples, self.channels)
        self._received += len(samples)
        return self._count(self._convert(samples))

    def flush(self) -> FloatArray:
        """The rest of the sound, float32 [k, channels]; nothing may be pushed afterwards."""
        missing = -(-self._received * self.target // self.rate) - self._delivered
        tail = np.zeros((int(self.rate * self._TAIL_SECONDS) + 1, self.channels), np.float32)
        return self._count(self._convert(tail)[:missing])

    def _convert(self, samples: FloatArray) -> FloatArray:
        if self.rate == self.target or not len(samples):
            return samples
        frames = self._engine.resample(to_frame(samples, self.rate))
        return np.concatenate([from_frame(f) for f in frames]) if frames else samples[:0]

    def _count(self, samples: FloatArray) -> FloatArray:
        self._delivered += len(samples)
        return samples


def check_samples(samples: FloatArray, channels: int) -> None:
    """Raise ContractError unless ``samples`` is float32 [n, channels]."""
    if samples.dtype != np.float32 or samples.ndim != 2 or samples.shape[1] != channels:
        raise ContractError(f"sound: expected float32 [n, {channels}], got {samples.dtype} {list(samples.shape)}")


def layout_name(channels: int) -> str:
    """FFmpeg's name for one or two channels.

    Raises:
        ContractError: any other number.
    """
    if channels not in (1, 2):
        raise ContractError(f"sound has 1 or 2 channels here, not {channels}: mix it down first")
    return "mono" if channels == 1 else "stereo"


def to_frame(samples: FloatArray, rate: int) -> av.AudioFrame:
    """float32 [n, 1 or 2] -> an interleaved float AudioFrame without a time stamp."""
    flat = np.ascontiguousarray(samples).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(flat, format="flt", layout=layout_name(samples.shape[1]))
    frame.sample_rate = rate
    return frame


def from_frame(frame: av.AudioFrame) -> FloatArray:
    """An interleaved float AudioFrame -> float32 [n, channels]."""
    return np.asarray(frame.to_ndarray(), np.float32).reshape(-1, frame.layout.nb_channels)
