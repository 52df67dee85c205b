"""What the growth of cost is measured on: longer sounds, and the same avatar in other sizes."""

from __future__ import annotations

import tempfile
import wave
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np

from lipwright.audio.decode import hear
from lipwright.avatar import RECTS, TEMPLATE, Avatar, Sizes
from lipwright.avatar.films import encode
from lipwright.contract import SAMPLE_RATE, UInt8Array
from lipwright.trial import pictures

#: What cost may grow with.
Growth = Literal["jobs", "lengths", "sizes"]
GROWTH: tuple[Growth, ...] = get_args(Growth)
#: Template frames of a resized avatar.
FRAMES = 100
#: Names and heights; widths follow the avatar's own shape.
HEIGHTS = {"360p": 360, "480p": 480, "720p": 720, "1080p": 1080, "1440p": 1440, "4K": 2160}
SECONDS = (10, 60, 600)
JOBS = (1, 2, 4, 8)


def lasting(sound: Path, seconds: float, out: Path) -> Path:
    """The sound again and again until it lasts so long, 16 kHz mono 16 bit."""
    samples = np.resize(hear(sound), round(seconds * SAMPLE_RATE))
    with wave.open(str(out), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes(np.clip(np.rint(samples * 32767), -32768, 32767).astype("<i2").tobytes())
    return out


def resized(avatar: Avatar, height: int, folder: Path) -> Avatar:
    """The first frames of ``avatar`` in another size, rects included, as an avatar of its own in ``folder``."""
    sizes = avatar.manifest.sizes
    scale = height / sizes.height
    width = 2 * round(sizes.width * scale / 2)
    frames = range(min(FRAMES, avatar.frame_count))
    rects = np.stack([_scaled(avatar.rects[k], scale, width, height) for k in frames])
    with tempfile.TemporaryDirectory(dir=folder) as parts:
        film = Path(parts) / TEMPLATE
        encode((_picture(picture, width, height) for picture in pictures(avatar, frames)), film)
        kept = {record.file: avatar.path / record.file for record in avatar.manifest.models.records().values()}
        new_sizes = Sizes(width=width, height=height, frames=len(frames))
        manifest = avatar.manifest.changed(sizes=new_sizes, segments=[], start_frame=0)
        return Avatar.create(folder / f"{height}p.avatar", manifest, {**kept, TEMPLATE: film, RECTS: rects})


def _picture(picture: UInt8Array, width: int, height: int) -> UInt8Array:
    how = cv2.INTER_AREA if height < picture.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (width, height), interpolation=how), np.uint8)


def _scaled(
    rect: np.ndarray[tuple[int, ...], np.dtype[np.int32]], scale: float, width: int, height: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """A square around the same place; where nothing is redrawn it stays so."""
    if rect[0] < 0:
        return rect
    side = min(max(round((rect[2] - rect[0]) * scale), 2), width, height)
    x = min(max(round(rect[0] * scale), 0), width - side)
    y = min(max(round(rect[1] * scale), 0), height - side)
    return np.array([x, y, x + side, y + side], np.int32)
