"""Sounds and films that tests make themselves: tones, speech-like noise, pictures that carry their own number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.container import OutputContainer

FloatArray = npt.NDArray[np.float32]
UInt8Array = npt.NDArray[np.uint8]

#: Codec by file suffix where the caller names none.
SOUND_CODECS = {
    ".wav": "pcm_s16le",
    ".flac": "flac",
    ".mp3": "libmp3lame",
    ".m4a": "aac",
    ".mp4": "aac",
    ".mov": "aac",
    ".ts": "aac",
    ".mkv": "pcm_s16le",
    ".ogg": "libopus",
    ".webm": "libopus",
}
LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 6: "5.1", 8: "7.1"}
COUNTER_BITS = 16
#: Columns of the display matrix (a, b, c, d) that turn a stored picture clockwise, or mirror it.
DISPLAY = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0), "mirror": (-1, 0, 0, 1)}


# --- sound ----------------------------------------------------------------------------------------------------------
def tone(seconds: float, rate: int, channels: int = 1, hertz: float = 220.0, level: float = 0.5) -> FloatArray:
    """A sine, float32 [n, channels]; channel c is a fifth higher than channel c - 1."""
    time = np.arange(round(seconds * rate)) / rate
    columns = [level * np.sin(2 * np.pi * hertz * 1.5**c * time) for c in range(channels)]
    return np.stack(columns, axis=1).astype(np.float32)


def speech_like(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> FloatArray:
    """Noise with the spectrum of speech (falling above 500 Hz) and four syllables a second, float32 [n, channels]."""
    n = round(seconds * rate)
    noise = np.random.default_rng(seed).standard_normal(n)
    hertz = np.fft.rfftfreq(n, 1 / rate)
    shaped = np.fft.irfft(np.fft.rfft(noise) / (1 + (hertz / 500) ** 2), n)
    syllables = np.clip(np.sin(2 * np.pi * 4 * np.arange(n) / rate), 0, None)
    mono = (0.5 * shaped / np.abs(shaped).max() * syllables).astype(np.float32)
    return np.repeat(mono[:, None], channels, axis=1)


def click(at: float, seconds: float, rate: int, channels: int = 1) -> FloatArray:
    """Silence with a single sample of 0.9 at ``at`` seconds, float32 [n, channels]."""
    samples = np.zeros((round(seconds * rate), channels), np.float32)
    samples[round(at * rate)] = 0.9
    return samples


def write_sound(
    path: Path,
    samples: FloatArray,
    rate: int,
    codec: str | None = None,
    start: float = 0,
    gap: tuple[float, float] | None = None,
    layout: str | None = None,
) -> Path:
    """Encode float32 [n, channels] into ``path``; the container follows from the suffix, the codec too unless named.

    Args:
        path: the file.
        samples: the sound.
        rate: samples a second.
        codec: FFmpeg's name of the encoder.
        start: time stamp of the first sample in seconds.
        gap: (at, seconds): from sample time ``at`` on, time stamps are this much later.
        layout: FFmpeg's name of the channel layout; by default the usual one for that number of channels.
    """
    with av.open(str(path), "w") as container:
        stream = _add_sound(container, path, rate, samples.shape[1], codec, layout)
        _encode_sound(container, stream, samples, rate, start, gap)
    return path


def _add_sound(
    container: OutputContainer, path: Path, rate: int, channels: int, codec: str | None, layout: str | None = None
) -> Any:
    name = codec or SOUND_CODECS[path.suffix]
    return container.add_stream(name, rate=rate, layout=layout or LAYOUTS[channels], time_base=Fraction(1, rate))


def _encode_sound(
    container: OutputContainer,
    stream: Any,
    samples: FloatArray,
    rate: int,
    start: float = 0,
    gap: tuple[float, float] | None = None,
) -> None:
    piece = rate // 25
    to_codec = av.AudioResampler(format=stream.format, layout=stream.layout, rate=rate)
    for begin in range(0, len(samples), piece):
        late = gap[1] if gap and begin >= round(gap[0] * rate) else 0
        flat = np.ascontiguousarray(samples[begin : begin + piece]).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(flat, format="flt", layout=stream.layout.name)
        frame.sample_rate = rate
        frame.time_base = Fraction(1, rate)
        frame.pts = begin + round((start + late) * rate)
        for converted in to_codec.resample(frame):
            container.mux(stream.encode(converted))
    container.mux(stream.encode(None))


# --- pictures -------------------------------------------------------------------------------------------------------
def counter_picture(number: int, width: int = 128, height: int = 96) -> UInt8Array:
    """uint8 [height, width, 3] BGR: a shade that moves with ``number``, and the number in 16 bits along the top."""
    y, x = np.mgrid[:height, :width]
    shade = np.stack([(x * 2 + number * 3) % 256, (y * 2 + number) % 256, (x + y) % 256], axis=2)
    shade = (96 + shade / 4).astype(np.uint8)
    bits = [255 * (number >> bit & 1) for bit in range(COUNTER_BITS)]
    block = width // COUNTER_BITS
    shade[: max(height // 6, 8), : block * COUNTER_BITS] = np.repeat(bits, block)[None, :, None]
    return shade


def read_counter(image: UInt8Array) -> int:
    """The number in a (decoded) counter picture."""
    block = image.shape[1] // COUNTER_BITS
    row = image[max(image.shape[0] // 6, 8) // 2].mean(axis=1)
    return sum(1 << bit for bit in range(COUNTER_BITS) if row[bit * block + block // 2] > 127)


def colour_bars(width: int = 256, height: int = 128) -> UInt8Array:
    """uint8 [height, width, 3] BGR: eight bars, bright above and dark below."""
    bars = [
        (255, 255, 255),
        (0, 255, 255),
        (255, 255, 0),
        (0, 255, 0),
        (255, 0, 255),
        (0, 0, 255),
        (255, 0, 0),
        (30, 30, 30),
    ]
    image = np.repeat(np.array(bars)[None], height, axis=0).repeat(width // 8, axis=1)
    image[height // 2 :] = image[height // 2 :] // 2 + 20
    return image.astype(np.uint8)


def write_film(
    path: Path,
    pictures: Iterable[UInt8Array] | int = 50,
    fps: Fraction | int = 25,
    times: Sequence[Fraction] | None = None,
    rotation: int | str = 0,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    samples: FloatArray | None = None,
    rate: int = 16_000,
    sound_codec: str | None = None,
    sound_start: float = 0,
    picture_start: float = 0,
    keyframes: int = 12,
    aspect: Fraction | int = 1,
) -> Path:
    """Encode a film.

    Args:
        path: the file; the container follows from the suffix.
        pictures: uint8 [H, W, 3] BGR each, or how many counter pictures.
        fps: pictures a second.
        times: time stamps in seconds for a variable rate; ``fps`` is then only the nominal rate.
        rotation: degrees clockwise, or "mirror", that the display matrix says (MP4 only). The pictures are stored
            turned the other way, so that a player shows them upright.
        codec: FFmpeg's name of the video encoder.
        pix_fmt: its pixel format.
        samples: sound, float32 [n, channels]; None: a silent film.
        rate: of the sound, in samples a second.
        sound_codec: FFmpeg's name of the audio encoder; follows from the suffix unless named.
        sound_start: time stamp of the first sample in seconds.
        picture_start: time stamp of the first picture in seconds.
        keyframes: pictures from one key picture to the next.
        aspect: of a stored pixel, its width over its height. The pictures are stored as they are given.
    """
    upright = (counter_picture(i) for i in range(pictures)) if isinstance(pictures, int) else iter(pictures)
    first = next(upright)
    ticks = Fraction(1, 90_000) if times is not None or picture_start else 1 / Fraction(fps)
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream(codec, rate=Fraction(fps), time_base=ticks)
        video.height, video.width = _stored(first, rotation).shape[:2]
        video.pix_fmt = pix_fmt
        video.codec_context.sample_aspect_ratio = Fraction(aspect)
        video.options = {"crf": "12", "g": str(keyframes), "preset": "veryfast"} if codec.startswith("libx26") else {}
        if codec == "libx265":
            video.options |= {"x265-params": "log-level=none"}
        audio = None if samples is None else _add_sound(container, path, rate, samples.shape[1], sound_codec)
        for number, picture in enumerate([first, *upright]):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(_stored(picture, rotation)), format="bgr24")
            frame = frame.reformat(format=pix_fmt)
            time = times[number] if times is not None else number / Fraction(fps)
            frame.pts = round((time + Fraction(picture_start)) / ticks)
            frame.time_base = ticks
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if samples is not None:
            _encode_sound(container, audio, samples, rate, sound_start)
    if rotation:
        _set_display_matrix(path, rotation)
    return path


def _stored(upright: UInt8Array, rotation: int | str) -> UInt8Array:
    return upright[:, ::-1] if rotation == "mirror" else np.rot90(upright, int(rotation) // 90)


def _set_display_matrix(path: Path, rotation: int | str) -> None:
    """Write the matrix into the header of the first track (ISO 14496-12, `tkhd`)."""
    data = bytearray(path.read_bytes())
    box = data.index(b"tkhd")
    matrix = box + (56 if data[box + 4] else 44)
    a, b, c, d = (v << 16 for v in DISPLAY[rotation])
    values = [a, b, 0, c, d, 0, 0, 0, 1 << 30]
    data[matrix : matrix + 36] = b"".join(v.to_bytes(4, "big", signed=True) for v in values)
    path.write_bytes(data)


# --- damage ---------------------------------------------------------------------------------------------------------
def cut_short(path: Path, part: float) -> Path:
    """Keep only this part (0..1) of a file's bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    return path
