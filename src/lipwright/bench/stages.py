"""How long each stage of a frame takes alone: one after the other, in one thread, nothing overlapping."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean

from lipwright.audio.decode import SoundReader
from lipwright.avatar import Avatar
from lipwright.bench.measures import STAGES
from lipwright.contract import FPS, FloatArray
from lipwright.picture import Picture
from lipwright.render import Networks, Painter, Walk
from lipwright.render.voice import Moment, Voice
from lipwright.video import VideoWriter

#: Memory for finished frames that wait to be encoded.
KEPT_BYTES = 2**28


class Clock:
    """Collects the seconds that named pieces of work take."""

    def __init__(self) -> None:
        self._spent: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The block is one piece of work."""
        begin = time.perf_counter()
        yield
        self._spent[name].append(time.perf_counter() - begin)

    def milliseconds(self, name: str) -> float:
        """Mean; 0 for what never happened."""
        return 1000 * fmean(self._spent[name]) if self._spent[name] else 0.0


def stages(avatar: Avatar, networks: Networks, sound: Path, frames: int, folder: Path) -> dict[str, float]:
    """Mean milliseconds of every stage over at most ``frames`` frames; a film is written into ``folder``.

    All frames are encoded when all are made: an encoder works on in threads of its own.
    """
    clock, sizes = Clock(), avatar.manifest.sizes
    count = max(min(frames, KEPT_BYTES // (3 * sizes.width * sizes.height)), 1)
    with SoundReader(sound) as heard:
        moments = _moments(avatar, networks, heard, count, clock)
        rate, channels = heard.rate, heard.channels
    images = _paint(avatar, networks, moments, clock)
    with VideoWriter(folder / "stages.mp4", sizes.width, sizes.height, rate, channels) as film:
        for moment, image in zip(moments, images, strict=True):
            with clock.stage("encode"):
                film.write(image, moment.samples)
    return {name: clock.milliseconds(name) for name in STAGES}


def _paint(avatar: Avatar, networks: Networks, moments: list[Moment], clock: Clock) -> list[Picture]:
    """The finished frames."""
    images = []
    walk = Walk.of(avatar)
    with Painter(avatar, networks) as painter:
        for moment in moments:
            k = walk(moment.index)
            with clock.stage("decode"):
                picture = painter.picture(k)
            with clock.stage("cut"):
                still = painter.cut(k, picture)
            with clock.stage("draw"):
                answer = painter.draw([still], moment.window[None])[0]
            with clock.stage("paste"):
                images.append(painter.finish(still, answer))
    return images


def _moments(avatar: Avatar, networks: Networks, sound: SoundReader, frames: int, clock: Clock) -> list[Moment]:
    """The first moments of the sound, heard 40 ms by 40 ms."""
    manifest = avatar.manifest
    alignment = manifest.encoder.alignment.to_contract()
    voice = Voice(sound.rate, sound.channels, networks, alignment, manifest.window.padding)
    moments: list[Moment] = []
    for samples in _by_frame(sound):
        with clock.stage("hear"):
            moments += voice.push(samples)
        if len(moments) >= frames:
            break
    return moments[:frames]


def _by_frame(sound: SoundReader) -> Iterator[FloatArray]:
    """The sound in pieces of at most 40 ms."""
    size = sound.rate // FPS
    for chunk in sound:
        for begin in range(0, len(chunk), size):
            yield chunk[begin : begin + size]
