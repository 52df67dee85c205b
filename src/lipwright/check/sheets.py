"""Pictures for the eye: input, first runtime, second runtime and ten times their difference, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from lipwright.audio.decode import SoundReader
from lipwright.contract import FPS, ROI_SIZE, FloatArray, UInt8Array
from lipwright.trial import write_whole
from lipwright.video import VideoWriter

#: How many times differences are enlarged; one level off is hardly seen else.
AMPLIFIED = 10
_CAPTION = 24
_INK, _PAPER = (32, 32, 32), 246


def four_way(seen: UInt8Array, first: UInt8Array, second: UInt8Array, names: tuple[str, str, str]) -> UInt8Array:
    """[344, 1280, 3] BGR: input, both results and their difference x 10 around grey; pictures [320, 320, 3].

    Grey is no difference; brighter, the second is brighter.

    Args:
        seen: what was asked about.
        first: one answer.
        second: the other.
        names: of the three.
    """
    apart = second.astype(np.int32) - first
    shown = np.clip(128 + AMPLIFIED * apart, 0, 255).astype(np.uint8)
    tiles = [seen, first, second, shown]
    return np.concatenate(list(map(labelled, tiles, [*names, f"difference x {AMPLIFIED}"])), axis=1)


def labelled(tile: UInt8Array, text: str) -> UInt8Array:
    """The picture with a line of text above it."""
    strip = np.full((_CAPTION, tile.shape[1], 3), _PAPER, np.uint8)
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(strip, plain, (6, _CAPTION - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.42, _INK, 1, cv2.LINE_AA)
    return np.concatenate([strip, tile])


def write_png(picture: UInt8Array, path: Path) -> None:
    """Write a PNG; it appears under its name when it is whole."""
    write_whole(path, cv2.imencode(".png", picture)[1].tobytes())


def write_film(rows: Iterable[UInt8Array], sound: Path, path: Path) -> None:
    """Four-way pictures as a film at 25 fps, with the beginning of the sound they were drawn to."""
    with SoundReader(sound) as heard:
        size = (4 * ROI_SIZE, ROI_SIZE + _CAPTION)
        with VideoWriter(path, *size, heard.rate, heard.channels) as film:
            pieces = _frames_of(heard, heard.rate // FPS)
            for row in rows:
                film.write(row, next(pieces, np.zeros((heard.rate // FPS, heard.channels), np.float32)))


def _frames_of(sound: SoundReader, samples: int) -> Iterator[FloatArray]:
    """The sound in pieces of one frame."""
    held = np.empty((0, sound.channels), np.float32)
    for chunk in sound:
        held = np.concatenate([held, chunk])
        while len(held) >= samples:
            yield held[:samples]
            held = held[samples:]
