"""Long sounds: flat memory, no drift. The real command, each run in a process of its own, on an avatar of a drawing.

    pytest -m slow -s tests/test_endurance.py

prints what docs/performance.md says of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from avatars import Parts, face_rect, face_rects, make_avatar, tiny_generator
from lipwright.audio.decode import SoundReader
from lipwright.avatar import GENERATOR, RECTS
from lipwright.contract import FPS, UInt8Array
from lipwright.libav import seconds
from lipwright.video import VideoReader

pytestmark = pytest.mark.slow

#: A burst of noise every so many seconds, so long, at this time after each of them.
EVERY, BURST, AFTER = 10, Fraction(1, 5), 4
#: Pictures around a burst in which the mouth answers to it.
ANSWER = 25
#: Of twelve template frames one is drawn in the sound of two hours: memory is not about drawing.
TEMPLATE_FRAMES = 12

COMMAND = """
import json, sys
from lipwright.bench.worker import peak_memory_mb
from lipwright.cli import main
try:
    main(sys.argv[1:])
finally:
    print(json.dumps(peak_memory_mb()))
"""


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One template frame and a mouth that answers strongly: whatever changes in a film of it, the sound did."""
    folder = tmp_path_factory.mktemp("still")
    whole = make_avatar(folder, Parts(frames=1, features=False, landmarks=False))
    lively = tiny_generator(folder / "lively.onnx", gain=1.0)
    return whole.save(folder / "still.avatar", contents={GENERATOR: lively}).path


@pytest.fixture(scope="module")
def patchy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("patchy")
    rects = face_rects(TEMPLATE_FRAMES)
    rects[1:] = -1
    whole = make_avatar(folder, Parts(frames=TEMPLATE_FRAMES, features=False, landmarks=False))
    return whole.save(folder / "patchy.avatar", contents={RECTS: rects}).path


def write_bursts(path: Path, length: int, rate: int) -> Path:
    """``length`` seconds, a multiple of 10, 16 bit mono: the same burst of noise in every ten seconds, else silence."""
    samples = np.zeros(EVERY * rate)
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, int(BURST * rate))
    samples[AFTER * rate : AFTER * rate + len(noise)] = noise
    once = (samples * 32_767).astype("<i2").tobytes()
    with wave.open(str(path), "wb") as writer:
        writer.setparams((1, 2, rate, 0, "NONE", ""))
        for _ in range(length // EVERY):
            writer.writeframes(once)
    return path


@dataclass(frozen=True)
class Rendered:
    """A film and what it took."""

    path: Path
    peak_mb: float
    wall_s: float


def rendered(avatar: Path, sound: Path) -> Rendered:
    out = sound.with_suffix(".mp4")
    flags = ["--avatar", str(avatar), "--runtime", "onnxruntime", "-o", str(out)]
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "render", str(sound), *flags], check=True, capture_output=True, text=True
    )
    return Rendered(out, json.loads(done.stdout.splitlines()[-1]), time.monotonic() - begun)


def lengths(film: Path) -> tuple[int, Fraction, Fraction]:
    """Pictures, and the lengths of both streams in seconds as the container has them."""
    with av.open(str(film)) as container:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        shown, lasts = (seconds(stream.duration, stream.time_base) for stream in (picture, sound))
        assert shown is not None and lasts is not None
        return picture.frames, shown, lasts


def told(label: str, film: Rendered) -> str:
    frames, shown, lasts = lengths(film.path)
    return (
        f"{label}: {frames} pictures, streams of {float(shown):.4f} and {float(lasts):.4f} s, "
        f"peak {film.peak_mb:.0f} MB, {film.wall_s:.0f} s"
    )


def mouth_level(picture: UInt8Array) -> float:
    """Mean brightness of the lower middle of the blob's rect, where the tiny generator draws the sound."""
    rect = face_rect(0)
    middle, quarter = (rect.y1 + rect.y2) // 2, rect.width // 4
    return float(picture[middle : rect.y2 - 16, rect.x1 + quarter : rect.x2 - quarter].mean())


def answer_time(film: Path, second: int) -> float:
    """How much later than the burst at ``second`` the mouth answers: centre of its change, in seconds."""
    with VideoReader(film) as reader:
        first = second * FPS - ANSWER
        levels = np.array([mouth_level(p) for p in reader.read(first, second * FPS + 2 * ANSWER)])
    change = np.abs(levels - np.median(levels))
    change[change < change.max() / 4] = 0
    assert change.max() > 5, "the mouth does not answer at all"
    return float(change @ (np.arange(len(change)) - ANSWER) / change.sum() / FPS)


def heard(film: Path, bursts: set[int]) -> Iterator[tuple[int, npt.NDArray[np.float32], int]]:
    """(second of the burst, its sound and half a second around it [n], samples a second), in order."""
    with SoundReader(film) as reader:
        rate = reader.rate
        around = {burst: (burst * rate - rate // 2, (burst + 1) * rate) for burst in bursts}
        kept: dict[int, list[npt.NDArray[np.float32]]] = {burst: [] for burst in bursts}
        position = 0
        for chunk in reader:
            for burst, (start, stop) in around.items():
                kept[burst].append(chunk[max(start - position, 0) : max(stop - position, 0), 0])
            position += len(chunk)
    for burst in sorted(bursts):
        yield burst, np.concatenate(kept[burst]), rate


def lags(film: Path, bursts: set[int]) -> list[int]:
    """Samples by which each burst is heard late: where its sound fits the noise that was written best."""
    found = []
    for _, sound, rate in heard(film, bursts):
        noise = np.random.default_rng(1).uniform(-0.5, 0.5, int(BURST * rate))
        found.append(int(np.argmax(np.correlate(sound, noise, "valid"))) - rate // 2)
    return found


def test_ten_minutes_neither_grow_nor_drift(still: Path, tmp_path: Path) -> None:
    rate = 44_100
    short = rendered(still, write_bursts(tmp_path / "short.wav", EVERY, rate))
    long = rendered(still, write_bursts(tmp_path / "long.wav", 600, rate))
    ends = AFTER, 600 - EVERY + AFTER
    pictures, sounds = [answer_time(long.path, burst) for burst in ends], lags(long.path, set(ends))
    sys.stdout.write(f"\n{told('10 s', short)}\n{told('10 min', long)}\n")
    for burst, seen, late in zip(ends, pictures, sounds, strict=True):
        sys.stdout.write(
            f"burst at {burst} s: heard {late} samples late, the mouth answers {seen * 1000:+.1f} ms later\n"
        )
    assert lengths(short.path) == (250, Fraction(10), Fraction(10))
    assert lengths(long.path) == (15_000, Fraction(600), Fraction(600))
    assert sounds == [0, 0]
    assert abs(pictures[1] - pictures[0]) < 0.004
    # An MP4 keeps an index of its packets in memory until it is closed: about 4 MB in ten minutes.
    assert long.peak_mb - short.peak_mb < 24


def test_two_hours_of_sound(patchy: Path, tmp_path: Path) -> None:
    rate, length = 16_000, 7200
    short = rendered(patchy, write_bursts(tmp_path / "short.wav", 60, rate))
    long = rendered(patchy, write_bursts(tmp_path / "long.wav", length, rate))
    sys.stdout.write(f"\n{told('1 min', short)}\n{told('2 h', long)}\n")
    assert lengths(long.path) == (length * FPS, Fraction(length), Fraction(length))
    assert lags(long.path, {AFTER, length - EVERY + AFTER}) == [0, 0]
    assert long.peak_mb - short.peak_mb < 96
