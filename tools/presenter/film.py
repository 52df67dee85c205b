"""The presenter's film with its truth: pictures, landmarks, phones, rects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lipwright import patch
from lipwright.audio.decode import hear
from lipwright.contract import BORDER, CROP_SIZE, ROI_SIZE, FloatArray, Rect, UInt8Array
from lipwright.video import VideoReader
from tools.speech.articulation import tracks
from tools.speech.phones import Phone, shapes_of_cmu

#: Landmarks (68-point scheme) that speech does not move: temples, nose, eyes.
STILL = np.r_[0:3, 14:17, 27:48]
LIPS = np.r_[48:68]
#: Temple, temple, lower bridge of the nose: they span the rect.
_LEFT, _RIGHT, _TOP = 0, 16, 28
#: Standard deviations, in frames, of the smoothing of the rect's place and size.
_PLACE_SIGMA, _SIZE_SIGMA = 2.0, 6.0


@dataclass(frozen=True)
class Film:
    """A film made by the presenter's tools, and what is known about it. N frames."""

    path: Path
    landmarks: FloatArray
    """[N, 68, 2] pixels."""
    lip_gap: FloatArray
    """[N] cm in space."""
    phones: list[Phone]

    @classmethod
    def open(cls, path: Path) -> Film:
        """NAME.mp4 with NAME_truth.npz and NAME_truth.json beside it."""
        stem = path.with_suffix("")
        with np.load(f"{stem}_truth.npz") as truth:
            landmarks, gap = truth["landmarks68"], truth["lip_gap"]
        spoken = json.loads(Path(f"{stem}_truth.json").read_text(encoding="utf-8"))["phones"]
        phones = [Phone(name, start, end, shapes_of_cmu(name)) for name, start, end in spoken]
        return cls(path, landmarks, gap, phones)

    @property
    def mouth(self) -> FloatArray:
        """[N, 14] articulation tracks: the mouth code."""
        return tracks(self.phones, len(self.landmarks))

    def rects(self) -> npt.NDArray[np.int32]:
        """[N, 4] squares from temple to temple, from the lower bridge of the nose downwards, smooth over time."""
        points = self.landmarks
        x1 = np.rint(_smooth(points[:, _LEFT, 0], _PLACE_SIGMA))
        y1 = np.rint(_smooth(points[:, _TOP, 1], _PLACE_SIGMA))
        side = np.rint(_smooth(points[:, _RIGHT, 0] - points[:, _LEFT, 0], _SIZE_SIGMA))
        return np.stack([x1, y1, x1 + side, y1 + side], axis=1).astype(np.int32)

    def frames(self) -> Iterator[UInt8Array]:
        """The pictures [H, W, 3] BGR."""
        with VideoReader(self.path) as reader:
            yield from reader

    def rois(self) -> UInt8Array:
        """[N, 320, 320, 3] BGR."""
        found = np.empty((len(self.landmarks), ROI_SIZE, ROI_SIZE, 3), np.uint8)
        for k, (frame, rect) in enumerate(zip(self.frames(), self.rects().tolist(), strict=True)):
            found[k] = patch.roi(patch.crop(frame, Rect(*rect), "auto"))
        return found

    def roi_landmarks(self) -> FloatArray:
        """[N, 68, 2] in ROI pixels."""
        rects = self.rects().astype(np.float32)
        scale = CROP_SIZE / (rects[:, 2] - rects[:, 0])
        return np.asarray((self.landmarks - rects[:, None, :2]) * scale[:, None, None] - BORDER, dtype=np.float32)

    def sound(self) -> FloatArray:
        """[n] 16 kHz mono."""
        return hear(self.path)


def _smooth(values: FloatArray, sigma: float) -> FloatArray:
    """Gaussian along time, ends repeated: no lag."""
    radius = int(4 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    padded = np.pad(values, radius, mode="edge")
    return np.asarray(np.convolve(padded, kernel / kernel.sum(), "valid"), dtype=np.float32)
