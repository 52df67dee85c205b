"""Whether two sets of finished frames open the mouth alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import nan

import numpy as np
import numpy.typing as npt

from lipwright import patch
from lipwright.avatar import Avatar
from lipwright.check.limits import FACES_LOST
from lipwright.contract import Border, FloatArray, UInt8Array
from lipwright.face import FaceFinder, FaceTracker, lip_gap, meshes
from lipwright.picture import BgrPicture
from lipwright.quality import lip_gap_correlation
from lipwright.trial import Question, pictures


def plain_frame(
    avatar: Avatar, question: Question, picture: UInt8Array, output: FloatArray, border: Border = "soft"
) -> UInt8Array:
    """The finished frame [H, W, 3] of a network's output [3, 320, 320], by the plain path: whole pictures in BGR."""
    drawn, rect, how = patch.from_output(output), question.rect, avatar.manifest.resize
    if border == "exact":
        return patch.paste(picture, rect, question.crop, drawn, how)
    whole = BgrPicture(picture)
    return whole.changed(rect, patch.change(whole.piece(rect), question.crop, drawn, how)).bgr


def plain_frames(avatar: Avatar, asked: list[Question], outputs: Iterable[FloatArray]) -> Iterator[UInt8Array]:
    """The finished frames of all ``asked``, in their order; ``outputs`` [3, 320, 320] each."""
    seen = pictures(avatar, [question.frame for question in asked])
    for question, picture, output in zip(asked, seen, outputs, strict=True):
        yield plain_frame(avatar, question, picture, output)


class LipGaps:
    """Collects how far the lips are open, frame by frame."""

    def __init__(self) -> None:
        self._tracker = FaceTracker(FaceFinder())
        self._gaps: list[float] = []

    def add(self, frame: UInt8Array) -> None:
        """The next frame [H, W, 3] BGR."""
        face = self._tracker.follow(frame)
        self._gaps.append(nan if face is None else float(lip_gap(face.landmarks)))

    def result(self) -> npt.NDArray[np.float64]:
        """[N] lip gap over face height; NaN where no face was found."""
        return np.array(self._gaps)


def lip_gaps(frames: Iterable[UInt8Array]) -> npt.NDArray[np.float64]:
    """[N] lip gap over face height in each frame; NaN where no face is found."""
    return lip_gap(meshes(frames))


def likeness(gaps: npt.NDArray[np.float64], expected: npt.NDArray[np.float64]) -> float:
    """Pearson's r of two series of lip gaps; NaN where it cannot be measured.

    0 where the expected frames show faces and the others have lost more than a few of them.
    """
    there = np.isfinite(expected)
    if there.any() and float(np.isnan(gaps[there]).mean()) > FACES_LOST:
        return 0.0
    return lip_gap_correlation(gaps, expected, max_lag=0).r
