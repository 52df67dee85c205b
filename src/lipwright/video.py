"""Films: any video as 25 pictures a second, and pictures with their sound as a film or as a folder of PNG files.

Time is exact: time stamps are fractions of a second and pictures are counted, never clocked.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import wave
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from math import floor
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, cast

import av
import cv2
import numpy as np
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.sidedata.sidedata import SideData
from av.stream import Disposition
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    VideoReformatter,
)
from av.video.stream import VideoStream

from lipwright.contract import FPS, FloatArray, UInt8Array
from lipwright.errors import ContractError, MediaError
from lipwright.libav import (
    Damage,
    Reader,
    Resampler,
    check_samples,
    decoded,
    layout_name,
    open_input,
    seconds,
    time_origin,
    to_frame,
)
from lipwright.picture import EXACT_COLOUR, BgrPicture, Picture, of_frame

logger = logging.getLogger(__name__)

T = TypeVar("T")
#: Does something to a finished film (or folder of pictures) that has not got its final name yet: signs it, for one.
Seal = Callable[[Path], None]

#: From this height on, players take pictures without a colour flag for BT.709, below for BT.601.
HD_HEIGHT = 720
UNSPECIFIED_COLORSPACE = 2
#: Transfer curves (PQ and HLG) whose numbers mean other light than those of ordinary pictures.
HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
#: Sample rates AAC knows and the contract keeps; sound at another rate becomes FALLBACK_RATE.
AAC_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
FALLBACK_RATE = 48_000
#: Bits a second for each channel: 26 dB and more over the error on human speech (at 96000 it was 18 dB on some voices);
#: and within the 6 bits a sample that AAC allows.
AAC_BITS = 128_000
AAC_BITS_PER_SAMPLE = 5
#: A picture that stands alone at least every two seconds: cheap to seek in.
KEYFRAME_INTERVAL = 2 * FPS
PNG_NAME = "{:06d}.png"
SOUND_NAME = "sound.wav"


class VideoReader(Reader[UInt8Array]):
    """A video file as 25 pictures a second, uint8 [height, width, 3] BGR, upright.

    Picture i is the source picture whose time stamp is nearest to i / 25 s; time 0 is the beginning of the file, which
    is also time 0 of its sound. Any frame rate, also a variable one; pictures are turned and mirrored as the file's
    display matrix says. Every iteration starts from the beginning; memory does not grow with the length.

    Raises:
        MediaError: on opening, when no picture can be decoded. A damaged or truncated file is read as far as it goes,
            with one logged warning.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with open_input(self.path) as container:
            stream = picture_stream(container, self.path)
            first = next(_silently(container, stream, self.path), None)
            if first is None:
                raise MediaError(f"{self.path}: not a single picture of it can be decoded; convert it to H.264 in MP4")
            self.fps = Fraction(stream.average_rate or stream.guessed_rate or FPS)
            self._end = _declared_end(container, stream)
            self._size = self._size_of(stream, first)
        self._orientation = Orientation.of(first)
        self.width, self.height = self._size[::-1] if self._orientation.transposed else self._size
        self._judge_colours(first)

    #: Pictures a second in the file itself (its average when it is variable).
    fps: Fraction

    @property
    def frames(self) -> int | None:
        """Pictures at 25 a second by the file's header, or None where it does not say; iterating counts them."""
        return None if self._end is None else _count_until(self._end)

    def __iter__(self) -> Iterator[UInt8Array]:
        return self._watched(self._decode(0, None))

    def read(self, start: int, stop: int | None = None) -> Iterator[UInt8Array]:
        """Pictures start .. stop - 1, BGR uint8 [H, W, 3], as iterating gives them; jumps to the key picture before.

        ``stop`` None: to the end, with a word if that comes too early.
        """
        return self._watched(self._decode(start, None if stop is None else max(stop - start, 0)))

    def _decode(self, start: int, count: int | None) -> Generator[UInt8Array, None, None]:
        damage = Damage(self.path)
        to_picture = ToPicture(self._size, self._orientation)
        shown: tuple[av.VideoFrame, UInt8Array] | None = None
        index = start
        with open_input(self.path) as container:
            stream = picture_stream(container, self.path)
            timed = self._timed_from(container, stream, start, damage)
            for frame in islice(nearest_in_time(timed, start), count):
                # A picture shown twice is copied: whoever draws into the first must not change the second.
                image = shown[1].copy() if shown and shown[0] is frame else to_picture(frame)
                shown = (frame, image)
                index += 1
                yield image
        if count is None:
            self._warn_if_short(index, damage)

    def _size_of(self, stream: VideoStream, first: av.VideoFrame) -> tuple[int, int]:
        """Width and height of what is read, before it is brought upright: as it is stored."""
        return first.width, first.height

    def _judge_colours(self, first: av.VideoFrame) -> None:
        if first.color_trc in HDR:
            logger.warning("%s is HDR: its colours may look pale; convert it to SDR for the best picture", self.path)

    def _warn_if_short(self, count: int, damage: Damage) -> None:
        if self._end is not None and Fraction(count, FPS) < self._end * Fraction(99, 100) - Fraction(1, 5):
            damage.report(f"it ends at {count / FPS:.2f} s, its header says {float(self._end):.2f} s")

    def _timed_from(
        self, container: InputContainer, stream: VideoStream, start: int, damage: Damage
    ) -> Iterator[tuple[Fraction, Fraction, av.VideoFrame]]:
        origin = time_origin(container)
        if start:
            wanted = Fraction(start, FPS) - 2 / min(self.fps, Fraction(FPS))
            _seek(container, stream, wanted + origin)
            timed = self._timed(decoded(container, stream, damage), origin)
            first = next(timed, None)
            if first is not None and first[0] <= max(wanted, Fraction(0)):
                return chain([first], timed)
            _seek(container, stream, origin)
        return self._timed(decoded(container, stream, damage), origin)

    def _timed(
        self, frames: Iterable[av.VideoFrame], origin: Fraction
    ) -> Iterator[tuple[Fraction, Fraction, av.VideoFrame]]:
        """(time on our line, duration, frame), the times strictly rising."""
        last: Fraction | None = None
        for frame in frames:
            time = seconds(frame.pts, frame.time_base)
            time = (Fraction(0) if last is None else last + 1 / self.fps) if time is None else time - origin
            if last is None or time > last:
                duration = seconds(frame.duration or None, frame.time_base) or 1 / self.fps
                yield time, duration, frame
                last = time


def nearest_in_time(timed: Iterable[tuple[Fraction, Fraction, T]], start: int = 0) -> Iterator[T]:
    """Choose for i = start, start + 1 .. the item whose time is nearest to i / 25 s (the earlier one of two).

    Args:
        timed: (time, duration, item), times in seconds and strictly rising.
        start: the first i.

    Yields:
        items until the end of the last one, rounded to whole 25ths of a second, at least one item.
    """
    index = start
    held: tuple[Fraction, Fraction, T] | None = None
    for entry in timed:
        if held is not None:
            turn = (held[0] + entry[0]) / 2
            while Fraction(index, FPS) <= turn:
                yield held[2]
                index += 1
        held = entry
    if held is not None:
        for _ in range(index, _count_until(held[0] + held[1])):
            yield held[2]


def _count_until(end: Fraction) -> int:
    """Pictures that last until ``end`` seconds, rounded, at least 1."""
    return max(floor(end * FPS + Fraction(1, 2)), 1)


@dataclass(frozen=True, slots=True)
class Orientation:
    """How stored pictures are brought upright: transposed first, then mirrored."""

    transposed: bool = False
    left_right: bool = False
    up_down: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Self:
        """By the display matrix [a b _ c d _ ...] in 16.16: x' = a x + c y, y' = b x + d y.

        To be asked of one frame of a file only: PyAV ties a frame whose side data was looked at into a reference cycle.
        """
        matrix = frame.side_data.get("DISPLAYMATRIX")
        if matrix is None:
            return cls()
        a, b, _, c, d = np.frombuffer(bytes(cast(SideData, matrix)), np.int32)[:5].tolist()
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    def apply(self, image: UInt8Array) -> UInt8Array:
        """The picture uint8 [H, W, 3] upright, contiguous; height and width change places if it was transposed."""
        if self.transposed:
            image = image.transpose(1, 0, 2)
        return np.ascontiguousarray(image[:: -1 if self.up_down else 1, :: -1 if self.left_right else 1])


class ToPicture:
    """A decoded frame of any pixel format -> uint8 [H, W, 3] BGR, upright."""

    def __init__(self, size: tuple[int, int], orientation: Orientation) -> None:
        self._size, self._orientation = size, orientation
        self._engine = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> UInt8Array:
        stored = of_frame(frame)
        return self._orientation.apply(self._converted(frame) if stored is None else stored.bgr)

    def _converted(self, frame: av.VideoFrame) -> UInt8Array:
        width, height = self._size
        converted = self._engine.reformat(
            frame,
            width=width,
            height=height,
            format="bgr24",
            src_colorspace=_colorspace(frame),
            interpolation=EXACT_COLOUR,
        )
        return np.asarray(converted.to_ndarray(), np.uint8)


def _colorspace(frame: av.VideoFrame) -> int | None:
    """What players assume where the file does not say; None: as the frame says."""
    if frame.format.is_rgb or frame.colorspace != UNSPECIFIED_COLORSPACE:
        return None
    return Colorspace.ITU709 if frame.height >= HD_HEIGHT else Colorspace.ITU601


def picture_stream(container: InputContainer, path: Path) -> VideoStream:
    """The moving picture of an open file, ready to decode.

    Raises:
        MediaError: there is none; a cover picture does not count.
    """
    stream = container.streams.best("video")
    cover = stream is not None and Disposition.attached_pic in Disposition(stream.disposition)
    if not isinstance(stream, VideoStream) or cover:
        raise MediaError(f"{path} holds no moving picture that can be decoded; choose a video file")
    # Frame threads halve the time of long films; slices alone do nothing for most files.
    stream.thread_type = "AUTO"
    return stream


def _silently(container: InputContainer, stream: VideoStream, path: Path) -> Iterator[av.VideoFrame]:
    damage = Damage(path)
    damage.seen = True  # the iteration that follows says it
    return decoded(container, stream, damage)


def _declared_end(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Where the pictures end on our time line in seconds, by the header."""
    duration = seconds(stream.duration, stream.time_base)
    if duration is not None:
        return (seconds(stream.start_time, stream.time_base) or Fraction(0)) - time_origin(container) + duration
    return None if container.duration is None else Fraction(container.duration, av.time_base)


def _seek(container: InputContainer, stream: VideoStream, time: Fraction) -> None:
    """To the key picture at or before ``time`` (s on the file's clock)."""
    with suppress(FFmpegError):  # a file that cannot be searched is read from where it stands; the caller looks
        container.seek(floor(time / (stream.time_base or Fraction(1, av.time_base))), stream=stream)


class FrameSink(Protocol):
    """Where finished pictures go with their sound: a film, or a folder of PNG files.

    As a context manager it closes at the end, and aborts when anything is raised inside (also by Ctrl-C): the final
    name then holds what it held before.
    """

    def write(self, image: Picture | UInt8Array, samples: FloatArray) -> None:
        """One picture (also as uint8 [H, W, 3] BGR), and the sound of its 40 ms, float32 [n, channels] -1..1."""

    def close(self) -> None:
        """Finish, and give the result its final name."""

    def abort(self) -> None:
        """Remove everything written so far; harmless after ``close``."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _Sink:
    """What both sinks share: a part beside the target, renamed at the end, removed when anything goes wrong."""

    def __init__(self, path: Path, part_name: str, channels: int, seal: Seal | None) -> None:
        self.path = Path(os.path.abspath(path))  # noqa: PTH100  (no resolving: a link keeps its own folder)
        self.channels = channels
        self._seal = seal
        layout_name(channels)
        self._open = False
        with self._guarded():  # a folder above it may be closed to us
            there = self.path.parent.is_dir()
        if not there:
            raise MediaError(f"the folder {self.path.parent} does not exist: create it or choose another output")
        self._part = self.path.with_name(part_name)
        self._open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def close(self) -> None:
        """Finish, and give the result its final name; harmless the second time."""
        if self._open:
            with self._guarded():
                self._finish()
                if self._seal is not None:
                    self._seal(self._part)
                self._take_name()
                self._open = False

    def abort(self) -> None:
        """Remove everything written so far; harmless after ``close``."""
        if self._open:
            self._open = False
            self._discard()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Abort on any exception; failures of the disk or the encoder become a MediaError."""
        try:
            yield
        except (FFmpegError, OSError) as error:
            self.abort()
            raise MediaError(f"{self.path} cannot be written: {_remedy(error)}") from error
        except BaseException:
            self.abort()
            raise

    def _check_open(self) -> None:
        if not self._open:
            raise MediaError(f"{self.path} is closed: open a new writer")

    def _finish(self) -> None:
        """Complete the part."""
        raise NotImplementedError

    def _take_name(self) -> None:
        """Give the part its final name."""
        self._part.replace(self.path)

    def _discard(self) -> None:
        raise NotImplementedError


def _remedy(error: FFmpegError | OSError) -> str:
    """The system's reason and what to do about it."""
    remedies = {
        errno.ENOSPC: "free some space or choose another disk",
        errno.EDQUOT: "free some space or choose another disk",
        errno.EFBIG: "the disk or a limit of this system allows no larger file; choose another place",
        errno.EACCES: "choose a folder that you may write to",
        errno.EPERM: "choose a folder that you may write to",
        errno.EROFS: "choose a folder that you may write to",
    }
    return f"{error.strerror or error} ({remedies.get(error.errno or 0, 'choose another output')})"


def _as_picture(image: Picture | UInt8Array, width: int | None, height: int | None) -> Picture:
    """A picture; an array must have this size (None: any).

    Raises:
        ContractError: it has another shape or type.
    """
    if not isinstance(image, np.ndarray):
        return image
    wanted = (height or image.shape[0], width or image.shape[1], 3)
    if image.dtype != np.uint8 or image.shape != wanted:
        raise ContractError(f"image: expected uint8 {list(wanted)}, got {image.dtype} {list(image.shape)}")
    return BgrPicture(image)


class VideoWriter(_Sink):
    """An MP4 that plays everywhere: H.264 yuv420p BT.709 at 25 fps, AAC from time 0, index at the front.

    N pictures last N / 25 s to the tick and n samples n / rate s; both clocks are counted, so they cannot drift.
    H.264 in yuv420p needs even sides: an odd one is made even by repeating its last column or row, so that the picture
    itself is neither scaled nor cut. The film is written to ``.NAME.part.mp4`` beside its target and renamed by
    ``close``.

    Args:
        path: the film; an existing file is replaced at the end.
        width: of the pictures, in pixels.
        height: of the pictures, in pixels.
        rate: samples a second of the sound. A rate that AAC does not have is resampled to 48000.
        channels: 1 or 2.
        crf: x264's quality: 0 lossless .. 51 worst.
        preset: x264's balance of speed and size.
        comment: plain text that players show as the film's comment.
        seal: called with the finished film before it gets its name; if it raises, there will be no film.

    Raises:
        MediaError: the folder is missing or read-only, the disk is full, or the encoder fails.
        ContractError: a picture or sound of another shape or type.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        rate: int,
        channels: int,
        crf: float = 20,
        preset: str = "superfast",
        *,
        comment: str = "",
        seal: Seal | None = None,
    ) -> None:
        super().__init__(path, f".{Path(path).name}.part.mp4", channels, seal)
        if self.path.is_dir():
            raise MediaError(f"{self.path} is a folder: name a file, such as {self.path / 'film.mp4'}")
        self.width, self.height = width, height
        if width % 2 or height % 2:
            logger.info("%s: %d x %d is made even by repeating its last column or row", self.path, width, height)
        self._pictures = 0
        self._samples = 0
        self._resampler = Resampler(rate, rate if rate in AAC_RATES else FALLBACK_RATE, channels)
        self._container: OutputContainer | None = None
        with self._guarded():
            self._start(crf, preset, comment)

    def _start(self, crf: float, preset: str, comment: str) -> None:
        rate = self._resampler.target
        # Edit lists count in movie ticks; only ticks of one sample make both lengths exact (25 divides every rate).
        options = {"movflags": "+faststart", "movie_timescale": str(rate)}
        self._container = av.open(f"file:{self._part}", "w", format="mp4", options=options)
        if comment:
            self._container.metadata["comment"] = comment
        x264 = {"crf": str(crf), "preset": preset, "g": str(KEYFRAME_INTERVAL)}
        self._video = self._container.add_stream("libx264", rate=FPS, options=x264)
        self._video.width, self._video.height = self.width + self.width % 2, self.height + self.height % 2
        self._video.pix_fmt = "yuv420p"
        context = self._video.codec_context
        context.time_base = Fraction(1, FPS)
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        bits = self.channels * min(AAC_BITS, AAC_BITS_PER_SAMPLE * rate)
        self._audio = self._container.add_stream(
            "aac", rate=rate, layout=layout_name(self.channels), bit_rate=bits, time_base=Fraction(1, rate)
        )
        self._container.start_encoding()

    def write(self, image: Picture | UInt8Array, samples: FloatArray) -> None:
        """One picture (also as uint8 [height, width, 3] BGR), and the sound of its 40 ms, float32 [n, channels]."""
        self._check_open()
        picture = _as_picture(image, self.width, self.height)
        check_samples(samples, self.channels)
        with self._guarded():
            self._mux(self._video.encode(self._frame(picture)))
            self._write_sound(self._resampler.push(samples))

    def _frame(self, picture: Picture) -> av.VideoFrame:
        yuv, wanted = picture.yuv, (self._video.height * 3 // 2, self._video.width)
        if yuv.shape != wanted:
            raise ContractError(f"picture: expected I420 uint8 {list(wanted)}, got {list(yuv.shape)}")
        frame = av.VideoFrame.from_ndarray(yuv, format="yuv420p")
        frame.pts, frame.time_base = self._pictures, Fraction(1, FPS)
        self._pictures += 1
        return frame

    def _write_sound(self, samples: FloatArray) -> None:
        if not len(samples):
            return
        frame = to_frame(np.clip(samples, -1, 1), self._resampler.target)
        frame.pts, frame.time_base = self._samples, Fraction(1, self._resampler.target)
        self._samples += len(samples)
        self._mux(self._audio.encode(frame))

    def _mux(self, packets: list[Packet[Any]]) -> None:
        assert self._container is not None
        self._container.mux(packets)

    def _finish(self) -> None:
        if not self._pictures:
            raise MediaError(f"{self.path}: there was no picture to write")
        self._write_sound(self._resampler.flush())
        self._mux(self._video.encode(None))
        self._mux(self._audio.encode(None))
        assert self._container is not None
        self._container.close()

    def _discard(self) -> None:
        # Closing may fail for the reason that led here; the part goes in any case.
        with suppress(FFmpegError, OSError):
            if self._container is not None:
                self._container.close()
        with suppress(OSError):
            self._part.unlink(missing_ok=True)


class PngWriter(_Sink):
    """A folder with 000000.png, 000001.png ... at 25 a second and their sound as sound.wav (16 bit).

    Everything is written to ``.NAME.part`` beside the folder and renamed by ``close``. An existing folder is replaced
    only if it is empty or holds nothing but an earlier result.

    Args:
        folder: the folder.
        rate: samples a second of the sound, kept as it is.
        channels: 1 or 2.
        seal: called with the finished folder before it gets its name; if it raises, there will be no folder.

    Raises:
        MediaError: the parent folder is missing or read-only, the folder holds other files, or the disk is full.
        ContractError: a picture or sound of another shape or type.
    """

    def __init__(self, folder: Path, rate: int, channels: int, *, seal: Seal | None = None) -> None:
        super().__init__(folder, f".{Path(folder).name}.part", channels, seal)
        self._refuse_foreign_files()
        self._pictures = 0
        self._sound: wave.Wave_write | None = None
        with self._guarded():
            shutil.rmtree(self._part, ignore_errors=True)
            self._part.mkdir()
            self._sound = wave.open(str(self._part / SOUND_NAME), "wb")  # noqa: SIM115  (closed by _finish)
            self._sound.setnchannels(channels)
            self._sound.setsampwidth(2)
            self._sound.setframerate(rate)

    def _refuse_foreign_files(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise MediaError(f"{self.path} is a file: choose another folder for the pictures")
        ours = re.compile(r"\d{6}\.png|" + re.escape(SOUND_NAME))
        foreign = [p.name for p in self.path.iterdir() if not ours.fullmatch(p.name)] if self.path.exists() else []
        if foreign:
            raise MediaError(f"{self.path} holds other files ({min(foreign)}): empty it or choose another folder")

    def write(self, image: Picture | UInt8Array, samples: FloatArray) -> None:
        """One picture (also as uint8 [H, W, 3] BGR), and the sound of its 40 ms, float32 [n, channels] -1..1."""
        self._check_open()
        picture = _as_picture(image, None, None)
        check_samples(samples, self.channels)
        with self._guarded():
            _, png = cv2.imencode(".png", picture.bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])
            (self._part / PNG_NAME.format(self._pictures)).write_bytes(png.tobytes())
            assert self._sound is not None
            levels = np.clip(np.rint(samples * np.float32(32768)), -32768, 32767)
            self._sound.writeframes(levels.astype("<i2").tobytes())
            self._pictures += 1

    def _finish(self) -> None:
        assert self._sound is not None
        self._sound.close()

    def _take_name(self) -> None:
        if self.path.exists():
            shutil.rmtree(self.path)
        super()._take_name()

    def _discard(self) -> None:
        with suppress(OSError):
            if self._sound is not None:
                self._sound.close()
        shutil.rmtree(self._part, ignore_errors=True)
