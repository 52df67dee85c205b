"""A picture that stays in the colours it was filmed in until somebody asks for others, and the frame it belongs to.

Films are YUV with colour at half resolution. A frame of an avatar comes from such a film, is changed in one place, and
goes into another film; to turn all of it into BGR and back would cost more than everything but the network, and would
blur the colours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from lipwright.contract import FloatArray, Rect, UInt8Array

#: Without exact rounding and full chroma every pass through YUV darkens a picture by two levels.
EXACT_COLOUR = (
    Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)
#: BT.709: share of blue, green and red in the brightness.
_LUMA = np.array([0.0722, 0.7152, 0.2126])
#: Steps of Y and of U and V for the whole way from black to white or from one colour to its opposite.
_LUMA_STEPS, _CHROMA_STEPS = 219 / 255, 224 / 255
#: Pixels around a piece of a picture that its colours are interpolated from; even.
_MARGIN = 4


class Picture(Protocol):
    """One picture of H x W pixels, readable in both kinds of colour; it never changes."""

    @property
    def bgr(self) -> UInt8Array:
        """uint8 [H, W, 3] BGR; the same array every time."""

    @property
    def yuv(self) -> UInt8Array:
        """I420, uint8 [H * 3 / 2, W]: Y, then U and V at half size; BT.709, video range. H and W are even."""

    def piece(self, rect: Rect) -> UInt8Array:
        """The rect of it: uint8 [h, w, 3] BGR."""

    def changed(self, rect: Rect, change: FloatArray) -> Picture:
        """A new picture: the rect's colours moved by ``change`` [h, w, 3] BGR levels, rounded.

        Not a single value outside the rect changes in the picture's own colours. YUV stores colour for 2 x 2 pixels:
        where only some of them lie in the rect, their colour stays.
        """


class BgrPicture:
    """A picture that was made or read as BGR. See ``Picture``."""

    def __init__(self, bgr: UInt8Array) -> None:
        """``bgr`` uint8 [H, W, 3] belongs to the picture from now on."""
        self.bgr = bgr

    @property
    def yuv(self) -> UInt8Array:
        """I420, uint8 [H * 3 / 2, W], BT.709 and video range; of odd sizes the last row or column is doubled."""
        height, width = self.bgr.shape[:2]
        image = self.bgr
        if height % 2 or width % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
        converted = VideoReformatter().reformat(
            frame,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=EXACT_COLOUR,
        )
        return np.asarray(converted.to_ndarray(), np.uint8)

    def piece(self, rect: Rect) -> UInt8Array:
        """BGR uint8 [h, w, 3] of the rect: a view."""
        return self.bgr[rect.y1 : rect.y2, rect.x1 : rect.x2]

    def changed(self, rect: Rect, change: FloatArray) -> BgrPicture:
        """A new picture with ``change``, float32 [h, w, 3] in levels of BGR, added in the rect."""
        result = self.bgr.copy()
        _move(result[rect.y1 : rect.y2, rect.x1 : rect.x2], change)
        return BgrPicture(result)


class YuvPicture:
    """A picture that was decoded from a film in BT.709 and video range. See ``Picture``."""

    def __init__(self, yuv: UInt8Array) -> None:
        """``yuv``: I420, uint8 [H * 3 / 2, W], H and W even."""
        self.yuv = yuv
        self._height, self._width = yuv.shape[0] * 2 // 3, yuv.shape[1]

    @cached_property
    def bgr(self) -> UInt8Array:
        """The whole picture, BGR uint8 [H, W, 3]; converted once."""
        return _to_bgr(self.yuv)

    def piece(self, rect: Rect) -> UInt8Array:
        """BGR uint8 [h, w, 3] as the whole picture shows it: colours are interpolated across the rect's border."""
        x1, y1 = _even(max(rect.x1 - _MARGIN, 0)), _even(max(rect.y1 - _MARGIN, 0))
        x2, y2 = _even(min(rect.x2 + _MARGIN + 1, self._width)), _even(min(rect.y2 + _MARGIN + 1, self._height))
        luma, *chroma = _planes(self.yuv)
        cut = [luma[y1:y2, x1:x2], *(plane[y1 // 2 : y2 // 2, x1 // 2 : x2 // 2] for plane in chroma)]
        around = _to_bgr(np.concatenate([plane.ravel() for plane in cut]).reshape(-1, x2 - x1))
        return around[rect.y1 - y1 : rect.y2 - y1, rect.x1 - x1 : rect.x2 - x1]

    def changed(self, rect: Rect, change: FloatArray) -> YuvPicture:
        """A new picture with ``change``, float32 [h, w, 3] in levels of BGR, added in the rect, in YUV."""
        result = self.yuv.copy()
        luma, *chroma = _planes(result)
        steps = cv2.transform(change, _TO_YUV)
        _move(luma[rect.y1 : rect.y2, rect.x1 : rect.x2], steps[..., 0])
        # Only blocks of 2 x 2 pixels that lie in the rect as a whole.
        x1, y1, x2, y2 = (rect.x1 + 1) // 2, (rect.y1 + 1) // 2, rect.x2 // 2, rect.y2 // 2
        blocks = steps[2 * y1 - rect.y1 : 2 * y2 - rect.y1, 2 * x1 - rect.x1 : 2 * x2 - rect.x1, 1:]
        half = cv2.resize(blocks, (x2 - x1, y2 - y1), interpolation=cv2.INTER_AREA)
        for plane, channel in zip(chroma, (0, 1), strict=True):
            _move(plane[y1:y2, x1:x2], half[..., channel])
        return YuvPicture(result)


def of_frame(frame: av.VideoFrame) -> YuvPicture | None:
    """A decoded frame that already is what ``YuvPicture`` holds; None for any other kind."""
    ours = (
        frame.format.name == "yuv420p"
        and frame.colorspace == Colorspace.ITU709
        and frame.color_range == ColorRange.MPEG
        and frame.width % 2 == frame.height % 2 == 0
    )
    return YuvPicture(np.asarray(frame.to_ndarray(), np.uint8)) if ours else None


@dataclass(frozen=True, slots=True)
class Frame:
    """One finished video frame with its own 40 ms of sound."""

    index: int
    """0-based; it is shown at index / 25 seconds."""
    picture: Picture
    """What is seen."""
    samples: npt.NDArray[np.float32]
    """[n, channels] -1..1 at the user's own rate; n is rate / 25, less in the last frame."""

    @property
    def image(self) -> UInt8Array:
        """The picture as uint8 [H, W, 3] BGR; the same array every time."""
        return self.picture.bgr


def _to_yuv_matrix() -> npt.NDArray[np.float32]:
    """[3, 3]: change of blue, green, red to change of Y, U, V (ITU-R BT.709-6, 3.2 and 3.4, video range)."""
    blue, _, red = np.eye(3)
    u, v = (blue - _LUMA) / (2 * (1 - _LUMA[0])), (red - _LUMA) / (2 * (1 - _LUMA[2]))
    return np.stack([_LUMA * _LUMA_STEPS, u * _CHROMA_STEPS, v * _CHROMA_STEPS]).astype(np.float32)


_TO_YUV = _to_yuv_matrix()


def _planes(yuv: UInt8Array) -> tuple[UInt8Array, UInt8Array, UInt8Array]:
    """Views of Y [H, W], U and V [H / 2, W / 2]."""
    height, width = yuv.shape[0] * 2 // 3, yuv.shape[1]
    u, v = yuv[height:].reshape(2, height // 2, width // 2)
    return yuv[:height], u, v


def _to_bgr(yuv: UInt8Array) -> UInt8Array:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(yuv), format="yuv420p")
    converted = VideoReformatter().reformat(
        frame,
        format="bgr24",
        src_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.MPEG,
        interpolation=EXACT_COLOUR,
    )
    return np.asarray(converted.to_ndarray(), np.uint8)


def _even(value: int) -> int:
    return value // 2 * 2


def _move(target: UInt8Array, change: cv2.typing.MatLike) -> None:
    """Add ``change`` to uint8 values in place, rounded, not beyond 0 and 255."""
    np.clip(np.rint(target + change), 0, 255, out=target, casting="unsafe")
