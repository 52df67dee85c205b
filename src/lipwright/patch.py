"""Cut the face out of a frame, turn it into the network's input, put the answer back.

The only module that knows how 328, 320, 4 and the mask are used. Pictures are uint8 BGR [H, W, 3]; frames are never
changed in place.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import cv2
import numpy as np

from lipwright.contract import BORDER, CROP_SIZE, MASK_XYWH, ROI_SIZE, FloatArray, Rect, UInt8Array

#: ``cubic`` both ways, as the family's inference does; ``auto``: area when shrinking, cubic when enlarging.
Resize = Literal["cubic", "auto"]

#: Pixels of the ROI over which the new picture fades into the template's own.
FEATHER = 28
#: Levels (of 255) by which the colour of the new picture may be shifted to match its surroundings.
COLOUR_SHIFT = 6

_INNER = slice(BORDER, BORDER + ROI_SIZE)


def resize(image: UInt8Array, width: int, height: int, how: Resize) -> UInt8Array:
    """``image`` [h, w, 3] in another size."""
    shrinks = how == "auto" and width * height < image.shape[0] * image.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), dtype=np.uint8)


def crop(frame: UInt8Array, rect: Rect, how: Resize) -> UInt8Array:
    """The rect of ``frame`` [H, W, 3] as a crop [328, 328, 3]."""
    return resize(frame[rect.y1 : rect.y2, rect.x1 : rect.x2], CROP_SIZE, CROP_SIZE, how)


def roi(crop_image: UInt8Array) -> UInt8Array:
    """The ROI [320, 320, 3] of a crop: a view."""
    return crop_image[_INNER, _INNER]


def masked(roi_image: UInt8Array) -> UInt8Array:
    """A copy of the ROI with the mask drawn black over the mouth."""
    x, y, width, height = MASK_XYWH
    hidden = np.ascontiguousarray(roi_image.copy())
    cv2.rectangle(hidden, (x, y, width, height), (0, 0, 0), -1)
    return hidden


def to_input(reference: UInt8Array, target: UInt8Array) -> FloatArray:
    """Two ROIs [320, 320, 3] to the generator's input [6, 320, 320], 0..1.

    ``reference`` shows who it is; ``target`` is the picture to be redrawn, of which only the rim stays visible.
    """
    pair = np.concatenate([reference, masked(target)], axis=2)
    return np.ascontiguousarray(pair.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)


def from_output(output: FloatArray) -> UInt8Array:
    """The generator's output [3, 320, 320], 0..1, as an ROI [320, 320, 3], rounded."""
    picture = np.rint(np.clip(output, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(picture.transpose(1, 2, 0))


@cache
def _fade() -> FloatArray:
    """[320, 320, 1] share of the new picture: 0 at the ROI's border, 1 from ``FEATHER`` pixels inside it on."""
    inside = np.minimum(np.arange(ROI_SIZE), np.arange(ROI_SIZE)[::-1])
    ramp = np.clip(np.minimum.outer(inside, inside) / FEATHER, 0, 1)
    return (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)[..., None]


def blend(original: UInt8Array, prediction: UInt8Array) -> UInt8Array:
    """The new ROI with a border that cannot be seen: both pictures are ROIs [320, 320, 3].

    The colour of the new picture is shifted, by at most ``COLOUR_SHIFT`` levels, so that both agree on average in the
    ring along the border; within the ring it fades into the original. Speech does not move that ring.
    """
    fade = _fade()
    ring = (fade[..., 0] < 1)[..., None]
    count = ring.sum()
    difference = original.astype(np.float32) - prediction
    shift = np.clip((difference * ring).sum(axis=(0, 1)) / count, -COLOUR_SHIFT, COLOUR_SHIFT)
    blended = prediction + shift + (1 - fade) * (difference - shift)
    return np.asarray(np.rint(np.clip(blended, 0, 255)), dtype=np.uint8)


def paste(frame: UInt8Array, rect: Rect, crop_image: UInt8Array, prediction: UInt8Array, how: Resize) -> UInt8Array:
    """A copy of ``frame`` in which the rect shows ``prediction`` [320, 320, 3] inside the original crop.

    The crop's 4-pixel border keeps the frame's own picture. No pixel outside the rect changes.
    """
    drawn = crop_image.copy()
    drawn[_INNER, _INNER] = prediction
    result = frame.copy()
    result[rect.y1 : rect.y2, rect.x1 : rect.x2] = resize(drawn, rect.width, rect.height, how)
    return result
