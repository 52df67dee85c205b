"""A made-up person for trainings: a film whose mouth opens with the sound, without any network having looked at it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from lipwright.contract import FEATURE_DIM, ROI_SIZE, FloatArray, UInt8Array
from lipwright.training.pack import Pack

FRAMES = 260
#: So many held-out frames are enough for the tests' own trainings to be scored on: all of them take half as long again.
SCORED = 16
#: Where the mouth is in the ROI, and how wide.
MOUTH_X, MOUTH_Y, HALF_WIDTH = 160, 170, 42


def openings(frames: int = FRAMES) -> FloatArray:
    """[frames] 0..1: how far the lips are open, never twice alike for long."""
    noise = np.random.default_rng(5).normal(size=frames + 8)
    smooth = np.convolve(noise, np.hanning(9) / np.hanning(9).sum(), "valid")[:frames]
    return np.asarray((smooth - smooth.min()) / np.ptp(smooth), np.float32)


def portrait(opening: float, sway: float) -> UInt8Array:
    """[320, 320, 3] BGR: skin, a nose, lips, and a mouth that is open as far as ``opening``."""
    roi = np.full((ROI_SIZE, ROI_SIZE, 3), (120, 150, 205), np.uint8)
    x = round(MOUTH_X + sway)
    cv2.ellipse(roi, (x, 70), (14, 40), 0, 0, 360, (100, 130, 190), -1)
    cv2.ellipse(roi, (x, MOUTH_Y), (HALF_WIDTH, 12 + round(22 * opening)), 0, 0, 360, (80, 70, 170), -1)
    cv2.ellipse(roi, (x, MOUTH_Y), (HALF_WIDTH - 12, round(1 + 22 * opening)), 0, 0, 360, (30, 20, 40), -1)
    return np.asarray(cv2.GaussianBlur(roi, (0, 0), 1.2), np.uint8)


def person(versions: int = 3, told: bool = True, **changes: Any) -> Pack:
    """A pack of ``FRAMES``; ``told`` False: the sound has nothing to do with the lips."""
    opening = openings()
    sway = 4 * np.sin(np.arange(FRAMES) / 17)
    rois = np.stack([portrait(float(o), float(s)) for o, s in zip(opening, sway, strict=True)])
    still = np.array([[110, 30], [210, 30], [160, 40], [160, 100]], float)
    points = np.repeat(still[None], FRAMES, axis=0)
    height = 12 + 22 * opening
    corners = [np.stack([np.full(FRAMES, MOUTH_X + d), np.full(FRAMES, MOUTH_Y)], 1) for d in (-HALF_WIDTH, HALF_WIDTH)]
    lips = [np.stack([np.full(FRAMES, MOUTH_X), MOUTH_Y + side * height], 1) for side in (-1, 1)]
    points = np.concatenate([points, *(each[:, None] for each in (*corners, *lips))], axis=1)
    points[..., 0] += sway[:, None]
    code = np.stack([opening, np.square(opening)], axis=1)
    parts: dict[str, Any] = {
        "rois": rois,
        "landmarks": points.astype(np.float32),
        "still": np.arange(4),
        "lips": np.arange(4, 8),
        "mouth": ((code - code.mean(0)) / code.std(0)).astype(np.float32),
        "features": _features(opening if told else np.random.default_rng(9).random(FRAMES), versions),
        "held_out": (FRAMES - 40, FRAMES),
        "gap": 10,
    }
    return Pack(**{**parts, **changes})


def _features(
    heard: np.ndarray[tuple[int, ...], np.dtype[np.floating]], versions: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float16]]:
    """[V, N, 512]: the opening along one direction, and a little noise; each version has its own level."""
    rng = np.random.default_rng(6)
    direction = np.abs(rng.normal(size=FEATURE_DIM))
    clean = heard[:, None] * direction + 0.3
    return np.stack([(1 + 0.2 * v) * clean + 0.05 * rng.random(clean.shape) for v in range(versions)]).astype(
        np.float16
    )
