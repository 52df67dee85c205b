"""The pipeline a user of this family of networks would otherwise have, written plainly, one step after the other.

Read a frame from its JPEG, cut, normalise, one call of the network in f32, paste into a copy of the whole frame, MJPEG;
and when all frames are there, transcode the film to H.264. The features of the whole sound are made first. What that
family does once per avatar (unpacking the template into JPEGs) is not counted, nor is the muxing of the sound.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from lipwright import patch
from lipwright.avatar import Avatar
from lipwright.avatar.films import encode
from lipwright.contract import FPS, FloatArray, UInt8Array
from lipwright.errors import MediaError
from lipwright.render import Walk
from lipwright.runtimes import Runtime
from lipwright.trial import pictures, windows
from lipwright.video import VideoReader

#: x264's quality in the family's transcoding, with its default preset.
CRF = 20
FILM, TRANSCODED = "baseline.avi", "baseline.mp4"

Stages = dict[str, list[float]]
"""Seconds of each stage, a value for each frame."""


def unpack(avatar: Avatar, folder: Path) -> list[Path]:
    """The template as JPEG files, as that family keeps it; not counted."""
    paths = []
    for k, picture in enumerate(pictures(avatar, range(avatar.frame_count))):
        paths.append(folder / f"{k:06d}.jpg")
        cv2.imwrite(str(paths[-1]), picture)
    return paths


def sequential(
    avatar: Avatar,
    sound: Path,
    generator: Runtime,
    frames: int,
    folder: Path,
    jpegs: list[Path],
    look: Callable[[int], None],
) -> tuple[Stages, float]:
    """Make a film of ``frames`` frames.

    Returns:
        The seconds of each stage, and all of it together.

    Raises:
        MediaError: a file cannot be read or written.
    """
    began = time.perf_counter()
    stages: Stages = defaultdict(list)
    heard = windows(avatar, sound, frames)
    stages["hear"] = [(time.perf_counter() - began) / len(heard)] * len(heard)
    sizes = avatar.manifest.sizes
    film = cv2.VideoWriter(str(folder / FILM), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (sizes.width, sizes.height))
    if not film.isOpened():
        raise MediaError(f"{folder / FILM} cannot be written: OpenCV has no MJPEG writer here")
    walk = Walk.of(avatar)
    for i, window in enumerate(heard):
        _one(avatar, walk(i), jpegs, window, generator, film, stages)
        look(i + 1)
    film.release()
    transcoding = time.perf_counter()
    with VideoReader(folder / FILM) as made:
        encode(made, folder / TRANSCODED, CRF)
    each = (time.perf_counter() - transcoding) / len(heard)
    stages["encode"] = [seconds + each for seconds in stages["encode"]]
    return stages, time.perf_counter() - began


def _one(
    avatar: Avatar,
    k: int,
    jpegs: list[Path],
    window: FloatArray,
    generator: Runtime,
    film: cv2.VideoWriter,
    stages: Stages,
) -> None:
    """One frame from its JPEG into the film."""
    rect, how = avatar.rect(k), avatar.manifest.resize
    marks = [time.perf_counter()]
    picture: UInt8Array = np.asarray(cv2.imread(str(jpegs[k])), np.uint8)
    marks.append(time.perf_counter())
    if rect.usable:
        crop = patch.crop(picture, rect, how)
        roi = patch.roi(crop)
        image = patch.to_input(roi, roi)
        marks.append(time.perf_counter())
        output = generator.run(image[np.newaxis], window[np.newaxis])[0]
        marks.append(time.perf_counter())
        picture = patch.paste(picture, rect, crop, patch.from_output(output), how)
        marks.append(time.perf_counter())
    film.write(picture)
    marks.append(time.perf_counter())
    names = ("decode", "cut", "draw", "paste", "encode") if rect.usable else ("decode", "encode")
    for name, seconds in zip(names, np.diff(marks).tolist(), strict=True):
        stages[name].append(seconds)
