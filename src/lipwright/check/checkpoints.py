"""Several generators of one person, scored side by side on frames that no training has seen.

The reference is never the frame being scored: it is the training frame nearest in pose, moved onto the pose, as in
training; only the masked half comes from the held-back frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from lipwright import patch
from lipwright.audio.window import feature_windows
from lipwright.avatar import Avatar
from lipwright.check.lips import likeness, lip_gaps
from lipwright.check.sheets import labelled
from lipwright.contract import FPS, ROI_SIZE, FloatArray, Rect, UInt8Array
from lipwright.errors import AvatarError
from lipwright.face import MESH_POINTS, POSE_POINTS, lip_points, meshes
from lipwright.quality import mouth_box, psnr, sharpness_ratio, ssim
from lipwright.runtimes import Runtime, open_runtime
from lipwright.training.collect import HELD_OUT, roi_points
from lipwright.trial import crop_of, pictures

#: Frames scored, spread over the held-back part in a row, and training frames among which a reference is looked for.
SCORED = 60
CANDIDATES = 200
#: Training frames this near to the held-back part, a second, count as held back.
GAP = FPS
#: Lip gaps that follow the truth equally well to this much are ranked by the picture of the mouth.
SAME_R = 0.02
NEAREST = "nearest training frame"

Look = Callable[[int, int], None]
"""Hears how many of how many pictures are done."""


@dataclass(frozen=True, slots=True)
class Score:
    """What one generator reaches on the held-back frames."""

    name: str
    lip_gap_r: float
    """Lip gaps against the true ones; NaN where there are too few faces."""
    psnr: float
    """dB in the mouth box, mean over frames."""
    ssim: float
    sharpness: float
    """Fine detail in the mouth box against the truth's."""
    frames: int
    """Held-back frames scored."""

    @property
    def rank(self) -> tuple[float, float]:
        """Larger is better: first whether the lips follow, then the picture."""
        r = 0.0 if self.lip_gap_r != self.lip_gap_r else max(self.lip_gap_r, 0.0)
        return round(r / SAME_R), self.psnr


@dataclass(frozen=True)
class HeldBack:
    """The frames that are scored, and what is needed to draw them."""

    avatar: Avatar
    frames: list[int]
    """Template frames."""
    references: list[int]
    """For each the training frame it is drawn from."""
    truth: list[UInt8Array]
    """[H, W, 3] the frames as they were filmed."""
    shown: list[UInt8Array]
    """[320, 320, 3] the references, moved onto the pose."""
    nearest: list[UInt8Array]
    """[320, 320, 3] the references as they are."""
    boxes: list[Rect]
    """Mouth boxes in the whole frames."""
    windows: FloatArray
    """[n, 32, 16, 16] the film's own sound."""

    def crop(self, i: int) -> UInt8Array:
        """[328, 328, 3] of the i-th frame."""
        return crop_of(self.avatar, self.truth[i], self.frames[i])

    def inputs(self, i: int) -> tuple[FloatArray, FloatArray]:
        """What a generator is asked for the i-th frame: a batch of one."""
        image = patch.to_input(self.shown[i], patch.roi(self.crop(i)))
        return image[np.newaxis], self.windows[i][np.newaxis]

    def finished(self, rois: Iterable[UInt8Array]) -> list[UInt8Array]:
        """The frames with these ROIs in them, pasted as they are."""
        how = self.avatar.manifest.resize
        placed = zip(self.frames, self.truth, rois, strict=True)
        return [
            patch.paste(picture, self.avatar.rect(k), crop_of(self.avatar, picture, k), roi, how)
            for k, picture, roi in placed
        ]

    @cached_property
    def gaps(self) -> npt.NDArray[np.float64]:
        """The true lip gaps."""
        return lip_gaps(self.truth)


def hold_back(avatar: Avatar) -> HeldBack:
    """The last tenth of the film, or its first ``SCORED`` frames if it is longer.

    Raises:
        AvatarError: no features of the film's own sound, no usable frame to score or to draw from, or no face in them.
    """
    features = avatar.features
    if features is None:
        raise AvatarError(f"{avatar.path} has no features of its own sound to score with: see lipwright prepare")
    first = avatar.frame_count - round(avatar.frame_count * HELD_OUT)
    usable = np.flatnonzero(avatar.rects[:, 0] >= 0)
    scored = usable[usable >= first][:SCORED]
    training = usable[usable < first - GAP]
    if not len(scored) or not len(training):
        raise AvatarError(
            f"{avatar.path}: {avatar.frame_count} frames are too few to hold some back ({GAP} lie between the parts)"
        )
    training = training[np.unique(np.linspace(0, len(training) - 1, CANDIDATES).astype(int))]
    return _assemble(avatar, scored, training, features)


def _assemble(
    avatar: Avatar, scored: npt.NDArray[np.int64], training: npt.NDArray[np.int64], features: FloatArray
) -> HeldBack:
    everything = np.concatenate([training, scored])
    marks = dict(zip(everything.tolist(), _landmarks(avatar, everything.tolist()), strict=True))
    seen = [int(k) for k in scored if np.isfinite(marks[int(k)]).all()]
    known = [int(k) for k in training if np.isfinite(marks[int(k)]).all()]
    if not seen or not known:
        raise AvatarError(f"{avatar.path}: no face is found in its frames, so nothing can be said of its mouth")
    poses = {k: _pose(avatar, marks[k], k) for k in (*seen, *known)}
    references = [_nearest(poses, k, known) for k in seen]
    rois = _rois(avatar, sorted(set(references)))
    moved = [_moved(rois[j], poses[j], poses[k]) for k, j in zip(seen, references, strict=True)]
    heard = feature_windows(features, avatar.manifest.window.padding)
    truth = list(pictures(avatar, seen))
    boxes = [mouth_box(lip_points(marks[k]), *picture.shape[:2]) for k, picture in zip(seen, truth, strict=True)]
    return HeldBack(avatar, seen, references, truth, moved, [rois[j] for j in references], boxes, heard[seen])


def _landmarks(avatar: Avatar, frames: list[int]) -> list[FloatArray]:
    """[468, 2] landmarks in pixels of each frame, NaN without a face: the avatar's own where it has the face mesh."""
    landmarks = avatar.landmarks
    if landmarks is not None and landmarks.shape[1] == MESH_POINTS:
        return [landmarks[k, :, :2] for k in frames]
    return list(meshes(pictures(avatar, frames))[:, :, :2])


def _pose(avatar: Avatar, mesh: FloatArray, frame: int) -> FloatArray:
    """[P, 2] points that speech does not move, in ROI pixels."""
    points: FloatArray = roi_points(mesh[None, list(POSE_POINTS)], avatar.rects[frame : frame + 1])[0]
    return points


def _nearest(poses: dict[int, FloatArray], frame: int, among: list[int]) -> int:
    """Which of ``among`` is nearest in pose to ``frame``."""
    return min(among, key=lambda other: float(np.square(poses[other] - poses[frame]).mean()))


def _rois(avatar: Avatar, frames: list[int]) -> dict[int, UInt8Array]:
    seen = zip(frames, pictures(avatar, frames), strict=True)
    return {k: patch.roi(crop_of(avatar, picture, k)).copy() for k, picture in seen}


def _moved(roi: UInt8Array, source: FloatArray, target: FloatArray) -> UInt8Array:
    """The ROI moved, turned and scaled so that its points [P, 2] come to lie on the target's."""
    matrix, _ = cv2.estimateAffinePartial2D(source, target, method=cv2.LMEDS)
    if matrix is None:
        return roi
    size = (ROI_SIZE, ROI_SIZE)
    moved = cv2.warpAffine(roi, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


# --- scores ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contest:
    """Everything that was scored; the baseline is the last row."""

    scores: list[Score]
    best: str
    """Name of the best checkpoint."""
    sheet: UInt8Array
    """[H, W, 3] BGR: truth and every candidate at some moments."""
    references: list[int]
    """The training frames that were shown."""


def contest(avatar: Avatar, checkpoints: Sequence[Path], look: Look = lambda done, total: None) -> Contest:
    """Score every checkpoint (``.pth`` in torch, ``.onnx`` in onnxruntime, f32) and the nearest training frame.

    Raises:
        AvatarError: as ``hold_back``, or a checkpoint is damaged.
        ContractError: a checkpoint is another network.
        MissingExtraError: torch is not installed and there is a ``.pth``.
    """
    runtimes = [_open(path) for path in checkpoints]
    held = hold_back(avatar)
    drawn: dict[str, list[UInt8Array]] = {}
    total = len(checkpoints) * len(held.frames)
    for number, (path, runtime) in enumerate(zip(checkpoints, runtimes, strict=True)):
        rois = drawn[_name(path, checkpoints)] = []
        for i in range(len(held.frames)):
            rois.append(patch.from_output(np.nan_to_num(runtime.run(*held.inputs(i))[0])))
            look(number * len(held.frames) + i + 1, total)
    drawn[NEAREST] = held.nearest
    scores = [_score(held, name, rois) for name, rois in drawn.items()]
    best = max(scores[:-1], key=lambda score: score.rank)
    return Contest(scores, best.name, _sheet(held, drawn), held.references)


def _open(path: Path) -> Runtime:
    return open_runtime(path, "generator", "onnxruntime" if path.suffix == ".onnx" else "torch", "f32")


def _name(path: Path, among: Sequence[Path]) -> str:
    """The file's name, with its folder where two have the same."""
    return path.name if [other.name for other in among].count(path.name) == 1 else f"{path.parent.name}/{path.name}"


def _score(held: HeldBack, name: str, rois: list[UInt8Array]) -> Score:
    frames = held.finished(rois)
    both = list(zip(frames, held.truth, held.boxes, strict=True))
    return Score(
        name=name,
        lip_gap_r=likeness(lip_gaps(frames), held.gaps),
        psnr=float(np.mean([psnr(*pair) for pair in both])),
        ssim=float(np.mean([ssim(*pair) for pair in both])),
        sharpness=float(np.mean([sharpness_ratio(*pair) for pair in both])),
        frames=len(frames),
    )


def _sheet(held: HeldBack, drawn: dict[str, list[UInt8Array]]) -> UInt8Array:
    """A row for each moment: the truth and every candidate."""
    chosen = np.unique(np.linspace(0, len(held.frames) - 1, 4).astype(int))
    rows = []
    for i in chosen:
        truth = labelled(patch.roi(held.crop(i)), f"truth, frame {held.frames[i]}")
        rows.append(np.concatenate([truth, *(labelled(rois[i], name) for name, rois in drawn.items())], axis=1))
    return np.concatenate(rows)
