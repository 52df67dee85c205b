"""Pictures of the synthetic presenter that speak: the mouth of `data/face/open.jpg` opens as far as a sound is loud."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from lipwright.audio.decode import SoundReader
from lipwright.avatar import builtin_sound
from lipwright.contract import SAMPLE_RATE, SAMPLES_PER_FRAME, FloatArray, UInt8Array
from lipwright.face import FaceFinder

ROOT = Path(__file__).parent.parent
SPEECH = builtin_sound()
#: Side of the pictures, and the grey behind them.
SIDE = 400
GREY = 110
STATES = 12
#: The mouth in open.jpg: its middle, and how far around it the picture is stretched.
MOUTH_X, MOUTH_Y = 307.0, 353.0
REACH_X, REACH_Y = 60.0, 34.0


def speech(frames: int, skip: float = 0.0) -> FloatArray:
    """[640 frames] 16 kHz mono of the built-in sentences, from ``skip`` seconds on, again and again."""
    with SoundReader(SPEECH) as reader:
        assert reader.rate == SAMPLE_RATE
        whole = np.concatenate(list(reader))[:, 0]
    start = round(skip * SAMPLE_RATE)
    return np.asarray(np.resize(np.roll(whole, -start), frames * SAMPLES_PER_FRAME), np.float32)


def openings(samples: FloatArray) -> npt.NDArray[np.float64]:
    """[640 N] samples to [N] how far lips open in each frame, 0..1: as far as its 40 ms are loud."""
    level = np.sqrt(np.mean(samples.reshape(-1, SAMPLES_PER_FRAME).astype(np.float64) ** 2, axis=1))
    return np.asarray(np.clip(level / np.percentile(level, 90), 0, 1) ** 0.7)


@cache
def _states() -> list[UInt8Array]:
    """[SIDE, SIDE, 3] BGR each, from nearly closed to wide open."""
    picture = cv2.imread(str(ROOT / "tests" / "data" / "face" / "open.jpg"))
    assert picture is not None
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    near = np.exp(-(((x - MOUTH_X) / REACH_X) ** 2) - ((y - MOUTH_Y) / REACH_Y) ** 2)
    states = []
    for factor in np.linspace(0.55, 1.3, STATES):
        source = (MOUTH_Y + (y - MOUTH_Y) * (1 + (1 / factor - 1) * near)).astype(np.float32)
        moved = cv2.remap(picture, x, source, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        states.append(np.asarray(cv2.resize(moved, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8))
    return states


def face(opening: float) -> UInt8Array:
    """[SIDE, SIDE, 3] BGR with the mouth open as far as 0..1 says."""
    return _states()[round(opening * (STATES - 1))].copy()


def at(picture: UInt8Array, dx: float, dy: float, scale: float = 1.0) -> UInt8Array:
    """The picture moved and scaled on grey, of the same size."""
    matrix = np.array([[scale, 0, dx], [0, scale, dy]], np.float32)
    size = (picture.shape[1], picture.shape[0])
    moved = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_AREA, borderValue=(GREY, GREY, GREY))
    return np.asarray(moved, np.uint8)


def with_hand(picture: UInt8Array, dy: float) -> UInt8Array:
    """Four fingers, the colour of the cheek, before the mouth; ``dy`` pixels further down."""
    scale = SIDE / 620
    skin = picture[round(300 * scale), round(240 * scale)].astype(float)
    covered = picture.copy()
    for finger in range(4):
        centre = (round((MOUTH_X + 36 * (finger - 1.5)) * scale), round((MOUTH_Y + 30) * scale + dy))
        axes = (round(20 * scale), round(75 * scale))
        cv2.ellipse(covered, centre, axes, 0, 0, 360, (skin * (0.9 + 0.04 * finger)).tolist(), -1)
        cv2.ellipse(covered, centre, axes, 0, 0, 360, (skin * 0.6).tolist(), 2)
    return np.asarray(cv2.GaussianBlur(covered, (0, 0), 0.7), np.uint8)


@cache
def _mesh(opening: float) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Landmarks of ``face(opening)`` and triangles between them, [T, 3] indices."""
    (found,) = FaceFinder().find(face(opening))
    points = found.landmarks[:, :2]
    division = cv2.Subdiv2D((0, 0, SIDE, SIDE))
    where = {}
    for index, (x, y) in enumerate(points.tolist()):
        division.insert((x, y))
        where[(round(x, 2), round(y, 2))] = index
    corners = np.asarray(division.getTriangleList()).reshape(-1, 3, 2)
    found_in = [[where.get((round(float(x), 2), round(float(y), 2)), -1) for x, y in triangle] for triangle in corners]
    return found.landmarks, np.array([t for t in found_in if min(t) >= 0])


def turned(opening: float, degrees: float) -> UInt8Array:
    """``face(opening)`` turned to the side about the axis of the head, drawn triangle by triangle, far ones first."""
    picture, (points, triangles) = face(opening), _mesh(opening)
    middle = points.mean(0)
    middle[2] = points[:, 2].max()
    angle = np.radians(degrees)
    x, y, z = (points - middle).T
    moved = np.stack([x * np.cos(angle) - z * np.sin(angle), y, x * np.sin(angle) + z * np.cos(angle)], 1) + middle
    canvas = np.full_like(picture, GREY)
    for triangle in sorted(triangles.tolist(), key=lambda t: -moved[t, 2].mean()):
        _draw(canvas, picture, points[triangle, :2], moved[triangle, :2])
    return canvas


def _draw(canvas: UInt8Array, picture: UInt8Array, source: FloatArray, target: npt.NDArray[np.floating]) -> None:
    """One triangle of ``picture`` at its new place on ``canvas``."""
    low = np.clip(np.floor(target.min(0)).astype(int) - 1, 0, SIDE - 2)
    high = np.clip(np.ceil(target.max(0)).astype(int) + 2, low + 1, SIDE)
    matrix = cv2.getAffineTransform(source.astype(np.float32), (target - low).astype(np.float32))
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    part = cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    mask = np.zeros(size[::-1], np.uint8)
    cv2.fillConvexPoly(mask, np.round(target - low).astype(np.int32), 1)
    region = canvas[low[1] : high[1], low[0] : high[0]]
    region[mask > 0] = part[mask > 0]
