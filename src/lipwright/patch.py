"""Cut the face out of a frame, turn it into the network's input, put the answer back.

The only module that knows how 328, 320, 4 and the mask are used. Pictures are uint8 BGR [H, W, 3]; frames are never
changed in place.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from lipwright.contract import BORDER, CROP_SIZE, MASK_XYWH, ROI_SIZE, FloatArray, Rect, UInt8Array
from lipwright.grain import missing_grain

#: ``cubic`` both ways, as the family's inference does; ``auto``: area when shrinking, cubic when enlarging.
Resize = Literal["cubic", "auto"]

#: Distances from the ROI's top, sides and bottom, in pixels, between which the new picture takes over: the tip of the
#: nose lies at about row 55 of an ROI cut by the family's rule, the upper lip at 115, the chin at 250.
FADE_TOP = (16, 84)
FADE_SIDE = (10, 62)
FADE_BOTTOM = (8, 44)
#: Levels (of 255) by which the colour of the new picture may be shifted to match its surroundings.
COLOUR_SHIFT = 6

_INNER = slice(BORDER, BORDER + ROI_SIZE)


def resize(image: UInt8Array, width: int, height: int, how: Resize) -> UInt8Array:
    """``image`` uint8 [h, w, 3] as uint8 [height, width, 3]; ``how`` as the manifest names it."""
    shrinks = how == "auto" and width * height < image.shape[0] * image.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), dtype=np.uint8)


def crop(frame: UInt8Array, rect: Rect, how: Resize) -> UInt8Array:
    """The rect of ``frame`` uint8 [H, W, 3] as a crop uint8 [328, 328, 3]."""
    return crop_of(frame[rect.y1 : rect.y2, rect.x1 : rect.x2], how)


def crop_of(piece: UInt8Array, how: Resize) -> UInt8Array:
    """A rect that was cut out already, uint8 [h, w, 3], as a crop uint8 [328, 328, 3]."""
    return resize(piece, CROP_SIZE, CROP_SIZE, how)


def roi(crop_image: UInt8Array) -> UInt8Array:
    """The ROI uint8 [320, 320, 3] of a crop [328, 328, 3]: a view."""
    return crop_image[_INNER, _INNER]


def masked(roi_image: UInt8Array) -> UInt8Array:
    """A copy of the ROI, uint8 [320, 320, 3], with the mask drawn black over the mouth."""
    x, y, width, height = MASK_XYWH
    hidden = np.ascontiguousarray(roi_image.copy())
    cv2.rectangle(hidden, (x, y, width, height), (0, 0, 0), -1)
    return hidden


@cache
def visible() -> FloatArray:
    """float32 [320, 320]: 1 where the mask leaves the ROI as it is, 0 under it."""
    return masked(np.ones((ROI_SIZE, ROI_SIZE, 3), np.uint8))[..., 0].astype(np.float32)


def to_input(reference: UInt8Array, target: UInt8Array) -> FloatArray:
    """Two ROIs [320, 320, 3] to the generator's input [6, 320, 320], 0..1.

    ``reference`` shows who it is; ``target`` is the picture to be redrawn, of which only the rim stays visible.
    """
    pair = np.concatenate([reference, masked(target)], axis=2)
    return np.ascontiguousarray(pair.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)


def to_inputs(rois: UInt8Array) -> FloatArray:
    """ROIs uint8 [B, 320, 320, 3], each its own reference, to inputs float32 [B, 6, 320, 320], 0..1, as `to_input`."""
    inputs = np.empty((len(rois), 6, ROI_SIZE, ROI_SIZE), np.float32)
    np.divide(rois.transpose(0, 3, 1, 2), np.float32(255), out=inputs[:, :3])
    np.multiply(inputs[:, :3], visible(), out=inputs[:, 3:])
    return inputs


def from_output(output: FloatArray) -> UInt8Array:
    """The generator's output [3, 320, 320], 0..1, as an ROI [320, 320, 3], rounded."""
    roi_image: UInt8Array = from_outputs(output[np.newaxis])[0]
    return roi_image


def from_outputs(outputs: FloatArray) -> UInt8Array:
    """Outputs float32 [B, 3, 320, 320], 0..1, as ROIs uint8 [B, 320, 320, 3], rounded."""
    levels = np.clip(outputs, 0, 1)
    levels *= 255
    np.rint(levels, out=levels)
    return np.ascontiguousarray(levels.transpose(0, 2, 3, 1), dtype=np.uint8)


@cache
def _fade() -> FloatArray:
    """[320, 320, 1] share of the new picture: 0 along the ROI's border, 1 where speech moves the face."""
    from_start = np.arange(ROI_SIZE)
    down, up = _ramp(from_start, FADE_TOP), _ramp(from_start[::-1], FADE_BOTTOM)
    across = np.minimum(_ramp(from_start, FADE_SIDE), _ramp(from_start[::-1], FADE_SIDE))
    return np.outer(np.minimum(down, up), across).astype(np.float32)[..., None]


def _ramp(distance: npt.NDArray[np.int_], fade: tuple[int, int]) -> npt.NDArray[np.float64]:
    """0 up to the first distance of ``fade``, 1 from the second on, smooth between."""
    part = np.clip((distance - fade[0]) / (fade[1] - fade[0]), 0, 1)
    return np.asarray(part * part * (3 - 2 * part))


@lru_cache(maxsize=8)
def _fade_in_rect(width: int, height: int) -> FloatArray:
    """The same for a rect of this size and all its colours: [h, w, 3]."""
    whole = np.zeros((CROP_SIZE, CROP_SIZE), np.float32)
    whole[_INNER, _INNER] = _fade()[..., 0]
    return _three(cv2.resize(whole, (width, height), interpolation=cv2.INTER_LINEAR))


@cache
def _ring() -> UInt8Array:
    """[320, 320] 255 where both pictures are mixed, else 0."""
    ring = ((_fade() > 0) & (_fade() < 1))[..., 0]
    return np.asarray(ring * 255, np.uint8)


def change(piece: UInt8Array, crop_image: UInt8Array, prediction: UInt8Array, how: Resize) -> FloatArray:
    """What to add to a rect, [h, w, 3] levels, so that it shows the new ROI and neither border nor skin gives it away.

    Nose, cheeks and collar stay the rect's own; mouth, jaw and chin are the new picture's; between them one fades into
    the other. Before that the colour of the new picture is shifted, by at most ``COLOUR_SHIFT`` levels, so that both
    agree on average where they meet, and skin that it has drawn too smooth gets the rect's own grain (`grain`).

    Args:
        piece: [h, w, 3] the rect as it is in the frame.
        crop_image: [328, 328, 3] its crop.
        prediction: [320, 320, 3] the new ROI.
        how: filter between crop and rect.
    """
    difference = np.subtract(prediction, roi(crop_image), dtype=np.float32)
    shift = np.clip(cv2.mean(difference, _ring()), -COLOUR_SHIFT, COLOUR_SHIFT)
    height, width = piece.shape[:2]
    drawn = _in_rect(crop_image, prediction, width, height, how)
    # OpenCV's sums: numpy's take three times as long where one side has fewer channels.
    recoloured = cv2.subtract(cv2.subtract(drawn, piece, dtype=cv2.CV_32F), shift)
    result = cv2.add(recoloured, _three(missing_grain(piece, drawn)))
    return np.asarray(cv2.multiply(result, _fade_in_rect(width, height)), np.float32)


def _three(plane: cv2.typing.MatLike) -> FloatArray:
    """[h, w] as three equal channels."""
    return np.asarray(cv2.merge((plane, plane, plane)), np.float32)


def _in_rect(crop_image: UInt8Array, prediction: UInt8Array, width: int, height: int, how: Resize) -> UInt8Array:
    """The crop with the new ROI in it, in the rect's size; the 4-pixel border is the frame's own picture."""
    drawn = crop_image.copy()
    drawn[_INNER, _INNER] = prediction
    return resize(drawn, width, height, how)


def paste(frame: UInt8Array, rect: Rect, crop_image: UInt8Array, prediction: UInt8Array, how: Resize) -> UInt8Array:
    """A copy of ``frame`` in which the rect shows ``prediction`` inside the original crop; all uint8 BGR.

    ``frame`` [H, W, 3], ``crop_image`` [328, 328, 3] as ``crop`` cut it, ``prediction`` [320, 320, 3].

    The crop's 4-pixel border keeps the frame's own picture. No pixel outside the rect changes.
    """
    result = frame.copy()
    drawn = _in_rect(crop_image, prediction, rect.width, rect.height, how)
    result[rect.y1 : rect.y2, rect.x1 : rect.x2] = drawn
    return result
