"""Is a film of lipwright right: frames, size, durations, the sound of its source, and lips that move with it?

    python tools/check_film.py FILM.mp4 SOUND

Prints one line a check and exits with 1 if one fails.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from lipwright.audio.decode import SoundReader, ToNetwork
from lipwright.check.lips import lip_gaps
from lipwright.contract import FPS, SAMPLES_PER_FRAME, frame_count
from lipwright.libav import seconds
from lipwright.video import VideoReader

#: Sound quieter than this RMS (of full scale) is silence.
SILENT = 0.001
#: Encoded sound may be off by one AAC packet.
AAC_PACKET = 1024
#: Lips count as moving when the lip gap's 5 % and 95 % quantiles are this much of the face height apart.
MOVING = 0.01
#: Frames in which a face must be found, and least correlation of loudness and lip gap.
FOUND = 0.95
DRIVEN = 0.2


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    good: bool
    seen: str


def sound_of(path: Path) -> tuple[npt.NDArray[np.float32], Fraction]:
    """The sound as the networks hear it, 16 kHz mono, and its exact length in seconds at its own rate."""
    with SoundReader(path) as reader:
        network = ToNetwork(reader.rate, reader.channels)
        chunks = list(reader)
        heard = [network.push(chunk) for chunk in chunks]
        length = Fraction(sum(map(len, chunks)), reader.rate)
    return np.concatenate([*heard, network.flush()]), length


def check_streams(film: Path, frames: int, length: Fraction) -> Iterator[Check]:
    """What the container says."""
    with av.open(str(film)) as container:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        codec = picture.codec_context
        kind = f"{codec.name} {codec.pix_fmt}, {sound.codec_context.name}"
        yield Check("codecs", kind == "h264 yuv420p, aac", kind)
        size = f"{codec.width} x {codec.height}"
        yield Check("size", min(codec.width, codec.height) >= 320 and not codec.width % 2 + codec.height % 2, size)
        yield Check("frame rate", picture.average_rate == FPS, str(picture.average_rate))
        yield Check("frames", picture.frames == frames, f"{picture.frames}, expected {frames}")
        shown = seconds(picture.duration, picture.time_base) or Fraction(0)
        yield Check("picture lasts", shown == Fraction(frames, FPS), f"{float(shown):.3f} s")
        heard = seconds(sound.duration, sound.time_base) or Fraction(0)
        off = abs(heard - length) * sound.rate
        yield Check("sound lasts", off <= AAC_PACKET, f"{float(heard):.3f} s, its source {float(length):.3f} s")
        starts = [seconds(stream.start_time, stream.time_base) for stream in (picture, sound)]
        yield Check("both start at 0", starts == [0, 0], f"{starts[0]} s, {starts[1]} s")


def correlation(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> float:
    """Pearson's r; 0 where one of them does not change at all."""
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) and np.ptp(b) else 0.0


def loudness(sound: npt.NDArray[np.float32], frames: int) -> npt.NDArray[np.float64]:
    """RMS of each frame's own 40 ms."""
    padded = np.pad(sound, (0, frames * SAMPLES_PER_FRAME - len(sound)))
    power: npt.NDArray[np.float64] = np.square(padded.reshape(frames, -1), dtype=np.float64).mean(axis=1)
    return np.sqrt(power)


def check_lips(film: Path, level: npt.NDArray[np.float64]) -> Iterator[Check]:
    """Do the lips move, and do they move when there is sound?"""
    with VideoReader(film) as pictures:
        gaps = lip_gaps(pictures)[: len(level)]
    level = level[: len(gaps)]
    found = np.isfinite(gaps)
    yield Check("face found", bool(found.mean() >= FOUND), f"in {found.mean():.1%} of the frames")
    if not found.any():
        return
    low, high = np.quantile(gaps[found], [0.05, 0.95])
    yield Check("lips move", bool(high - low >= MOVING), f"gap {low:.3f} .. {high:.3f} of the face height")
    r = correlation(gaps[found], np.log10(level[found] + SILENT))
    yield Check("lips follow the sound", r >= DRIVEN, f"r of lip gap and loudness {r:.2f}")


def checks(film: Path, source: Path) -> Iterator[Check]:
    """All checks in order."""
    expected, length = sound_of(source)
    frames = frame_count(len(expected))
    yield from check_streams(film, frames, length)
    heard, _ = sound_of(film)
    shared = min(len(heard), len(expected))
    yield Check("sound is not silent", bool(np.sqrt(np.square(heard).mean()) > SILENT), "")
    r = correlation(heard[:shared], expected[:shared])
    yield Check("sound is the source's", r > 0.95, f"r {r:.3f}, no shift")
    yield from check_lips(film, loudness(expected, frames))


def main() -> None:
    """Print the checks and leave with 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("film", type=Path)
    parser.add_argument("sound", type=Path)
    arguments = parser.parse_args()
    failed = False
    for check in checks(arguments.film, arguments.sound):
        print(f"{'ok  ' if check.good else 'BAD '} {check.name}: {check.seen}")
        failed |= not check.good
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
