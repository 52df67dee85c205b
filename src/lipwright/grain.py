"""The skin's own grain: pores, stubble, noise. A network draws it too smooth; the frame it is drawn into has it.

A generator that has learnt from minutes of film says the mean of what it is unsure of, and where each pore lies is the
first thing it is unsure of. The template knows: the same skin, in the same light, a few pixels away. So its fine
structure is moved along with jaw and cheeks (optical flow between both pictures without their grain) and added where
the new picture lacks it. Lips, teeth and folds, which the template shows in another place, get none of it.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from lipwright.contract import CROP_SIZE, FloatArray, UInt8Array

Plane = cv2.typing.MatLike

#: Grain is finer than a Gaussian of so many pixels of a crop, and moves the brightness by at most so many levels.
_FINEST, _MOST = 2.0, 8.0
#: Side of the small pictures in which skin is compared; pixels of them over which motion and likeness are made even.
_SIDE, _MOTION_EVEN, _EVEN = 144, 13, 11
#: How far around a pixel of a small picture its surroundings reach: what differs from them is an edge.
_AROUND = 5
#: Levels between which structure becomes too strong to be grain (root mean square), both pictures too different to be
#: the same skin, and edges too strong to be skin: from the second on nothing of it is added any more.
_STRUCTURE, _DIFFERENT, _EDGE = (10.0, 16.0), (6.0, 12.0), (1.5, 3.5)
#: Sides of the squares that are kept are multiples of it.
_STEP = 256
#: Variance that rounding to whole levels makes of nothing, and a little more.
_NOTHING = 0.25


def missing_grain(piece: UInt8Array, drawn: UInt8Array) -> FloatArray:
    """What to add to the brightness of a newly drawn rect so that its skin is as fine as the frame's own.

    Args:
        piece: uint8 [h, w, 3] BGR, the rect as it is in the frame.
        drawn: uint8 [h, w, 3] BGR, the same rect with the new mouth.

    Returns:
        float32 [h, w] levels, at most 8 either way.
    """
    height, width = piece.shape[:2]
    (own, own_fine), (new, new_fine) = _split(piece), _split(drawn)
    flow = _flow(new, own)
    scale = np.array((width, height), np.float32) / _SIDE
    own_fine = _moved(own_fine, cv2.resize(flow * scale, (width, height)))
    share = _same_skin(_moved(own, flow), new) * _lacking(own_fine, new_fine)
    return np.multiply(cv2.resize(share, (width, height)), np.clip(own_fine, -_MOST, _MOST), dtype=np.float32)


def _split(picture: UInt8Array) -> tuple[Plane, Plane]:
    """Brightness without grain, uint8 [_SIDE, _SIDE], and the grain, float32 [h, w]."""
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    sigma = _FINEST * picture.shape[0] / CROP_SIZE
    wide = 2 * int(2 * sigma) + 1  # two standard deviations; OpenCV's own choice is three, and twice the time
    smooth = cv2.GaussianBlur(grey, (wide, wide), sigma)
    return cv2.resize(smooth, (_SIDE, _SIDE)), np.subtract(grey, smooth, dtype=np.float32)


def _flow(new: Plane, own: Plane) -> Plane:
    """[_SIDE, _SIDE, 2] how far right and down in ``own`` lies what is at each pixel of ``new``.

    Dense inverse search (Kroeger et al. 2016, arXiv:1603.03590).
    """
    # One for each call: it keeps pictures in itself, and frames are finished by several threads.
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow = finder.calc(new, own, np.zeros((_SIDE, _SIDE, 2), np.float32))
    return cv2.blur(flow, (_MOTION_EVEN, _MOTION_EVEN))


def _places(width: int, height: int) -> Plane:
    """[h, w, 2] every pixel's own x and y."""
    return _many_places(-(-max(width, height) // _STEP) * _STEP)[:height, :width]


@lru_cache(maxsize=2)
def _many_places(side: int) -> Plane:
    """The same for a square: rects of many sizes share it."""
    return np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=2).astype(np.float32)


def _moved(plane: Plane, flow: Plane) -> Plane:
    """[h, w] with what ``flow`` [h, w, 2] finds at each pixel."""
    where = cv2.add(flow, _places(flow.shape[1], flow.shape[0]))
    # The stub does not know that x and y may come in one map.
    return cv2.remap(plane, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload, no-any-return]


def _same_skin(own: Plane, new: Plane) -> Plane:
    """[_SIDE, _SIDE] 0..1 how surely both pictures without their grain show the same even skin."""
    edges = np.maximum(_edges(own), _edges(new))
    return _fall(_around(cv2.absdiff(own, new)), _DIFFERENT) * _fall(_around(edges), _EDGE)


def _edges(smooth: Plane) -> Plane:
    return cv2.absdiff(smooth, cv2.blur(smooth, (_AROUND, _AROUND)))


def _around(plane: Plane) -> Plane:
    return cv2.blur(plane.astype(np.float32), (_AROUND, _AROUND))


def _lacking(own_fine: Plane, new_fine: Plane) -> Plane:
    """[_SIDE, _SIDE] 0..1 how much of the frame's grain makes up for what the new picture lacks."""
    there, drawn = _power(own_fine), _power(new_fine)
    # Grains that have nothing to do with each other add up by their variances.
    lacking = np.sqrt(np.clip(1 - (drawn + _NOTHING) / (there + _NOTHING), 0, 1))
    return np.asarray(lacking * _fall(np.sqrt(there), _STRUCTURE))


def _power(fine: Plane) -> Plane:
    """[_SIDE, _SIDE] mean square of [h, w] around each pixel; a sample of it would miss what repeats, such as cloth."""
    wide = tuple(round(_EVEN * side / _SIDE) for side in fine.shape[::-1])
    mean = cv2.resize(cv2.blur(fine * fine, wide), (_SIDE, _SIDE), interpolation=cv2.INTER_NEAREST)
    return np.maximum(mean, 0)  # running sums end a little below


def _fall(levels: Plane, ends: tuple[float, float]) -> Plane:
    """1 up to the first end, 0 from the second on, straight between."""
    return np.asarray(np.clip((ends[1] - levels) / (ends[1] - ends[0]), 0, 1))
