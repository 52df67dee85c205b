"""The sound of a film: what the networks hear of it, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from lipwright.audio.activity import VoiceActivity
from lipwright.audio.decode import SoundReader, ToNetwork
from lipwright.contract import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, FloatArray
from lipwright.errors import MediaError
from lipwright.libav import open_input, to_frame

BoolArray = npt.NDArray[np.bool_]
DoubleArray = npt.NDArray[np.float64]

#: Samples at least this loud, this many in a row, are cut off.
CLIP_LEVEL = 0.985
CLIP_RUN = 3
#: A film quieter than this all along has no sound worth the name, dBFS.
SILENT_DB = -60.0
#: Music: so much of the power of what is heard between the words stands in narrow lines, at least so many of them,
#: and not more than this below the film's loud moments, dB. Eleven recordings of clean speech stay at 0.25 or below; of
#: three pieces of music behind each, 32 of 33 are found 15 dB below the voice, 28 at 25 dB (tools.film_thresholds).
MUSIC_SHARE = 0.38
MUSIC_LINES = 3
MUSIC_BELOW_DB = 45.0
#: A line stands this far above its surroundings, dB.
_LINE_DB = 9.0
_MUSIC_FFT = 1024
_MUSIC_HOP = SAMPLES_PER_FRAME // 2
_MUSIC_HERTZ = (300, 4000)
#: Steps of half a frame that are judged together (4 s), and the quietest share of them, which lies between words.
_MUSIC_SPAN = 200
_QUIETEST = 0.1


@dataclass(frozen=True)
class Sound:
    """The sound of a film, cut or filled up to its N frames."""

    samples: FloatArray
    """[640 N] 16 kHz mono, -1..1."""
    clipped: BoolArray
    """[N] frames in which the recording was cut off at full scale."""
    seconds: float
    """How long the sound itself is."""

    @property
    def silent(self) -> bool:
        """Whether there is nothing to be heard."""
        return bool(np.max(np.abs(self.samples), initial=0.0) < 10 ** (SILENT_DB / 20))

    def voice(self) -> BoolArray:
        """[N] frames in which somebody speaks."""
        activity = VoiceActivity()
        return np.asarray(np.concatenate([activity.push(self.samples), activity.flush()]) > 0)

    def music(self) -> BoolArray:
        """[N] frames with tones that go on where the voice pauses: music, or a loud hum."""
        return music_frames(self.samples)

    def moved(self, frames: int) -> FloatArray:
        """The samples ``frames`` video frames later (earlier if negative), as many as before."""
        shift = frames * SAMPLES_PER_FRAME
        later = np.zeros_like(self.samples)
        if shift >= 0:
            later[shift:] = self.samples[: len(later) - shift]
        else:
            later[:shift] = self.samples[-shift:]
        return later


def has_sound(path: Path) -> bool:
    """Whether a film has a sound track with something in it: one that is declared and empty is none.

    Raises:
        MediaError: the file cannot be opened.
    """
    with open_input(path) as container:
        stream = container.streams.best("audio")
        return stream is not None and any(packet.size for packet in container.demux(stream))


def check_sound(path: Path) -> None:
    """Raise MediaError unless ``path``, given as the sound of a film, can be opened and holds some that is decoded."""
    if not has_sound(path):
        raise MediaError(f"{path} holds no sound: name the recording, or leave --audio away")
    SoundReader(path).close()


def listen(path: Path, frames: int) -> Sound:
    """Read the sound of ``path`` for a film of so many frames.

    Raises:
        MediaError: there is no sound in it that can be decoded.
    """
    clipped = np.zeros(frames, bool)
    with SoundReader(path) as reader:
        to_network, heard, position = ToNetwork(reader.rate, reader.channels), [], 0
        for chunk in reader:
            where = (position + clipped_samples(chunk)) * FPS // reader.rate
            clipped[where[where < frames]] = True
            heard.append(to_network.push(chunk))
            position += len(chunk)
        samples = np.concatenate([*heard, to_network.flush()])
    wanted = frames * SAMPLES_PER_FRAME
    whole = np.zeros(wanted, np.float32)
    whole[: min(wanted, len(samples))] = samples[:wanted]
    return Sound(whole, clipped, len(samples) / SAMPLE_RATE)


def clipped_samples(samples: FloatArray) -> npt.NDArray[np.int64]:
    """Indices of samples [n, channels] that begin a run cut off at full scale."""
    loud = np.abs(samples) >= CLIP_LEVEL
    if len(loud) < CLIP_RUN:
        return np.zeros(0, np.int64)
    runs = np.lib.stride_tricks.sliding_window_view(loud, CLIP_RUN, axis=0).all(-1).any(-1)
    return np.flatnonzero(runs)


def music_frames(samples: FloatArray) -> BoolArray:
    """[640 N] 16 kHz mono to [N]: whether tones go on where the voice pauses.

    Between words speech leaves noise or nothing; music, and the hum of a machine, leave the lines of their tones.
    Music without held tones (drums) is not found, and a jingle shorter than a second or two may not be.
    """
    tonal = np.zeros(len(samples) // SAMPLES_PER_FRAME, bool)
    for first, share in tonal_shares(samples):
        if share > MUSIC_SHARE:
            tonal[first // 2 : (first + _MUSIC_SPAN) // 2] = True
    return tonal


def tonal_shares(samples: FloatArray) -> Iterator[tuple[int, float]]:
    """Of each span of 4 s of 16 kHz mono: its first half frame, and the share of narrow lines where the voice pauses.

    The share is 0 where the pauses are too quiet to tell, or hold too few lines to be music.
    """
    power = _spectrum(samples)
    loud = float(np.percentile(power.sum(1), 95)) if len(power) else 0.0
    for first in range(0, max(1, len(power) - _MUSIC_SPAN + 1), _MUSIC_SPAN // 4):
        span = power[first : first + _MUSIC_SPAN]
        quietest = span[np.argsort(span.sum(1), kind="stable")[: max(4, round(_QUIETEST * len(span)))]]
        if len(quietest):
            yield first, _tonal_share(quietest, loud)


def _spectrum(samples: FloatArray) -> DoubleArray:
    """[2 N, bins] power of 64 ms around every half frame, 300..4000 Hz."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_MUSIC_FFT) / _MUSIC_FFT)
    padded = np.pad(samples.astype(np.float64), _MUSIC_FFT // 2)
    low, high = (round(hertz * _MUSIC_FFT / SAMPLE_RATE) for hertz in _MUSIC_HERTZ)
    rows = [
        np.abs(np.fft.rfft(padded[start : start + _MUSIC_FFT] * hann))[low:high] ** 2
        for start in range(0, len(samples), _MUSIC_HOP)
    ]
    return np.array(rows, np.float64).reshape(-1, high - low)


def _tonal_share(quietest: DoubleArray, loud: float) -> float:
    """How much of the moments between words [n, bins] stands in lines; 0 where they are faint beside the loud ones."""
    total = quietest.sum(1)
    if np.median(total) <= loud * 10 ** (-MUSIC_BELOW_DB / 10):
        return 0.0
    level = 10 * np.log10(quietest + 1e-12)
    around = np.stack([np.median(level[:, max(0, k - 10) : k + 11], axis=1) for k in range(level.shape[1])], axis=1)
    lines = level - around > _LINE_DB
    tops = np.sum(lines[:, 1:] & ~lines[:, :-1], axis=1)
    share = np.sum(quietest * lines, axis=1) / np.maximum(total, 1e-30)
    return float(np.median(share)) if np.median(tops) >= MUSIC_LINES else 0.0


def write_flac(path: Path, samples: FloatArray) -> None:
    """Write 16 kHz mono [n], -1..1, without loss beyond 16 bits."""
    with av.open(f"file:{path}", "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono")
        to_codec = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        for start in range(0, len(samples), SAMPLE_RATE):
            frame = to_frame(np.clip(samples[start : start + SAMPLE_RATE, None], -1, 1), SAMPLE_RATE)
            frame.pts = start
            for converted in to_codec.resample(frame):
                container.mux(stream.encode(converted))
        container.mux(stream.encode(None))
