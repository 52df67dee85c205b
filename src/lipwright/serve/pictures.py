"""Finished pictures in the form that goes over the wire: JPEG, or H.264 access units."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import cv2
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace

from lipwright.contract import FPS, UInt8Array
from lipwright.picture import Picture

JPEG_QUALITY = 85
#: A key picture at least every two seconds, for those who join or lost one.
KEY_INTERVAL = 2 * FPS
#: Constant quality of x264: 0 lossless .. 51 worst.
H264_CRF = 23
_SPS = 7


@dataclass(frozen=True, slots=True)
class Unit:
    """One compressed picture."""

    data: bytes
    key: bool
    """Whether it can be decoded without those before it."""


def jpeg(image: UInt8Array, quality: int = JPEG_QUALITY) -> bytes:
    """[H, W, 3] BGR as JPEG; quality 1..100."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


class JpegEncoder:
    """Every picture is its own key picture."""

    def __init__(self, quality: int = JPEG_QUALITY) -> None:
        self._quality = quality

    def encode(self, picture: Picture) -> Unit:
        """A picture of any size."""
        return Unit(jpeg(picture.bgr, self._quality), key=True)


class H264Encoder:
    """Baseline H.264 in Annex B, one access unit a picture without delay, parameter sets before every key picture.

    Args:
        width: of the pictures, pixels; an odd last column is doubled.
        height: likewise.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width + width % 2, height + height % 2
        context: Any = av.CodecContext.create("libx264", "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height = self.width, self.height
        context.pix_fmt = "yuv420p"
        context.framerate, context.time_base = Fraction(FPS), Fraction(1, FPS)
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.gop_size = KEY_INTERVAL
        # Sliced threads would put many slices into a unit, which some decoders refuse; one thread takes 3 ms at 720p.
        context.thread_count = 1
        context.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "profile": "baseline",
            "crf": str(H264_CRF),
            "x264-params": "repeat-headers=1:annexb=1",
        }
        self._context = context
        self._pictures = 0
        self.codec: str | None = None
        """What WebCodecs calls it (``avc1.42c01f``); known after the first picture."""

    def encode(self, picture: Picture, key: bool = False) -> Unit:
        """A picture of the encoder's size; ``key`` asks for a key picture."""
        frame = av.VideoFrame.from_ndarray(picture.yuv, format="yuv420p")
        frame.pts = self._pictures
        if key:
            frame.pict_type = PictureType.I
        self._pictures += 1
        packets = self._context.encode(frame)
        data = b"".join(bytes(packet) for packet in packets)
        self.codec = self.codec or _codec(data)
        return Unit(data, any(packet.is_keyframe for packet in packets))


def _codec(data: bytes) -> str | None:
    """Profile, constraints and level of the first sequence parameter set (ISO 14496-15, the codecs parameter)."""
    start = data.find(b"\x00\x00\x01")
    while start >= 0:
        unit = data[start + 3 : start + 7]
        if len(unit) == 4 and unit[0] & 31 == _SPS:
            return f"avc1.{unit[1:].hex()}"
        start = data.find(b"\x00\x00\x01", start + 3)
    return None
