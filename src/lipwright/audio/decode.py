"""Sound from any file, streamed: the user's own samples, and what the networks hear of them.

`SoundReader` gives the sound of a file as the user made it (own rate, one or two channels) on the time line of the
file; `ToNetwork` turns such samples into the 16 kHz mono of the contract.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer

from lipwright.contract import FPS, SAMPLE_RATE, FloatArray
from lipwright.errors import MediaError
from lipwright.libav import (
    Damage,
    Reader,
    Resampler,
    check_samples,
    decoded,
    from_frame,
    layout_name,
    open_input,
    seconds,
    time_origin,
)

logger = logging.getLogger(__name__)

#: Rate for sound whose own rate does not divide into 25 video frames.
FALLBACK_RATE = 48_000
#: Chunks last this many seconds (five video frames), the last one less.
CHUNK_SECONDS = Fraction(1, 5)
#: Time stamps may be off by this much (coarse clocks, jitter of phones) before silence is put in or sound cut out:
#: half a video frame, less than anybody sees between lips and sound.
TIME_TOLERANCE = Fraction(1, 50)
#: A jump larger than this is a broken clock and no pause.
LONGEST_GAP = 300
#: An encoder fills up its last packet by less than this many samples; the container says where the sound ends.
PACKET_PADDING = 4096


class SoundReader(Reader[FloatArray]):
    """The sound of a sound or video file, streamed in chunks of at most 0.2 s.

    Iterating gives float32 [n, channels], -1..1, at ``rate``; every iteration starts from the beginning of the file.
    Time 0 is the beginning of the file, which is also time 0 of its pictures: where sound starts later or has gaps,
    there is silence. More than two channels are mixed down to stereo by FFmpeg's standard matrix, scaled so that
    nothing can clip.

    Raises:
        MediaError: on opening, when there is no sound that can be decoded; while iterating, when a sample is not a
            finite number. A damaged or truncated file is read as far as it goes, with one logged warning.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with open_input(self.path) as container:
            stream = _sound_stream(container, self.path)
            frame = _first_frame(container, stream, self.path)
            self._own_rate = frame.sample_rate
            self._layout = layout_name(min(frame.layout.nb_channels, 2))
            self._end = _declared_end(container, stream)
            # Only MP4 and its kin say to the sample where sound ends; elsewhere the header is an estimate.
            self._exact_end = container.format.name.startswith("mov")
            # A bare AAC stream has no header at all: FFmpeg guesses from the first packets.
            self._guessed_end = container.format.name == "aac"
            if frame.layout.nb_channels > 2:
                logger.info("%s: %s sound is mixed down to stereo", self.path, frame.layout.name)
        if self._own_rate % FPS:
            logger.info("%s: %d Hz is resampled to %d Hz", self.path, self._own_rate, FALLBACK_RATE)

    @property
    def rate(self) -> int:
        """Samples a second of what is delivered; a multiple of 25."""
        return FALLBACK_RATE if self._own_rate % FPS else self._own_rate

    @property
    def channels(self) -> int:
        """1 or 2."""
        return 1 if self._layout == "mono" else 2

    @property
    def duration(self) -> float | None:
        """Seconds by the file's header, or None where it does not say."""
        return None if self._end is None else float(self._end)

    def __iter__(self) -> Iterator[FloatArray]:
        return self._watched(_in_blocks(self._samples(), int(self.rate * CHUNK_SECONDS)))

    def _samples(self) -> Iterator[FloatArray]:
        """Samples at ``rate`` in pieces of any size."""
        if self.rate == self._own_rate:
            yield from self._own_samples()
            return
        resampler = Resampler(self._own_rate, self.rate, self.channels)
        for samples in self._own_samples():
            yield resampler.push(samples)
        yield resampler.flush()

    def _own_samples(self) -> Iterator[FloatArray]:
        """Samples at the file's rate on its time line, in pieces of any size."""
        damage = Damage(self.path)
        line = _TimeLine(self._own_rate, damage)
        with open_input(self.path) as container:
            stream = _sound_stream(container, self.path)
            origin = time_origin(container)
            held = np.zeros((0, self.channels), np.float32)
            for time, samples in self._converted(decoded(container, stream, damage)):
                yield held
                start = None if time is None else time - origin
                silence, held = line.place(start, samples)
                yield from _silence(silence, self.channels, self._own_rate)
            yield held[: len(held) - self._surplus(line.position)]
        self._warn_if_short(line.position, damage)

    def _surplus(self, position: int) -> int:
        """Samples by which the encoder filled up its last packet."""
        if not self._exact_end or self._end is None:
            return 0
        surplus = position - round(self._end * self._own_rate)
        return surplus if 0 < surplus < PACKET_PADDING else 0

    def _warn_if_short(self, position: int, damage: Damage) -> None:
        if self._end is None or self._guessed_end:
            return
        end = Fraction(position, self._own_rate)
        if end < self._end * Fraction(99, 100) - Fraction(1, 10):
            damage.report(f"it ends at {float(end):.2f} s, its header says {float(self._end):.2f} s")

    def _converted(self, frames: Iterable[av.AudioFrame]) -> Iterator[tuple[Fraction | None, FloatArray]]:
        """Start on the file's clock in seconds (None: unknown) and float32 [n, channels] of every decoded frame."""
        converter = _Converter(self._layout, self._own_rate)
        for frame in frames:
            time = seconds(frame.pts, frame.time_base)
            _check_finite(frame, time, self.path)
            for samples in converter.convert(frame):
                yield time, np.clip(samples, -1, 1)
                time = None


class _TimeLine:
    """Counts the samples delivered so far and compares them with the time stamps."""

    def __init__(self, rate: int, damage: Damage) -> None:
        self.position = 0
        self._rate = rate
        self._shift = 0
        self._started = False
        self._damage = damage

    def place(self, start: Fraction | None, samples: FloatArray) -> tuple[int, FloatArray]:
        """Samples of silence to put before ``samples``, and what remains of these when they overlap the past."""
        gap = 0 if start is None else round(start * self._rate) + self._shift - self.position
        if abs(gap) > LONGEST_GAP * self._rate:
            self._damage.report(f"its clock jumps by {gap / self._rate:.0f} s at {self.position / self._rate:.2f} s")
            self._shift -= gap
            gap = 0
        if self._started and abs(gap) <= TIME_TOLERANCE * self._rate:
            gap = 0
        if self._started and gap > 0:
            logger.info(
                "%s: %.3f s without sound at %.3f s", self._damage.path, gap / self._rate, self.position / self._rate
            )
        self._started = True
        samples = samples[max(-gap, 0) :]
        self.position += max(gap, 0) + len(samples)
        return max(gap, 0), samples


class _Converter:
    """Decoded frames of any format -> float32 [n, channels] at one rate; a stream may change its format on the way."""

    def __init__(self, layout: str, rate: int) -> None:
        self._layout, self._rate = layout, rate
        self._source: tuple[str, str, int] | None = None

    def convert(self, frame: av.AudioFrame) -> Iterator[FloatArray]:
        source = (frame.format.name, frame.layout.name, frame.sample_rate)
        if source != self._source:
            self._source = source
            self._mixed = _positions_unknown(frame)
            # The bound makes the mixing matrix keep -1..1 for every input; it has no effect without mixing.
            self._engine = av.AudioResampler(
                format="flt",
                layout=frame.layout.name if self._mixed else self._layout,
                rate=self._rate,
                options={"rematrix_maxval": "1.0"},
            )
        frame.pts = None
        for out in self._engine.resample(frame):
            samples = from_frame(out)
            yield self._average(samples) if self._mixed else samples

    def _average(self, samples: FloatArray) -> FloatArray:
        mean = samples.mean(axis=1, keepdims=True, dtype=np.float32)
        return np.repeat(mean, 1 if self._layout == "mono" else 2, axis=1)


def _positions_unknown(frame: av.AudioFrame) -> bool:
    """More than two channels without speaker positions ("7 channels"): no matrix exists, every one counts the same."""
    return frame.layout.nb_channels > 2 and frame.layout.name.endswith("channels")


def _sound_stream(container: InputContainer, path: Path) -> AudioStream:
    stream = container.streams.best("audio")
    if not isinstance(stream, AudioStream) or stream.codec_context is None:
        raise MediaError(f"{path} holds no sound that can be decoded; choose a file with speech in it")
    return stream


def _first_frame(container: InputContainer, stream: AudioStream, path: Path) -> av.AudioFrame:
    """The first frame that can be decoded; only it tells the true rate (HE-AAC headers name half of it)."""
    damage = Damage(path)
    damage.seen = True  # the iteration that follows says it
    for frame in decoded(container, stream, damage):
        if frame.samples:
            return frame  # type: ignore[no-any-return]
    raise MediaError(f"{path}: not a single sample of its sound can be decoded; record or convert it again (WAV, FLAC)")


def _declared_end(container: InputContainer, stream: AudioStream) -> Fraction | None:
    """Where the sound ends on our time line in seconds, by the header."""
    duration = seconds(stream.duration, stream.time_base)
    start = seconds(stream.start_time, stream.time_base) or Fraction(0)
    return None if duration is None else start - time_origin(container) + duration


def _check_finite(frame: av.AudioFrame, time: Fraction | None, path: Path) -> None:
    """Raise MediaError naming the first sample that is NaN or infinite; only float formats can hold such."""
    if frame.format.name not in ("flt", "fltp", "dbl", "dblp"):
        return
    values = frame.to_ndarray()
    if np.isfinite(values).all():
        return
    channels = 1 if frame.format.is_planar else frame.layout.nb_channels
    bad = int(np.flatnonzero(~np.isfinite(values).all(axis=0))[0]) // channels
    at = float(time or 0) + bad / frame.sample_rate
    raise MediaError(
        f"{path}: the sample at {at:.3f} s is not a finite number (NaN or infinity); "
        "repair the sound there or export it again as 16-bit WAV"
    )


def _silence(samples: int, channels: int, piece: int) -> Iterator[FloatArray]:
    """``samples`` zeros in pieces of bounded size."""
    for start in range(0, samples, piece):
        yield np.zeros((min(piece, samples - start), channels), np.float32)


def _in_blocks(pieces: Iterable[FloatArray], size: int) -> Generator[FloatArray, None, None]:
    """The same samples in blocks of exactly ``size``, the last one shorter."""
    waiting: list[FloatArray] = []
    count = 0
    for piece in pieces:
        waiting.append(piece)
        count += len(piece)
        if count < size:
            continue
        joined = np.concatenate(waiting)
        whole = count - count % size
        yield from np.split(joined[:whole], whole // size)
        waiting, count = [joined[whole:].copy()], count - whole
    if count:
        yield np.concatenate(waiting)


class ToNetwork:
    """Streaming: the user's sound -> what the networks hear, 16 kHz mono.

    Channels are averaged, the rate is changed by libswresample. A click at t seconds stays at t; all of the output is
    ceil(n * 16000 / rate) samples; the bits do not depend on how the sound was cut into chunks.

    Args:
        rate: samples a second of the user's sound.
        channels: its channels, at least 1.
    """

    def __init__(self, rate: int, channels: int) -> None:
        self.channels = channels
        self._resampler = Resampler(rate, SAMPLE_RATE, 1)

    def push(self, samples: FloatArray) -> FloatArray:
        """float32 [n, channels], -1..1, at the user's rate -> float32 [k] at 16 kHz."""
        check_samples(samples, self.channels)
        # Column by column: the order of additions must not depend on the length of the chunk.
        mono = sum((samples[:, c] for c in range(1, self.channels)), start=samples[:, 0]) / np.float32(self.channels)
        return self._resampler.push(mono[:, None])[:, 0]

    def flush(self) -> FloatArray:
        """The rest, float32 [k]; nothing may be pushed afterwards."""
        return self._resampler.flush()[:, 0]


def hear(path: Path) -> FloatArray:
    """The whole sound of a file as the networks hear it: float32 [n], 16 kHz mono, in memory at once.

    Raises:
        MediaError: as ``SoundReader``.
    """
    with SoundReader(path) as reader:
        network = ToNetwork(reader.rate, reader.channels)
        return np.concatenate([*map(network.push, reader), network.flush()])
