"""What a picture looks like: tiny copies of it, and how sharp, how bright and how red-lipped a face is."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Self

import cv2
import numpy as np

from lipwright.contract import FloatArray, UInt8Array
from lipwright.face import INNER_LIPS, LIPS, OUTER_LIPS, mouth_bounds

#: Height and width of a thumbnail, in which scene cuts are seen.
THUMB_SHAPE = (18, 32)
#: The inside of a face, from brows to lower lip: no hair, no background.
_INSIDE = (*LIPS, 33, 263, 105, 334, 50, 280)
#: Width to which the inside of a face is brought before its detail is measured: about what the generator sees of it.
_DETAIL_WIDTH = 200
_LIP_RINGS = (OUTER_LIPS, INNER_LIPS)
#: What is cut out around the lips, as a share of their width, and the width to which it is brought.
_MOUTH_MARGIN = 0.35
_MOUTH_WIDTH = 96
#: Mean level to which it is brought.
_MOUTH_LEVEL = 130.0
#: Grey level from which skin is burnt out.
_BURNT = 245


@dataclass(frozen=True, slots=True)
class Looks:
    """How a face is shown."""

    sharpness: float
    """Fine detail over coarse detail; halves when the picture is blurred a little."""
    burnt: float
    """Share of the face's pixels that are burnt out, 0..1."""
    brightness: float
    """Median brightness of the face, 0..255."""
    lip_redness: float
    """How much redder the lips are than the skin around them (a of CIE Lab): 6 to 15 on four films, whose speech never
    takes more than two fifths of it; a hand, a cup or a microphone before the mouth leaves about 0
    (tools.film_thresholds)."""

    @classmethod
    def of(cls, frame: UInt8Array, landmarks: FloatArray) -> Self:
        """Look at the face with these landmarks [468, 3] in a picture [H, W, 3] BGR."""
        grey = cv2.cvtColor(_inside(frame, landmarks), cv2.COLOR_BGR2GRAY)
        burnt, brightness = float(np.mean(grey >= _BURNT)), float(np.median(grey))
        return cls(_sharpness(np.asarray(grey, np.float32)), burnt, brightness, _lip_redness(frame, landmarks))

    def values(self) -> tuple[float, ...]:
        """The fields in order."""
        return astuple(self)


def _inside(frame: UInt8Array, landmarks: FloatArray) -> UInt8Array:
    """The part of the picture around brows, eyes, nose and lips; at least one pixel."""
    height, width = frame.shape[:2]
    points = landmarks[list(_INSIDE), :2]
    x1, y1 = np.clip(np.floor(points.min(0)), 0, [width - 1, height - 1]).astype(int)
    x2, y2 = np.clip(np.ceil(points.max(0)), [x1 + 1, y1 + 1], [width, height]).astype(int)
    return frame[y1:y2, x1:x2]


def _sharpness(grey: FloatArray) -> float:
    """Root mean square of the finest details over that of four times coarser ones."""
    scale = _DETAIL_WIDTH / grey.shape[1]
    size = (_DETAIL_WIDTH, max(8, round(grey.shape[0] * scale)))
    same = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    first, second, third = (cv2.GaussianBlur(same, (0, 0), sigma) for sigma in (1.0, 2.0, 4.0))
    return float(np.std(same - first) / (np.std(second - third) + 0.5))


def _lip_redness(frame: UInt8Array, landmarks: FloatArray) -> float:
    """Mean a of the lips less that of a ring of skin around them; NaN where they lie outside the picture."""
    height, width = frame.shape[:2]
    x1, y1, x2, y2 = mouth_bounds(landmarks)
    margin = _MOUTH_MARGIN * (x2 - x1)
    left, top = max(0, int(x1 - margin)), max(0, int(y1 - margin))
    part = frame[top : min(height, int(y2 + margin) + 1), left : min(width, int(x2 + margin) + 1)]
    if 0 in part.shape:
        return float("nan")
    scale = _MOUTH_WIDTH / part.shape[1]
    small = cv2.resize(part, (_MOUTH_WIDTH, max(1, round(part.shape[0] * scale))), interpolation=cv2.INTER_AREA)
    # Brought to one brightness: in the dark all colours are pale.
    bright = small.astype(np.float32) * (_MOUTH_LEVEL / 255 / max(1.0, float(small.mean())))
    red = cv2.cvtColor(np.minimum(bright, 1), cv2.COLOR_BGR2LAB)[..., 1]
    outer, inner = (_filled(landmarks[list(ring), :2], (left, top), scale, red.shape) for ring in _LIP_RINGS)
    # Between lips and skin there is a border that belongs to neither.
    skin = (cv2.dilate(outer, np.ones((25, 25))) > 0) & (cv2.dilate(outer, np.ones((9, 9))) == 0)
    lips = (outer > 0) & (inner == 0)
    return float(red[lips].mean() - red[skin].mean()) if lips.any() and skin.any() else float("nan")


def _filled(points: FloatArray, corner: tuple[int, int], scale: float, shape: tuple[int, ...]) -> UInt8Array:
    """A ring of points [K, 2] in the picture as a mask of the enlarged part that begins at ``corner``."""
    mask = np.zeros(shape, np.uint8)
    places = np.round((points - np.array(corner)) * scale).astype(np.int32)
    return np.asarray(cv2.fillPoly(mask, [places], [1]), np.uint8)


def thumbnail(frame: UInt8Array) -> UInt8Array:
    """A picture [H, W, 3] BGR as [18, 32, 3]."""
    return np.asarray(cv2.resize(frame, THUMB_SHAPE[::-1], interpolation=cv2.INTER_AREA), np.uint8)
